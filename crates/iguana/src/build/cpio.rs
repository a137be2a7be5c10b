//! The archive that the kernel unpacks as its first root file system: cpio in the `newc` format
//! (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's sources).

use std::collections::BTreeMap;
use std::io::{self, Write};

/// File type bits of `st_mode` (inode(7)).
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Magic number of `newc` without checksums.
const MAGIC: &str = "070701";

/// Name of the entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// The kinds of entries in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A file with its permissions.
    File { mode: u32, content: Vec<u8> },
    /// A directory with its permissions.
    Directory { mode: u32 },
    /// A symbolic link to the path.
    Link { target: String },
    /// A character device with its permissions.
    Device { mode: u32, major: u32, minor: u32 },
}

impl Node {
    /// A file that everyone may read.
    pub(crate) fn file(content: impl Into<Vec<u8>>) -> Self {
        Self::File { mode: 0o644, content: content.into() }
    }

    /// A file that only root may read.
    pub(crate) fn secret(content: impl Into<Vec<u8>>) -> Self {
        Self::File { mode: 0o600, content: content.into() }
    }

    /// A program that everyone may run.
    pub(crate) fn program(content: impl Into<Vec<u8>>) -> Self {
        Self::File { mode: 0o755, content: content.into() }
    }

    fn mode(&self) -> u32 {
        match self {
            Self::File { mode, .. } => REGULAR | mode,
            Self::Directory { mode } => DIRECTORY | mode,
            Self::Link { .. } => SYMLINK | 0o777,
            Self::Device { mode, .. } => CHARACTER_DEVICE | mode,
        }
    }

    fn content(&self) -> &[u8] {
        match self {
            Self::File { content, .. } => content,
            Self::Link { target } => target.as_bytes(),
            Self::Directory { .. } | Self::Device { .. } => &[],
        }
    }

    fn device(&self) -> (u32, u32) {
        match self {
            Self::Device { major, minor, .. } => (*major, *minor),
            _ => (0, 0),
        }
    }
}

/// The entries by path, in the order of the archive: each directory comes before its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// Puts `node` at `path` (relative to the root), replaces what was there, and creates the parent directories.
    pub(crate) fn put(&mut self, path: impl Into<String>, node: Node) {
        let path = path.into();
        for (end, _) in path.match_indices('/') {
            self.0.entry(path[..end].to_string()).or_insert(Node::Directory { mode: 0o755 });
        }
        self.0.insert(path, node);
    }

    /// All entries with their paths.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Writes the archive. Every entry belongs to root and has the modification time `mtime` (Unix seconds).
    pub(crate) fn write(&self, mtime: u32, out: &mut impl Write) -> io::Result<()> {
        for (number, (path, node)) in (1..).zip(self.entries()) {
            write_entry(number, path, node, mtime, out)?;
        }
        write_entry(0, TRAILER, &Node::File { mode: 0, content: Vec::new() }, 0, out)
    }
}

fn write_entry(number: u32, path: &str, node: &Node, mtime: u32, out: &mut impl Write) -> io::Result<()> {
    let content = node.content();
    let size = u32::try_from(content.len())
        .map_err(|_| io::Error::other(format!("`{path}` exceeds 4 GiB, the limit of cpio")))?;
    let links = if matches!(node, Node::Directory { .. }) { 2 } else { 1 };
    let (major, minor) = node.device();
    let (user, group, disk_major, disk_minor, checksum) = (0, 0, 0, 0, 0);
    let name_size = path.len() as u32 + 1;
    let fields = [
        number,
        node.mode(),
        user,
        group,
        links,
        mtime,
        size,
        disk_major,
        disk_minor,
        major,
        minor,
        name_size,
        checksum,
    ];
    let header: String = fields.iter().map(|field| format!("{field:08X}")).collect();
    write!(out, "{MAGIC}{header}{path}\0")?;
    pad(MAGIC.len() + header.len() + path.len() + 1, out)?;
    out.write_all(content)?;
    pad(content.len(), out)
}

/// Pads with zeros: the header with the name, and the content, each end at a multiple of four bytes.
fn pad(length: usize, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 3][..length.next_multiple_of(4) - length])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.put("dev/console", Node::Device { mode: 0o600, major: 5, minor: 1 });
        tree.put("bin/sh", Node::Link { target: "busybox".into() });
        tree.put("a/b/file", Node::file("hello"));
        tree.put("a/b", Node::Directory { mode: 0o1777 });
        tree
    }

    #[test]
    fn directories_come_before_their_entries() {
        let tree = tree();
        let paths: Vec<_> = tree.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["a", "a/b", "a/b/file", "bin", "bin/sh", "dev", "dev/console"]);
    }

    #[test]
    fn the_format_is_that_of_the_kernel() {
        let mut tree = Tree::default();
        tree.put("f", Node::file("hello"));
        let mut archive = Vec::new();
        tree.write(0x1234, &mut archive).unwrap();
        let text = String::from_utf8(archive.clone()).unwrap();
        let header = "07070100000001000081A400000000000000000000000100001234000000050000000000000000\
                      00000000000000000000000200000000";
        assert!(text.starts_with(&format!("{header}f\0hello\0\0\0070701")), "{text}");
        assert!(text.ends_with("TRAILER!!!\0\0\0\0"));
        assert_eq!(archive.len() % 4, 0);
    }

    #[test]
    fn another_tool_reads_the_result() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("archive");
        let mut file = std::fs::File::create(&path).unwrap();
        tree().write(0, &mut file).unwrap();
        let input = std::fs::File::open(&path).unwrap();
        let output =
            std::process::Command::new("busybox").args(["cpio", "-itv"]).stdin(input).output().unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        assert!(listed.contains("crw------- 0/0"), "{listed}");
        assert!(listed.contains("bin/sh -> busybox"), "{listed}");
        assert!(listed.contains("drwxrwxrwt"), "{listed}");
    }
}
