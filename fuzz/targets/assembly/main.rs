//! Up to three layers of a few names, put together and flattened: nothing outside changes, the tree is the one that the
//! layer rules give, where they say which, and overlayfs shows the same one.
#![no_main]
#![allow(clippy::expect_used, reason = "a panic is how a target reports what it found")]

mod layers;
mod listing;
mod model;

use layers::TarEntry;
use listing::{Listing, Surroundings};
use oci_layer::{Store, flatten, unpack_all};
use rustix::fd::OwnedFd;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use untrusted_fs::Directory;

/// In memory, and known to the links of the layers.
const ROOM: &str = "/dev/shm/iguana-assembly";
/// overlayfs takes as long as everything else: it is asked about one input of so many.
const ASKED_ONE_OF: u32 = 16;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static SURROUNDINGS: OnceLock<Surroundings> = OnceLock::new();
    let room = Path::new(ROOM);
    let before = SURROUNDINGS.get_or_init(|| Surroundings::make(room));
    let layers = layers::decode(bytes);
    let archives: Vec<Vec<u8>> = layers.iter().map(|layer| layers::archive(layer)).collect();
    let archives: Vec<&[u8]> = archives.iter().map(Vec::as_slice).collect();
    let inside = Directory::open(room.join("inside")).expect("a directory in memory");
    let tree = inside.create_directory("tree", 0o700).expect("an empty directory");
    let store = Store::within(inside.create_directory("store", 0o700).expect("an empty directory"));
    let outcome = seen(&store, &archives, &tree, is_asked(bytes));
    before.expect_unchanged(&layers);
    match (outcome, model::tree(&layers)) {
        (Ok(seen), Some(expected)) => assert_eq!(expected, seen, "{layers:#?}"),
        (Err(error), Some(_)) => panic!("{error:#}: {layers:#?}"),
        (_, None) => {}
    }
    drop(store);
    for name in ["tree", "store"] {
        inside.remove(name).expect("what was unpacked can be removed");
    }
});

fn is_asked(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte))) % ASKED_ONE_OF
        == 0
}

/// The flattened tree; compared with what overlayfs shows if that is asked.
fn seen(store: &Store, archives: &[&[u8]], tree: &Directory, is_asked: bool) -> anyhow::Result<Listing> {
    let layers = unpack_all(store, archives)?;
    let paths: Vec<PathBuf> = layers.iter().map(|layer| layer.path().to_owned()).collect();
    let overlay = if is_asked { overlay(&paths) } else { None };
    let overlay = overlay.map(|shown| Listing::of(&Directory::from_descriptor(shown, "overlay")));
    flatten(&layers, tree)?;
    let seen = Listing::of(tree);
    if let Some(overlay) = overlay {
        assert_eq!(seen.without_hard_links(), overlay.without_hard_links(), "overlayfs shows another tree");
    }
    Ok(seen)
}

/// The layers as overlayfs shows them; nothing where this process may not ask it.
fn overlay(layers: &[PathBuf]) -> Option<OwnedFd> {
    let mut option = String::new();
    for layer in layers.iter().rev() {
        // overlayfs takes no layer twice; of a repeated one only the topmost place can be seen.
        let layer = layer.to_str()?;
        if !option.split(':').any(|known| known == layer) {
            option = if option.is_empty() { layer.to_owned() } else { format!("{option}:{layer}") };
        }
    }
    // It takes no single layer without one to write to: an empty one lies below it.
    option = format!("{option}:{ROOM}/empty");
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    rustix::mount::fsconfig_set_string(&context, "lowerdir", option.as_str()).expect("layers of overlayfs");
    rustix::mount::fsconfig_create(&context).expect("overlayfs takes the layers");
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY;
    Some(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).expect("a mount"))
}

/// All layers of an image, the lowest first.
type Layers = Vec<Vec<TarEntry>>;
