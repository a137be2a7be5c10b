//! Which block device a mount list means, and waiting until it is there.

use super::filesystem::{self, uuid_text};
use iguana_core::hint::hinted;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a device may take to appear: partitions come at once, disks behind USB within seconds.
const LIMIT: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const TELL_EVERY: Duration = Duration::from_secs(3);

/// The path of the device that `name` means: a path, or `UUID=`, `LABEL=`, `PARTUUID=`, `PARTLABEL=`.
pub(super) fn wait_for(name: &str, waiting: &mut dyn FnMut(&str)) -> anyhow::Result<PathBuf> {
    let start = Instant::now();
    let mut told = start;
    loop {
        if let Some(path) = find(name) {
            return Ok(path);
        }
        if start.elapsed() > LIMIT {
            return Err(hinted(
                format!("there is no device `{name}`"),
                format!("the disks and partitions of this machine are {}", all_names()),
            ));
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            waiting(&format!(
                "the device `{name}` ({} s of {} s)",
                start.elapsed().as_secs(),
                LIMIT.as_secs()
            ));
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let Some((tag, value)) = name.split_once('=') else {
        return is_block_device(Path::new(name)).then(|| name.into());
    };
    let value = value.trim_matches('"');
    let mut devices = names().map(|name| Path::new("/dev").join(name));
    let is_same = |found: &str| found.eq_ignore_ascii_case(value);
    match tag {
        "UUID" => {
            devices.find(|path| filesystem::probe(path).ok().flatten().is_some_and(|it| is_same(&it.uuid)))
        }
        "LABEL" => {
            devices.find(|path| filesystem::probe(path).ok().flatten().is_some_and(|it| it.label == value))
        }
        "PARTUUID" => partitions().into_iter().find(|it| is_same(&it.uuid)).map(|it| it.path),
        "PARTLABEL" => partitions().into_iter().find(|it| it.label == value).map(|it| it.path),
        _ => None,
    }
}

fn is_block_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

/// Block devices in memory, the one with the kernel's modules among them: nobody's disks.
const IN_MEMORY: &[&str] = &["loop", "ram", "zram"];

/// The kernel's names of all disks and partitions that have something on them.
fn names() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter(|name| !IN_MEMORY.iter().any(|kind| name.starts_with(kind)));
    names.filter(|name| attribute(name, "size").is_some_and(|size| size != "0"))
}

fn all_names() -> String {
    let mut names: Vec<String> = names().map(|name| format!("`/dev/{name}`")).collect();
    names.sort();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn attribute(device: &str, name: &str) -> Option<String> {
    let path = Path::new("/sys/class/block").join(device).join(name);
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// A partition of a GPT.
struct Partition {
    path: PathBuf,
    uuid: String,
    label: String,
}

/// All partitions of all disks with a GPT.
fn partitions() -> Vec<Partition> {
    let disks = names().filter(|name| attribute(name, "partition").is_none());
    disks.flat_map(|disk| of_disk(&disk).unwrap_or_default()).collect()
}

fn of_disk(disk: &str) -> Option<Vec<Partition>> {
    let block_size = attribute(disk, "queue/logical_block_size")?.parse().ok()?;
    let entries = gpt_entries(&mut File::open(Path::new("/dev").join(disk)).ok()?, block_size)?;
    let children = names().filter(|name| name.starts_with(disk));
    let partitions = children.filter_map(|name| {
        let number: usize = attribute(&name, "partition")?.parse().ok()?;
        let (uuid, label) = entries.get(number.checked_sub(1)?)?.clone();
        Some(Partition { path: Path::new("/dev").join(name), uuid, label })
    });
    Some(partitions.collect())
}

/// UUID and name of each entry (UEFI specification, section 5.3).
fn gpt_entries(disk: &mut File, block_size: u64) -> Option<Vec<(String, String)>> {
    /// Entries and bytes per entry that are looked at; every tool makes 128 of 128.
    const AT_MOST: usize = 1024;
    let mut header = [0; 92];
    disk.seek(SeekFrom::Start(block_size)).ok()?;
    disk.read_exact(&mut header).ok()?;
    if &header[..8] != b"EFI PART" {
        return None;
    }
    let number =
        |range: std::ops::Range<usize>| Some(u32::from_le_bytes(header[range].try_into().ok()?) as usize);
    let first_block = u64::from_le_bytes(header[72..80].try_into().ok()?);
    let (count, size) = (number(80..84)?.min(AT_MOST), number(84..88)?);
    if !(128..=AT_MOST).contains(&size) {
        return None;
    }
    let mut table = vec![0; count * size];
    disk.seek(SeekFrom::Start(first_block.checked_mul(block_size)?)).ok()?;
    disk.read_exact(&mut table).ok()?;
    Some(
        table
            .chunks_exact(size)
            .map(|entry| (guid_text(&entry[16..32]), name_text(&entry[56..128])))
            .collect(),
    )
}

/// A GUID's first three fields are little-endian (UEFI specification, appendix A).
fn guid_text(bytes: &[u8]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    uuid_text(&order.map(|index| bytes[index]))
}

fn name_text(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_gpt_names_its_partitions() {
        let path = std::env::temp_dir().join(format!("iguana-gpt-{}", std::process::id()));
        let mut disk = vec![0; 512 * 34];
        disk[512..520].copy_from_slice(b"EFI PART");
        disk[512 + 72] = 2;
        disk[512 + 80] = 128;
        disk[512 + 84] = 128;
        disk[1024 + 16..1024 + 32].copy_from_slice(&(0..16).collect::<Vec<u8>>());
        disk[1024 + 56..1024 + 60].copy_from_slice(&[b'o', 0, b's', 0]);
        File::create(&path).unwrap().write_all(&disk).unwrap();
        let entries = gpt_entries(&mut File::open(&path).unwrap(), 512).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(entries.len(), 128);
        assert_eq!(entries[0], ("03020100-0504-0706-0809-0a0b0c0d0e0f".into(), "os".into()));
    }
}
