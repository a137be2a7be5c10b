//! Files by name, in a directory or a tar, read in place.

use super::members;
use super::members::Member;
use anyhow::{Context as _, ensure};
use fetch::http::DOCUMENT_LIMIT;
use hint::{WithHint as _, hinted};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use untrusted_fs::{Directory, Links};

/// The longest chain of links that is followed: `docker save` makes one link.
const LINKS_LIMIT: usize = 8;
/// The first bytes of compressed files.
const COMPRESSIONS: &[(&str, &[u8])] = &[
    ("gzip", &[0x1f, 0x8b]),
    ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
    ("xz", &[0xfd, b'7', b'z', b'X', b'Z', 0]),
    ("bzip2", b"BZh"),
];

/// The container of the files.
#[derive(Debug)]
pub(crate) enum Files {
    /// A directory, which the untrusted maker of the image may own.
    Directory(Directory),
    /// A tar.
    Packed(Packed),
}

impl Files {
    /// Opens the files of a directory.
    pub(crate) fn directory(path: &Path) -> anyhow::Result<Self> {
        let opened = Directory::open(path).with_context(|| format!("cannot read `{}`", path.display()));
        let opened = opened.hint("`oci:DIR` takes a directory, `oci-archive:FILE` a tar")?;
        // What is below it may be mounted in another namespace only, so the directory is opened again in this one.
        let here =
            Directory::open("/")?.directory(below_root(&resolved(opened.as_fd(), path)?), Links::Refuse);
        let here = here.with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(Self::Directory(Directory::from_descriptor(here.as_fd().try_clone_to_owned()?, path)))
    }

    /// The path of the directory or the tar.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Directory(directory) => directory.path(),
            Self::Packed(packed) => packed.path(),
        }
    }

    /// The path of the open directory or tar, with links resolved.
    pub(super) fn resolved(&self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Directory(directory) => resolved(directory.as_fd(), directory.path()),
            Self::Packed(packed) => packed.resolved(),
        }
    }

    /// Opens a file; `None` if there is none of that name.
    pub(super) fn open(&self, name: &str) -> anyhow::Result<Option<Part>> {
        match self {
            Self::Directory(directory) => {
                let file = match directory.file(name, Links::Inside) {
                    Err(error) if error.is_not_found() => return absent(directory, name),
                    opened => opened.hint(
                        "copy the image again: a layout contains only directories and \
                                           regular files",
                    )?,
                };
                let end = file.metadata()?.len();
                Ok(Some(Part { file, position: 0, end }))
            }
            Self::Packed(packed) => packed.file(name),
        }
    }
}

/// The path of an open file (proc_pid_fd(5)); `shown` is for the message.
///
/// # Errors
/// When the path leads to something else: `/proc/PID/root` leads into another mount namespace, where any directory may
/// have the path of one that the policy trusts.
fn resolved(open: BorrowedFd<'_>, shown: &Path) -> anyhow::Result<PathBuf> {
    let resolve = || {
        let path = fs::read_link(format!("/proc/self/fd/{}", open.as_raw_fd()))?;
        let here = Directory::open("/")?.stat(below_root(&path), Links::Refuse)?;
        let opened = File::from(open.try_clone_to_owned()?).metadata()?;
        let is_same = here.is_some_and(|here| (here.st_dev, here.st_ino) == (opened.dev(), opened.ino()));
        ensure!(is_same, "it is not at `{}` in this mount namespace", path.display());
        anyhow::Ok(path)
    };
    resolve().with_context(|| format!("cannot resolve `{}`", shown.display()))
}

fn below_root(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// `None`, or an error if the name is a link that leads nowhere inside the directory.
fn absent(directory: &Directory, name: &str) -> anyhow::Result<Option<Part>> {
    match directory.stat(name, Links::Inside) {
        Ok(None) => Ok(None),
        _ => Err(hinted(
            format!(
                "`{name}` in `{}` is a symbolic link that leaves the directory",
                directory.path().display()
            ),
            "copy the directory with its links resolved: `cp -rL FROM TO`",
        )),
    }
}

/// A file, or a part of one.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    position: u64,
    end: u64,
}

impl Part {
    /// Where in its file it begins: two names of one part have the same place.
    pub(super) fn start(&self) -> u64 {
        self.position
    }

    /// Bytes that are left.
    pub(super) fn len(&self) -> u64 {
        self.end - self.position
    }

    /// The part without its first bytes.
    pub(super) fn skip(self, bytes: u64) -> Self {
        Self { position: self.end.min(self.position.saturating_add(bytes)), ..self }
    }

