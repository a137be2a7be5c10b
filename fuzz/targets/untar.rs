//! Any bytes as a layer: nothing outside the directory changes, and where GNU tar reads the same archive it tells of the
//! same files.
#![no_main]
#![allow(clippy::expect_used, reason = "a panic is how a target reports what it found")]

use oci_layer::{Work, unpack};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use untrusted_fs::Directory;

/// In memory, and known to the seeds, whose links lead here.
const ROOM: &str = "/dev/shm/iguana-untar";
/// GNU tar takes a thousand times as long as we do: it is asked about one input of so many.
const ASKED_ONE_OF: u32 = 64;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let room = Path::new(ROOM);
    let root = room.join("above/root");
    if !room.join("victim").exists() {
        fs::create_dir_all(room.join("above")).expect("a directory in memory");
        fs::write(room.join("victim"), "safe").expect("a file in memory");
        fs::write(room.join("above/victim"), "safe").expect("a file in memory");
    }
    fs::create_dir(&root).expect("an empty directory");
    let before = surroundings(room);
    let unpacked = unpack(bytes, Directory::open(&root).expect("the directory"), &Work::of_image());
    assert_eq!(before, surroundings(room), "something outside changed");
    if unpacked.is_ok()
        && bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)))
            % ASKED_ONE_OF
            == 0
    {
        compare(bytes, &root);
    }
    fs::remove_dir_all(&root).expect("what was unpacked can be removed");
});

/// All that could be changed of what is not in the root.
fn surroundings(room: &Path) -> Vec<String> {
    let files = ["", "victim", "above", "above/victim"];
    let stat = |name: &&str| {
        let found = fs::symlink_metadata(room.join(name)).expect("it is there");
        let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
        // The directory that the root is in has it as a part, and no more.
        format!("{name} {} {} {} {} {times:?}", found.mode(), found.uid(), found.nlink(), found.size())
    };
    files.iter().map(stat).collect()
}

/// What GNU tar says of an entry.
#[derive(Debug)]
struct Told {
    /// The first letter, as of `ls -l`.
    kind: char,
    mode: u32,
    owner: String,
    size: u64,
    seconds: String,
}

fn compare(bytes: &[u8], root: &Path) {
    let Some(names) = tar(bytes, &["--list"]) else { return };
    let options = ["--list", "--verbose", "--numeric-owner", "--full-time", "--utc"];
    let Some(lines) = tar(bytes, &options) else { return };
    let Some(told) = lines.iter().map(|line| parse(line)).collect::<Option<Vec<_>>>() else { return };
    let Some(names) = names.iter().map(|name| unescaped(name)).collect::<Option<Vec<_>>>() else { return };
    assert_eq!(names.len(), told.len());
    // GNU tar skips content that directories and links should not have; Go's archive/tar and we say that there is none.
    if told.iter().any(|told| told.size > 0 && !matches!(told.kind, '-' | 'C')) {
        return;
    }
    let mut last: BTreeMap<PathBuf, Vec<&Told>> = BTreeMap::new();
    for (name, told) in names.iter().zip(&told) {
        last.entry(normal(name)).or_default().push(told);
    }
    for (path, told) in &last {
        if path.as_os_str().is_empty() || told.len() > 1 || is_hidden(path, &last) {
            continue;
        }
        let found = fs::symlink_metadata(root.join(path));
        check(path, told[0], found.ok().as_ref());
    }
}

/// Whether it is another's whiteout, or in the place of something else.
fn is_hidden(path: &Path, all: &BTreeMap<PathBuf, Vec<&Told>>) -> bool {
    let is_directory = |told: &Vec<&Told>| told.iter().all(|told| told.kind == 'd');
    let is_marked = |path: &Path| path.iter().any(|name| name.as_bytes().starts_with(b".wh."));
    let above = path.ancestors().skip(1).any(|above| all.get(above).is_some_and(|told| !is_directory(told)));
    let below = all.keys().any(|other| other != path && other.starts_with(path)) && !is_directory(&all[path]);
    above || below || is_marked(path)
}

