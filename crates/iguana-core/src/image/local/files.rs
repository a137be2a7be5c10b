//! Files by name, in a folder or packed as a tar, read where they lie.

use crate::hint::{WithHint as _, hinted};
use crate::http::DOCUMENT_LIMIT;
use anyhow::{Context as _, ensure};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use tar::EntryType;

/// More files than any image has: 127 layers, and for `docker save` three files of each.
const FILES_LIMIT: usize = 10_000;
/// Links in a row that are followed: `docker save` makes one.
const LINKS_LIMIT: usize = 8;
/// What compressed files begin with.
const COMPRESSIONS: &[(&str, &[u8])] = &[
    ("gzip", &[0x1f, 0x8b]),
    ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
    ("xz", &[0xfd, b'7', b'z', b'X', b'Z', 0]),
    ("bzip2", b"BZh"),
];

/// Where files are.
#[derive(Debug)]
pub(in crate::image) enum Files {
    /// Below a folder.
    Folder(PathBuf),
    /// In a tar.
    Packed(Packed),
}

impl Files {
    /// The folder, or the tar.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Folder(path) => path,
            Self::Packed(packed) => packed.path(),
        }
    }

    /// One of them; nothing if there is none of the name.
    pub(super) fn open(&self, name: &str) -> anyhow::Result<Option<Part>> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                let cannot = || format!("cannot read `{}`", path.display());
                let file = match File::open(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    opened => opened.with_context(cannot)?,
                };
                let metadata = file.metadata().with_context(cannot)?;
                ensure!(metadata.is_file(), "`{}` is not a file", path.display());
                Ok(Some(Part { file, position: 0, end: metadata.len() }))
            }
            Self::Packed(packed) => packed.file(name),
        }
    }
}

/// A file, or a piece of one.
#[derive(Debug)]
pub(in crate::image) struct Part {
    file: File,
    position: u64,
    end: u64,
}

impl Part {
    /// Bytes that are left.
    pub(super) fn len(&self) -> u64 {
        self.end - self.position
    }

    /// Without its first bytes.
    pub(super) fn skip(self, bytes: u64) -> Self {
        Self { position: self.end.min(self.position.saturating_add(bytes)), ..self }
    }

    /// All of it, if it is small.
    pub(super) fn document(mut self) -> anyhow::Result<Vec<u8>> {
        let bytes = self.len();
        ensure!(bytes <= DOCUMENT_LIMIT, "{bytes} bytes are more than the {DOCUMENT_LIMIT} of a document");
        let mut document = Vec::new();
        self.read_to_end(&mut document)?;
        Ok(document)
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.len()).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..wanted], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// A tar whose files are read without unpacking it.
#[derive(Debug)]
pub(in crate::image) struct Packed {
    path: PathBuf,
    file: File,
    members: HashMap<String, Member>,
}

#[derive(Debug)]
enum Member {
    File { start: u64, bytes: u64 },
    Link(String),
}

impl Packed {
    /// Looks for the files of a tar.
    pub(in crate::image) fn open(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot read `{}`", path.display());
        let file = File::open(path).with_context(cannot)?;
        refuse_compressed(path, &file)?;
        let members = members(&file)
            .with_context(cannot)
            .hint("it must be a whole tar, not compressed, on a disk that was written to its end")?;
        Ok(Self { path: path.into(), file, members })
    }

    /// The tar itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// One of the files; nothing if there is none of the name.
    pub(super) fn file(&self, name: &str) -> anyhow::Result<Option<Part>> {
        let mut name = name.to_owned();
        for _ in 0..LINKS_LIMIT {
            match self.members.get(&name) {
                None => return Ok(None),
                Some(Member::Link(target)) => name.clone_from(target),
                Some(Member::File { start, bytes }) => {
                    let file = self.file.try_clone().context("cannot open it a second time")?;
                    return Ok(Some(Part { file, position: *start, end: start + bytes }));
                }
            }
        }
        Ok(None)
    }
}

fn refuse_compressed(path: &Path, file: &File) -> anyhow::Result<()> {
    let mut beginning = [0; 8];
    // A file that is too short is none of them.
    let count = file.read_at(&mut beginning, 0).unwrap_or_default();
    let found = COMPRESSIONS.iter().find(|(_, mark)| beginning[..count].starts_with(mark));
    found.map_or(Ok(()), |(compression, _)| {
        Err(hinted(
            format!("`{}` is compressed by {compression}", path.display()),
            "decompress it: what is in it is compressed already",
        ))
    })
}

fn members(file: &File) -> anyhow::Result<HashMap<String, Member>> {
    let length = file.metadata()?.len();
    let mut members = HashMap::new();
    for entry in tar::Archive::new(file).entries_with_seek()? {
        let entry = entry?;
        let name = text(&entry.path_bytes());
        let member = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let (start, bytes) = (entry.raw_file_position(), entry.size());
                ensure!(start.saturating_add(bytes) <= length, "it ends in the middle of `{name}`");
                Member::File { start, bytes }
            }
            EntryType::Link => Member::Link(text(&entry.link_name_bytes().unwrap_or_default())),
            EntryType::Symlink => {
                Member::Link(beside(&name, &text(&entry.link_name_bytes().unwrap_or_default())))
            }
            _ => continue,
        };
        ensure!(members.len() < FILES_LIMIT, "it has more than {FILES_LIMIT} files");
        members.insert(name, member);
    }
    Ok(members)
}

fn text(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    name.strip_prefix("./").unwrap_or(&name).to_owned()
}

/// What the link `name` leads to.
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
    use crate::hint;
    use std::io::Write as _;

    fn tar_file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn packed(name: &str, content: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "a/b/link", format!("../../{name}")).unwrap();
        let mut circle = tar::Header::new_gnu();
        circle.set_entry_type(EntryType::Symlink);
        circle.set_size(0);
        tar.append_link(&mut circle, "circle", "circle").unwrap();
        tar.into_inner().unwrap()
    }

    #[test]
    fn a_tar_is_read_where_it_lies() {
        let file = tar_file(&packed("blobs/x", b"content"));
        let tar = Packed::open(file.path()).unwrap();
        for name in ["blobs/x", "a/b/link"] {
            let part = tar.file(name).unwrap().unwrap().skip(3);
            assert_eq!(part.document().unwrap(), b"tent", "{name}");
        }
        assert!(tar.file("circle").unwrap().is_none());
        assert!(tar.file("blobs").unwrap().is_none());
    }

    #[test]
    fn what_is_no_whole_tar_is_refused() {
        let whole = packed("x", &[7; 5000]);
        for (content, expected) in [
            (&whole[..4000], "it ends in the middle of `x`"),
            (&[0x1f, 0x8b, 8, 0, 0], "is compressed by gzip"),
            (&[b'x'; 600], "cannot read"),
        ] {
            let error = Packed::open(tar_file(content).path()).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
            assert!(hint::of(&error).is_some());
        }
    }
}