    /// All bytes of a small file.
    pub(super) fn document(mut self) -> anyhow::Result<Vec<u8>> {
        let bytes = self.len();
        ensure!(bytes <= DOCUMENT_LIMIT, "{bytes} bytes exceed the limit of {DOCUMENT_LIMIT} for a document");
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
pub(crate) struct Packed {
    path: PathBuf,
    file: File,
    members: HashMap<String, Member>,
}

impl Packed {
    /// Opens a tar and reads its table of files.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file =
            untrusted_fs::open_file(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Self::of(file, path)
    }

    /// Reads the table of files of an open tar; `path` is its name in messages.
    pub(crate) fn of(file: File, path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot read `{}`", path.display());
        refuse_compressed(path, &file)?;
        let members =
            members::find(&file).with_context(cannot).hint("it must be a complete, uncompressed tar")?;
        Ok(Self { path: path.into(), file, members })
    }

    /// The path of the open tar, with links resolved.
    pub(super) fn resolved(&self) -> anyhow::Result<PathBuf> {
        resolved(self.file.as_fd(), &self.path)
    }

    /// The path of the tar.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file; `None` if there is none of that name.
    pub(super) fn file(&self, name: &str) -> anyhow::Result<Option<Part>> {
        let mut name = name.to_owned();
        for _ in 0..LINKS_LIMIT {
            match self.members.get(&name) {
                None => return Ok(None),
                Some(Member::Link(target)) => name.clone_from(target),
                Some(Member::File { start, bytes }) => {
                    let file = self.file.try_clone().context("cannot reopen it")?;
                    return Ok(Some(Part { file, position: *start, end: start + bytes }));
                }
            }
        }
        Ok(None)
    }
}

fn refuse_compressed(path: &Path, file: &File) -> anyhow::Result<()> {
    let mut beginning = [0; 8];
    // A file that is too short has none of the formats.
    let count = file.read_at(&mut beginning, 0).unwrap_or_default();
    let found = COMPRESSIONS.iter().find(|(_, mark)| beginning[..count].starts_with(mark));
    found.map_or(Ok(()), |(compression, _)| {
        Err(hinted(
            format!("`{}` is compressed by {compression}", path.display()),
            "decompress it: its layers are already compressed",
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;
    use tar::EntryType;

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
    fn a_path_in_another_mount_namespace_is_refused() {
        use std::process::{Command, Stdio};
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            eprintln!("passed over: only root can mount");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let [ours, others] = ["ours", "others"].map(|name| home.path().join(name));
        for directory in [&ours, &others] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("tar"), packed("x", b"")).unwrap();
        }
        let script = "mount --bind \"$0\" \"$1\" && echo && exec sleep 60";
        let mut namespace = Command::new("unshare");
        namespace.args(["-m", "sh", "-c", script]).args([&others, &ours]).stdout(Stdio::piped());
        let mut namespace = namespace.spawn().unwrap();
        namespace.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let path = PathBuf::from(format!("/proc/{}/root{}", namespace.id(), ours.display()));
        let directory = Files::directory(&path).and_then(|files| files.resolved());
        let tar = Packed::open(&path.join("tar")).and_then(|tar| tar.resolved());
        namespace.kill().unwrap();
        namespace.wait().unwrap();
        for refused in [directory, tar] {
            let error = format!("{:#}", refused.unwrap_err());
            assert!(error.contains("in this mount namespace"), "{error}");
        }
        assert_eq!(Files::directory(&ours).unwrap().resolved().unwrap(), ours.canonicalize().unwrap());
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
    fn incomplete_and_compressed_archives_are_refused() {
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

    #[test]
    fn a_link_or_fifo_instead_of_a_blob_is_neither_followed_nor_waited_for() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        std::fs::write(directory.path().join("file"), "file").unwrap();
        symlink(outside.path().join("secret"), directory.path().join("out")).unwrap();
        symlink("/file", directory.path().join("inside")).unwrap();
        let fifo = directory.path().join("fifo");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
        let files = Files::Directory(Directory::open(directory.path()).unwrap());
        assert_eq!(files.open("inside").unwrap().unwrap().document().unwrap(), b"file");
        assert!(files.open("none").unwrap().is_none());
        for (name, expected) in
            [("out", "is a symbolic link that leaves the directory"), ("fifo", "it is a FIFO")]
        {
            let error = files.open(name).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
            assert!(hint::of(&error).is_some());
        }
        let error = Packed::open(&fifo).unwrap_err();
        assert!(format!("{error:#}").contains("it is a FIFO"), "{error:#}");
    }
}