fn check(path: &Path, told: &Told, found: Option<&Metadata>) {
    if told.kind == 'h' {
        return; // Its target may be in a lower layer.
    }
    let found = found.unwrap_or_else(|| panic!("`{}` is not there: {told:?}", path.display()));
    let kind = match found.file_type() {
        kind if kind.is_dir() => 'd',
        kind if kind.is_symlink() => 'l',
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        kind if kind.is_fifo() => 'p',
        _ => '-',
    };
    assert_eq!(kind, if told.kind == 'C' { '-' } else { told.kind }, "{}", path.display());
    if kind != 'l' {
        assert_eq!(found.mode() & 0o7777, told.mode, "{}", path.display());
    }
    if kind == '-' {
        assert_eq!(found.size(), told.size, "{}", path.display());
    }
    assert_eq!(format!("{}/{}", found.uid(), found.gid()), told.owner, "{}", path.display());
    let said = format!("{} {}", found.mtime(), path.display());
    assert_eq!(said, format!("{} {}", told.seconds, path.display()));
}

/// The lines that GNU tar writes; nothing when it finds anything wrong.
fn tar(bytes: &[u8], options: &[&str]) -> Option<Vec<String>> {
    let mut tar = Command::new("tar");
    tar.args(options).args(["--quoting-style=escape", "--file=-"]).env("LC_ALL", "C").env("TZ", "UTC0");
    let mut child =
        tar.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("GNU tar");
    // It may have seen enough before the end.
    let _ = child.stdin.take().expect("a pipe").write_all(bytes);
    let output = child.wait_with_output().expect("GNU tar");
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && output.stderr.is_empty()).then(|| text.lines().map(str::to_owned).collect())
}

/// `-rw-r--r-- 0/0  1 2017-07-14 02:40:00 name`
fn parse(line: &str) -> Option<Told> {
    let mut words = line.split_whitespace();
    let (mode, owner, size, day, time) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    let kind = mode.chars().next().filter(|kind| "-dlhcbpC".contains(*kind))?;
    let size = if matches!(kind, 'c' | 'b') { 0 } else { size.parse().ok()? };
    Some(Told { kind, mode: bits(mode.as_bytes()), owner: owner.into(), size, seconds: seconds(day, time)? })
}

fn bits(text: &[u8]) -> u32 {
    let mut bits = 0;
    for letter in &text[1..10] {
        bits = bits << 1 | u32::from(!matches!(letter, b'-' | b'S' | b'T'));
    }
    for (place, bit) in [(3, 0o4000), (6, 0o2000), (9, 0o1000)] {
        bits |= if matches!(text[place], b's' | b'S' | b't' | b'T') { bit } else { 0 };
    }
    bits
}

/// Seconds since 1970 of `YYYY-MM-DD` and `HH:MM:SS`, with or without a fraction.
fn seconds(day: &str, time: &str) -> Option<String> {
    let numbers =
        |text: &str, sign| text.split(sign).map(|part| part.parse::<i64>().ok()).collect::<Option<Vec<_>>>();
    let [year, month, day] = numbers(day, '-')?[..] else { return None };
    let [hour, minute, second] = numbers(time.split('.').next()?, ':')?[..] else { return None };
    // The proleptic Gregorian calendar, with years that begin in March.
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((days * 86400 + hour * 3600 + minute * 60 + second).to_string())
}

fn normal(name: &[u8]) -> PathBuf {
    let path = Path::new(OsStr::from_bytes(name));
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut out) = (text.bytes(), Vec::new());
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next()? {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            digit @ b'0'..=b'3' => {
                let mut octal = || bytes.next().map(|digit| digit - b'0');
                (digit - b'0') << 6 | octal()? << 3 | octal()?
            }
            other => other,
        });
    }
    Some(out)
}
