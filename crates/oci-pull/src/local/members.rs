//! Finds the files in a tar (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format").
//! Every number in the tar is untrusted: a name is read only after its length was checked, and only as many headers are
//! read as an image needs.

use anyhow::{Context as _, bail, ensure};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use tar::{EntryType, Header, PaxExtensions};

/// Bytes of a block, the unit of a tar.
const BLOCK: u64 = 512;
/// More files than any image has: 127 layers, and `docker save` writes three files for each.
const FILES_LIMIT: usize = 10_000;
/// Headers of directories, of long names and of times count, too: three for each file.
const HEADERS_LIMIT: usize = 4 * FILES_LIMIT;
/// Bytes of an extension header; those of GNU tar and Go have some hundred.
const EXTENSION_LIMIT: u64 = 64 << 10;
/// Bytes of a name; the longest name in an image, `blobs/sha256/…`, has 77.
const NAME_LIMIT: usize = 1024;

#[derive(Debug)]
pub(super) enum Member {
    File { start: u64, bytes: u64 },
    Link(String),
}

/// Properties of a file from the extension headers before its own.
#[derive(Default)]
struct Before {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    bytes: Option<u64>,
}

/// The files of a tar, and the links to them, by name.
pub(super) fn find(file: &File) -> anyhow::Result<HashMap<String, Member>> {
    let length = file.metadata()?.len();
    let (mut members, mut before) = (HashMap::new(), Before::default());
    let (mut position, mut headers) = (0, 0);
    while let Some(header) = header(file, position, length)? {
        headers += 1;
        ensure!(headers <= HEADERS_LIMIT, "it has more than {HEADERS_LIMIT} headers");
        let kind = header.entry_type();
        let extends = before.extends(kind);
        let bytes = before.bytes.filter(|_| !extends).map_or_else(|| header.entry_size(), Ok)?;
        let start = position + BLOCK;
        let name = before.name.clone().unwrap_or_else(|| header.path_bytes().into_owned());
        let end = start.checked_add(bytes).filter(|end| *end <= length);
        let end = end.with_context(|| format!("it ends in the middle of `{}`", shown(&name)))?;
        position = end.checked_next_multiple_of(BLOCK).context("it is too long")?;
        if extends {
            before.take(kind, &content(file, start, bytes)?)?;
            continue;
        }
        let before = std::mem::take(&mut before);
        let Some(member) = member(&header, &name, before.link, start, bytes)? else { continue };
        ensure!(members.len() < FILES_LIMIT, "it has more than {FILES_LIMIT} files");
        members.insert(text(&name)?, member);
    }
    Ok(members)
}

/// The header at a position; `None` at the end.
fn header(file: &File, position: u64, length: u64) -> anyhow::Result<Option<Header>> {
    if position >= length {
        return Ok(None);
    }
    let mut header = Header::new_old();
    match file.read_exact_at(header.as_mut_bytes(), position) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            bail!("it ends in the middle of a header")
        }
        read => read?,
    }
    let bytes = header.as_bytes();
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    // The checksum itself, at offset 148, counts as blanks.
    let is_checksum = |place: &usize| (148..156).contains(place);
    let sum = |(place, byte): (usize, &u8)| u32::from(if is_checksum(&place) { b' ' } else { *byte });
    let sum: u32 = bytes.iter().enumerate().map(sum).sum();
    ensure!(header.cksum().ok() == Some(sum), "there is no tar header at byte {position}");
    Ok(Some(header))
}

fn content(file: &File, start: u64, bytes: u64) -> anyhow::Result<Vec<u8>> {
    ensure!(
        bytes <= EXTENSION_LIMIT,
        "an extension header of {bytes} bytes exceeds the limit of {EXTENSION_LIMIT}"
    );
    let mut content = vec![0; usize::try_from(bytes)?];
    file.read_exact_at(&mut content, start)?;
    Ok(content)
}

impl Before {
    /// Whether a header extends the next one, or all others.
    fn extends(&self, kind: EntryType) -> bool {
        kind.is_gnu_longname() || kind.is_gnu_longlink() || is_pax(kind)
    }

