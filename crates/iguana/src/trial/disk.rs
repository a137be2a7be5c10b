//! The disks of `iguana try`.

use crate::open_path;
use crate::output;
use anyhow::{Context, Result, ensure};
use hint::{WithHint, hinted};
use iguana_vm::{Disk, DiskFormat};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Prefixes that state a disk's format. Without one the format is raw.
const FORMATS: &[(&str, DiskFormat)] =
    &[(",format=raw", DiskFormat::Raw), (",format=qcow2", DiskFormat::Qcow2)];

/// The header of QEMU's qcow2 format (docs/interop/qcow2.txt in its sources): the magic, the number of bytes that are
/// read, the offsets of the backing file's name and of the incompatible features, and the feature bit of an external
/// data file.
const QCOW2_MAGIC: &[u8] = b"QFI\xfb";
const QCOW2_HEADER: u64 = 80;
const BACKING_FILE: std::ops::Range<usize> = 8..16;
const FEATURES: std::ops::Range<usize> = 72..80;
const EXTERNAL_DATA: u8 = 1 << 2;

/// Permission bits (inode(7), `S_IWOTH` and `S_IWGRP`).
const WRITABLE_BY_ALL: u32 = 0o002;
const WRITABLE_BY_GROUP: u32 = 0o020;

/// A disk of the virtual machine.
#[derive(Debug)]
pub(super) enum TrialDisk {
    /// Initially empty. The file has no name, so it disappears when this process ends, for whatever reason.
    Temporary(File),
    /// A file or device that the user named. It is kept open: another one may take its place.
    Own(File, DiskFormat),
}

impl TrialDisk {
    pub(super) fn open(text: &str) -> Result<Self> {
        match parse_size(text) {
            Some(bytes) => Self::empty(bytes).with_context(|| format!("cannot create a disk of `{text}`")),
            None => Self::file(text),
        }
    }

    fn empty(bytes: u64) -> Result<Self> {
        let file = tempfile::tempfile()?;
        file.set_len(bytes)?;
        Ok(Self::Temporary(file))
    }

    /// The format is never detected from the content: a guest could write a qcow2 header to its raw disk, and so name
    /// a file of the host that the next guest would read.
    fn file(text: &str) -> Result<Self> {
        let stated = FORMATS.iter().find_map(|(end, format)| Some((text.strip_suffix(end)?, *format)));
        let path = Path::new(stated.map_or(text, |(path, _)| path));
        let file = untrusted_fs::open_to_change(path)
            .with_context(|| format!("cannot open the disk `{}`", path.display()))
            .hint("`--disk` takes a size such as `8G`, a file, or `FILE,format=qcow2`")?;
        let mut header = Vec::new();
        (&file).take(QCOW2_HEADER).read_to_end(&mut header)?;
        let is_qcow2 = header.starts_with(QCOW2_MAGIC);
        match stated {
            Some((_, DiskFormat::Qcow2)) => {
                refuse_foreign(path, &file.metadata()?)?;
                refuse_other_files(path, &header)?;
            }
            None if is_qcow2 => output::note(format_args!(
                "warning: using `{0}` as a raw disk although it looks like qcow2: if it is, write \
                 `{0},format=qcow2`",
                path.display()
            )),
            _ => {}
        }
        Ok(Self::Own(file, stated.map_or(DiskFormat::Raw, |(_, format)| format)))
    }

    pub(super) fn disk(&self) -> Disk {
        match self {
            Self::Temporary(file) => Disk::raw(open_path::of(file)).throw_away(),
            Self::Own(file, format) => Disk { format: *format, ..Disk::raw(open_path::of(file)) },
        }
    }
}

/// Fails for a file that another user may change: after the check of its header it could name other files.
fn refuse_foreign(path: &Path, found: &Metadata) -> Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let is_writable = |group_of_file| {
        found.mode() & WRITABLE_BY_ALL != 0 || found.mode() & WRITABLE_BY_GROUP != 0 && group_of_file != group
    };
    if (found.uid() == user || found.uid() == 0) && !is_writable(found.gid()) {
        return Ok(());
    }
    let shown = path.display();
    Err(hinted(
        format!("other users can change the disk `{shown}`, and so let it refer to files of this machine"),
        "if you trust them, copy it to a file that only you can write to",
    ))
}

