//! What is in a tree, and what must not change.

use crate::Layers;
use rustix::fd::AsFd as _;
use rustix::fs::{AtFlags, FileType, Stat, statat};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use untrusted_fs::{Directory, Links};

/// Bytes of a file of the layers.
const CONTENT_LIMIT: u64 = 100;

/// What is told of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    Directory,
    File(String),
    Symlink(String),
    Fifo,
}

/// Mode, owner and time.
pub(crate) type Attributes = (u32, u32, i64);

/// A tree: things by their paths.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Listing(BTreeMap<String, Told>);

#[derive(Debug, Clone)]
struct Told {
    thing: Thing,
    /// Where a rule says which.
    attributes: Option<Attributes>,
    /// All its paths, if there are several.
    links: Vec<String>,
}

impl PartialEq for Told {
    fn eq(&self, other: &Self) -> bool {
        let is_open = self.attributes.is_none() || other.attributes.is_none();
        let is_alike = is_open || self.attributes == other.attributes;
        is_alike && self.thing == other.thing && self.links == other.links
    }
}

impl Listing {
    /// Of a directory.
    pub(crate) fn of(directory: &Directory) -> Self {
        let (mut listing, mut places) = (Self::default(), BTreeMap::new());
        let own = statat(directory.as_fd(), "", AtFlags::EMPTY_PATH).expect("the root");
        listing.add("/".into(), Thing::Directory, Some(attributes(&own)));
        list(directory, Path::new(""), &mut listing, &mut places);
        listing.link(places.into_values().collect());
        listing
    }

    pub(crate) fn add(&mut self, path: String, thing: Thing, attributes: Option<Attributes>) {
        self.0.insert(path, Told { thing, attributes, links: Vec::new() });
    }

    /// Paths of one thing.
    pub(crate) fn link(&mut self, groups: Vec<Vec<String>>) {
        for mut group in groups.into_iter().filter(|group| group.len() > 1) {
            group.sort();
            for path in &group {
                if let Some(known) = self.0.get_mut(path) {
                    known.links.clone_from(&group);
                }
            }
        }
    }

    pub(crate) fn without_hard_links(&self) -> Self {
        let mut listing = self.clone();
        listing.0.values_mut().for_each(|told| told.links.clear());
        listing
    }
}

fn list(directory: &Directory, above: &Path, listing: &mut Listing, places: &mut BTreeMap<u64, Vec<String>>) {
    for name in directory.names(1000).expect("a few names") {
        let found = statat(directory.as_fd(), &name, AtFlags::SYMLINK_NOFOLLOW).expect("it is there");
        let path: PathBuf = above.join(&name);
        let text = format!("/{}", path.display());
        let thing = match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let below = directory.directory(&name, Links::Refuse).expect("a directory");
                list(&below, &path, listing, places);
                Thing::Directory
            }
            FileType::RegularFile => {
                let content = directory.read_to_string(&name, Links::Refuse, CONTENT_LIMIT);
                Thing::File(content.expect("what the layer has"))
            }
            FileType::Symlink => Thing::Symlink(target(directory, &name)),
            FileType::Fifo => Thing::Fifo,
            other => panic!("`{text}` is of the type {other:?}"),
        };
        if thing != Thing::Directory {
            places.entry(found.st_ino).or_default().push(text.clone());
        }
        listing.add(text, thing, Some(attributes(&found)));
    }
}

fn target(directory: &Directory, name: &OsStr) -> String {
    directory.read_link(name, Links::Refuse).expect("a link").display().to_string()
}

fn attributes(found: &Stat) -> Attributes {
    let is_link = FileType::from_raw_mode(found.st_mode) == FileType::Symlink;
    // A link has no mode of its own.
    (if is_link { 0 } else { found.st_mode & 0o7777 }, found.st_uid, found.st_mtime)
}

/// The canaries, and what is around the trees.
pub(crate) struct Surroundings {
    paths: Vec<PathBuf>,
    before: Vec<String>,
}

impl Surroundings {
    /// Makes what the layers' links lead to.
    pub(crate) fn make(room: &Path) -> Self {
        let _ = fs::remove_dir_all(room);
        let outside = room.join("outside");
        fs::create_dir_all(outside.join("a/a")).expect("directories in memory");
        for directory in ["inside", "empty"] {
            fs::create_dir(room.join(directory)).expect("a directory in memory");
        }
        for file in ["b", "a/b", "a/a/b"] {
            fs::write(outside.join(file), "safe").expect("a file in memory");
            fs::set_permissions(outside.join(file), fs::Permissions::from_mode(0o640)).expect("its mode");
        }
        symlink("a", outside.join("c")).expect("a link in memory");
        let mut paths = vec![room.to_owned(), outside.clone(), room.join("empty")];
        paths.extend(["a", "a/a", "b", "a/b", "a/a/b", "c"].map(|name| outside.join(name)));
        let before = paths.iter().map(|path| surrounding(path)).collect();
        Self { paths, before }
    }

    pub(crate) fn expect_unchanged(&self, layers: &Layers) {
        let now: Vec<String> = self.paths.iter().map(|path| surrounding(path)).collect();
        assert_eq!(self.before, now, "something outside changed: {layers:#?}");
    }
}

/// All that could be changed of a thing.
fn surrounding(path: &Path) -> String {
    let found = rustix::fs::lstat(path).expect("it is there");
    let content = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => fs::read_to_string(path).expect("its content"),
        FileType::Directory => {
            let mut names: Vec<_> = fs::read_dir(path)
                .expect("its names")
                .map(|entry| entry.expect("a name").file_name())
                .collect();
            names.sort();
            format!("{names:?}")
        }
        _ => String::new(),
    };
    let times = (found.st_mtime, found.st_mtime_nsec, found.st_ctime, found.st_ctime_nsec);
    let owner = (found.st_uid, found.st_gid);
    format!("{} {:o} {owner:?} {} {times:?} {content}", path.display(), found.st_mode, found.st_nlink)
}