    fn take(&mut self, kind: EntryType, content: &[u8]) -> anyhow::Result<()> {
        let until_zero = || content.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
        if kind.is_gnu_longname() {
            self.name = until_zero();
        } else if kind.is_gnu_longlink() {
            self.link = until_zero();
        } else if kind.is_pax_local_extensions() {
            for record in PaxExtensions::new(content) {
                let record = record.context("a damaged extended header")?;
                match record.key_bytes() {
                    b"path" => self.name = Some(record.value_bytes().to_vec()),
                    b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                    b"size" => self.bytes = Some(record.value()?.parse()?),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn is_pax(kind: EntryType) -> bool {
    kind.is_pax_local_extensions() || kind.is_pax_global_extensions()
}

fn member(
    header: &Header,
    name: &[u8],
    link: Option<Vec<u8>>,
    start: u64,
    bytes: u64,
) -> anyhow::Result<Option<Member>> {
    let link = || {
        let own = || header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        text(&link.unwrap_or_else(own))
    };
    Ok(match header.entry_type() {
        EntryType::Regular | EntryType::Continuous => Some(Member::File { start, bytes }),
        EntryType::Link => Some(Member::Link(link()?)),
        EntryType::Symlink => Some(Member::Link(beside(&text(name)?, &link()?))),
        _ => None,
    })
}

fn text(name: &[u8]) -> anyhow::Result<String> {
    ensure!(name.len() <= NAME_LIMIT, "the name `{}` exceeds the limit of {NAME_LIMIT} bytes", shown(name));
    let name = String::from_utf8_lossy(name);
    Ok(name.strip_prefix("./").unwrap_or(&name).to_owned())
}

fn shown(name: &[u8]) -> String {
    name[..name.len().min(NAME_LIMIT / 8)].escape_ascii().to_string()
}

/// The name that the link `name` leads to.
fn beside(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn tar_of(entries: &[(EntryType, &str, u64, &[u8])]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        for (kind, name, bytes, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_path(name).unwrap();
            header.set_size(*bytes);
            header.set_cksum();
            file.write_all(header.as_bytes()).unwrap();
            file.write_all(content).unwrap();
            file.write_all(&vec![0; content.len().next_multiple_of(512) - content.len()]).unwrap();
        }
        file
    }

    #[test]
    fn long_names_and_sizes_of_both_kinds_are_read() {
        let (long, own) = ("d/".repeat(100) + "name", b"23 path=./by/another/x\n10 size=3\n".as_slice());
        let file = tar_of(&[
            (EntryType::GNULongName, "././@LongLink", 205, format!("{long}\0").as_bytes()),
            (EntryType::Regular, "short", 2, b"ab"),
            (EntryType::XGlobalHeader, "pax", 0, b""),
            (EntryType::XHeader, "pax", own.len() as u64, own),
            (EntryType::Regular, "x", 0, b"abc"),
            (EntryType::Regular, "last", 1, b"z"),
        ]);
        let found = find(&file).unwrap();
        let sizes = |name: &str| match &found[name] {
            Member::File { bytes, .. } => *bytes,
            Member::Link(_) => panic!("a link"),
        };
        assert_eq!((sizes(&long), sizes("by/another/x"), sizes("last")), (2, 3, 1));
        assert_eq!(found.len(), 3);
    }

    /// The file is sparse: it claims 64 GB, and has a few kB.
    #[test]
    fn a_name_of_64_gb_is_refused_before_it_is_read() {
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
            let file = tar_of(&[(kind, "name", 64 << 30, b"")]);
            file.set_len(65 << 30).unwrap();
            let error = find(&file).unwrap_err().to_string();
            assert!(error.starts_with("an extension header of 68719476736 bytes"), "{error}");
        }
    }

    #[test]
    fn implausible_archives_are_refused() {
        let name = "n".repeat(NAME_LIMIT + 1);
        let long = tar_of(&[
            (EntryType::GNULongName, "n", name.len() as u64, name.as_bytes()),
            (EntryType::Regular, "x", 0, b""),
        ]);
        assert!(find(&long).unwrap_err().to_string().contains("exceeds the limit of 1024 bytes"));
        let directories: Vec<_> =
            (0..=HEADERS_LIMIT).map(|_| (EntryType::Directory, "d", 0, &b""[..])).collect();
        assert!(find(&tar_of(&directories)).unwrap_err().to_string().contains("more than 40000 headers"));
        let endless = tar_of(&[(EntryType::Regular, "x", u64::MAX - 600, b"")]);
        assert!(find(&endless).unwrap_err().to_string().contains("ends in the middle of `x`"));
        let file = tar_of(&[(EntryType::Regular, "x", 0, b"")]);
        file.write_all_at(b"y", 0).unwrap();
        assert!(find(&file).unwrap_err().to_string().contains("there is no tar header at byte"));
    }
}
