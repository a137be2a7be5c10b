//! Layers from the fuzzer's bytes.

use crate::{Layers, ROOM};

/// Few, so that layers meet.
const NAMES: [&str; 3] = ["a", "b", "c"];
const LAYERS_LIMIT: usize = 3;
const ENTRIES_LIMIT: usize = 8;
/// Where links lead; `OUTSIDE` is where the canaries are.
const TARGETS: [&str; 16] = [
    "a",
    "b",
    "c",
    "a/b",
    "/a",
    "/b",
    "/c/a",
    "../a",
    "../b",
    "..",
    "/",
    "../../../..",
    "OUTSIDE",
    "OUTSIDE/b",
    "../../../../../../../../OUTSIDE",
    "/proc/self/root",
];
const MODES: [u32; 4] = [0o755, 0o700, 0o1777, 0o4711];
const OWNERS: [u32; 2] = [0, 1234];
/// Of the first entry; each one is a second later.
const TIME: i64 = 1_000_000_000;

/// An entry of a layer.
#[derive(Debug, Clone)]
pub(crate) struct TarEntry {
    pub(crate) path: Vec<&'static str>,
    pub(crate) kind: EntryKind,
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) mtime: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Directory,
    /// What is in it.
    File(String),
    Symlink(String),
    /// Where its target is.
    HardLink(Vec<&'static str>),
    Fifo,
    /// The path is what it hides.
    Whiteout,
    /// The path is the directory.
    Opaque,
}

/// Three bytes for each entry.
pub(crate) fn decode(bytes: &[u8]) -> Layers {
    let mut layers = vec![Vec::new()];
    let mut mtime = TIME;
    for triple in bytes.chunks_exact(3) {
        let (what, place, more) = (triple[0], triple[1], triple[2]);
        let is_full = layers.last().is_none_or(|layer| layer.len() == ENTRIES_LIMIT);
        if what & 0x80 != 0 || is_full {
            if layers.len() == LAYERS_LIMIT {
                break;
            }
            layers.push(Vec::new());
        }
        mtime += 1;
        let kind = match what & 7 {
            0 | 1 => EntryKind::Directory,
            2 => EntryKind::File(mtime.to_string()),
            3 | 4 => EntryKind::Symlink(target(more)),
            5 if more & 0x80 != 0 => EntryKind::Fifo,
            5 => EntryKind::HardLink(path(more)),
            6 => EntryKind::Whiteout,
            _ => EntryKind::Opaque,
        };
        let (mode, owner) = (MODES[usize::from(what >> 3 & 3)], OWNERS[usize::from(what >> 5 & 1)]);
        let mut path = path(place);
        if kind == EntryKind::Opaque && place & 0x80 != 0 {
            path.clear();
        }
        if let Some(layer) = layers.last_mut() {
            layer.push(TarEntry { path, kind, mode, owner, mtime });
        }
    }
    layers
}

/// Of one to three names.
fn path(byte: u8) -> Vec<&'static str> {
    let name = |shift: u8| NAMES[usize::from(byte >> shift & 3) % NAMES.len()];
    let names = [name(0), name(2), name(4)];
    names[..1 + usize::from(byte >> 6) % 3].to_vec()
}

fn target(byte: u8) -> String {
    TARGETS[usize::from(byte) % TARGETS.len()].replace("OUTSIDE", &format!("{ROOM}/outside"))
}

/// A layer as a tar archive (POSIX.1-2017, pax, "ustar Interchange Format").
pub(crate) fn archive(entries: &[TarEntry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        let path = entry.path.join("/");
        let (above, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(above, name)| (above, name));
        let slash = if above.is_empty() { "" } else { "/" };
        let (kind, path, link, content) = match &entry.kind {
            EntryKind::Directory => (b'5', path, String::new(), ""),
            EntryKind::File(content) => (b'0', path, String::new(), content.as_str()),
            EntryKind::Symlink(target) => (b'2', path, target.clone(), ""),
            EntryKind::HardLink(target) => (b'1', path, target.join("/"), ""),
            EntryKind::Fifo => (b'6', path, String::new(), ""),
            EntryKind::Whiteout => (b'0', format!("{above}{slash}.wh.{name}"), String::new(), ""),
            EntryKind::Opaque => (b'0', format!("{path}/.wh..wh..opq"), String::new(), ""),
        };
        let mut header = [0; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, path.as_bytes());
        put(100, format!("{:07o}\0{:07o}\0{:07o}\0", entry.mode, entry.owner, 0).as_bytes());
        put(124, format!("{:011o}\0{:011o}\0        ", content.len(), entry.mtime).as_bytes());
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(content.as_bytes());
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}