/// Fails for a disk whose content is partly or entirely in another file of the host.
fn refuse_other_files(path: &Path, header: &[u8]) -> Result<()> {
    let shown = path.display();
    ensure!(header.starts_with(QCOW2_MAGIC), "`{shown}` is not a qcow2 image");
    let has_backing = header.get(BACKING_FILE).is_none_or(|place| place.iter().any(|byte| *byte != 0));
    let features = header.get(FEATURES).and_then(<[u8]>::last).copied().unwrap_or_default();
    // Version 2 has no features; other data is at that offset.
    let has_data_file = header.get(4..8) != Some(&[0, 0, 0, 2]) && features & EXTERNAL_DATA != 0;
    if has_backing || has_data_file {
        return Err(hinted(
            format!("the disk `{shown}` refers to another file of this machine (a backing or data file)"),
            format!("if you trust its origin, convert it: `qemu-img convert -O qcow2 {shown} NEW`"),
        ));
    }
    Ok(())
}

/// Parses `8G` into bytes: a number and one of K, M, G, T for powers of 1024.
fn parse_size(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let power = "KMGT".find(unit.to_ascii_uppercase())? as u32 + 1;
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    number.checked_mul(1024_u64.checked_pow(power)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        assert_eq!(parse_size("8G"), Some(8 << 30));
        assert_eq!(parse_size("512m"), Some(512 << 20));
        assert_eq!(parse_size("disk"), None);
        assert_eq!(parse_size("8"), None);
        assert_eq!(parse_size("G"), None);
        assert_eq!(parse_size(""), None);
        assert_eq!(parse_size("99999999999T"), None);
    }

    #[test]
    fn a_bare_size_is_a_disk_without_a_name() {
        let disk = TrialDisk::open("3M").unwrap();
        let path = disk.disk().path;
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 3 << 20);
        assert!(disk.disk().throw_away);
        drop(disk);
        assert!(!path.exists());
    }

    fn qcow2(version: u8, backing: u8, features: u8) -> Vec<u8> {
        let mut header = vec![0; 512];
        header[..4].copy_from_slice(QCOW2_MAGIC);
        (header[7], header[15], header[79]) = (version, backing, features);
        header
    }

    #[test]
    fn a_disk_is_raw_unless_stated_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let text = path.to_str().unwrap();
        std::fs::write(&path, qcow2(3, 1, 0)).unwrap();
        let format = |stated: &str| TrialDisk::open(stated).unwrap().disk().format;
        for stated in [text.to_owned(), format!("{text},format=raw")] {
            assert_eq!(format(&stated), DiskFormat::Raw);
        }
        std::fs::write(&path, qcow2(3, 0, 0)).unwrap();
        assert_eq!(format(&format!("{text},format=qcow2")), DiskFormat::Qcow2);
        std::fs::remove_file(&path).unwrap();
        let error = TrialDisk::open(text).unwrap_err().to_string();
        assert!(error.starts_with("cannot open the disk `"), "{error}");
    }

    #[test]
    fn a_disk_is_the_file_that_was_opened_and_not_behind_a_link_of_another_user() {
        let directory = tempfile::tempdir().unwrap();
        let [path, other] = ["disk", "other"].map(|name| directory.path().join(name));
        std::fs::write(&path, qcow2(3, 0, 0)).unwrap();
        std::fs::write(&other, "a file of root").unwrap();
        let text = format!("{},format=qcow2", path.display());
        let opened = TrialDisk::open(&text).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(std::fs::read(opened.disk().path).unwrap(), qcow2(3, 0, 0));
        let refused = |text: &str| format!("{:#}", TrialDisk::open(text).unwrap_err());
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::symlink(&path, &other).unwrap();
            std::os::unix::fs::lchown(&other, Some(65534), None).unwrap();
            assert!(refused(other.to_str().unwrap()).contains("belongs to another user"));
            std::fs::write(&path, qcow2(3, 0, 0)).unwrap();
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            assert!(refused(&text).contains("other users can change the disk"));
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        }
        std::fs::write(&path, qcow2(3, 0, 0)).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert!(refused(&text).contains("other users can change the disk"));
        assert!(TrialDisk::open(path.to_str().unwrap()).is_ok(), "its content is all that a raw disk has");
    }

    #[test]
    fn a_qcow2_that_names_other_files_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let told = |header: &[u8]| {
            std::fs::write(&path, header).unwrap();
            TrialDisk::open(&format!("{},format=qcow2", path.display()))
                .map(drop)
                .map_err(|it| it.to_string())
        };
        for header in [qcow2(2, 1, 0), qcow2(3, 1, 0), qcow2(3, 0, EXTERNAL_DATA)] {
            assert!(told(&header).unwrap_err().contains("another file of this machine"));
        }
        assert!(told(b"QFI\xfb\0\0").is_err() && told(b"raw").unwrap_err().contains("is not a qcow2"));
        assert!(told(&qcow2(2, 0, EXTERNAL_DATA)).is_ok() && told(&qcow2(3, 0, 1)).is_ok());
    }
}
