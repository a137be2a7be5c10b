//! Assembles the layers of an image. Only here are all layers known, so dependencies on lower layers are resolved here.
//!
//! Unpacked layers are never changed, for other images may use them, too. A layer whose content belongs elsewhere
//! because of a link in a lower layer is *fitted*: copied by hard links, with everything at its proper path, and stored
//! under its ChainID. A directory without an entry in the topmost layer that has it would show the wrong owner and
//! mode. Such directories are *covered*: an additional layer on top of all others has them as a lower layer describes
//! them.

use super::fit::fit;
use super::metadata::{Maker, Metadata};
use super::view::{Follow, LOOKUPS_LIMIT, MergedDirectory, Seen, View};
use crate::store::{Layer, Store};
use anyhow::Context as _;
use oci_reference::digest::Digest;
use rustix::fd::AsFd as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use untrusted_fs::Directory;

/// The mode of the cover's directories until they get their final metadata.
const MODE_MEANWHILE: u32 = 0o700;

/// Time for assembling the layers of an image. Usual ones take less than a second; the limit of lookups takes about a minute,
/// and longer on a slow machine.
pub const ASSEMBLY_TIME_LIMIT: Duration = Duration::from_secs(300);

/// Makes the layers of an image, in the form that overlayfs needs, from its unpacked ones; the lowest first.
///
/// # Errors
/// When a hard link has a target in no layer, the work exceeds that of any usual image (`docs/limits.md`), or the
/// store's file system refuses.
pub fn assemble(store: &Store, unpacked: Vec<(Digest, Arc<Layer>)>) -> anyhow::Result<Vec<Arc<Layer>>> {
    assemble_within(LOOKUPS_LIMIT, ASSEMBLY_TIME_LIMIT, store, unpacked)
}

pub(super) fn assemble_within(
    lookups_limit: u64,
    time_limit: Duration,
    store: &Store,
    unpacked: Vec<(Digest, Arc<Layer>)>,
) -> anyhow::Result<Vec<Arc<Layer>>> {
    let mut view = View::new(lookups_limit, time_limit);
    let mut chain: Option<Digest> = None;
    for (diff_id, layer) in unpacked {
        let id = chain.map_or(diff_id, |below| Digest::of(format!("{below} {diff_id}").as_bytes()));
        chain = Some(id);
        view.push(layer);
        if is_in_place(&view)? {
            continue;
        }
        // The ChainID of the lowest layer is its diff-ID.
        let key = Digest::of(format!("fitted {id}").as_bytes());
        let fitted = match store.find(&key) {
            Some(known) => known,
            None => {
                let target = store.incoming()?;
                let lower_dependencies =
                    fit(&view, &target).with_context(|| format!("the layer with diff-id `{diff_id}`"))?;
                store.admit(key, target, lower_dependencies)?
            }
        };
        view.pop();
        view.push(fitted);
    }
    let described = described(&view)?;
    let mut layers = view.layers().to_vec();
    // overlayfs does not hide lower layers below a layer whose root is opaque, so they are left out here.
    for number in (1..layers.len()).rev() {
        if layers[number].is_opaque(Path::new(""))? {
            layers.drain(..number);
            break;
        }
    }
    if !described.is_empty() {
        let cover = store.incoming()?;
        make_cover(&view, &described, &cover)?;
        layers.push(Arc::new(cover));
    }
    Ok(layers)
}

/// Copies owner, mode, time and extended attributes from one directory to another.
///
/// # Errors
/// When one of them cannot be read or set.
pub fn take_after(directory: &Path, other: &Path) -> anyhow::Result<()> {
    copy_metadata(&Directory::open(directory)?, &Directory::open(other)?)
}

fn copy_metadata(directory: &Directory, other: &Directory) -> anyhow::Result<()> {
    Metadata::of_directory(other.as_fd())?.apply(directory.as_fd(), &Maker::this())
}

/// Whether the topmost layer can be used as it is.
fn is_in_place(view: &View) -> anyhow::Result<bool> {
    let Some(lower_dependencies) = view.layers().last().map(|layer| layer.lower_dependencies()) else {
        return Ok(true);
    };
    if !lower_dependencies.links.is_empty() {
        return Ok(false);
    }
    for path in &lower_dependencies.directories {
        match view.find(path, Follow::None)? {
            (_, Seen::MergedDirectory(_)) => {}
            _ => return Ok(false),
        }
    }
    for path in &lower_dependencies.marked {
        match view.find(path, Follow::None)? {
            (_, Seen::MergedDirectory(directory)) if directory.layers.len() > 1 => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// The directories of an image that overlayfs would show with wrong metadata, and their parents; with the layers that
/// describe them.
fn described(view: &View) -> anyhow::Result<BTreeMap<PathBuf, usize>> {
    let mut described = BTreeMap::new();
    let tied: BTreeSet<&PathBuf> =
        view.layers().iter().flat_map(|layer| &layer.lower_dependencies().directories).collect();
    for path in tied {
        let (_, Seen::MergedDirectory(directory)) = view.find(path, Follow::None)? else { continue };
        let (topmost, describing) = topmost_and_describing(&directory);
        let is_right =
            describing == topmost || attributes(view, describing, path)? == attributes(view, topmost, path)?;
        if is_right {
            continue;
        }
        for place in path.ancestors() {
            if described.contains_key(place) {
                break;
            }
            if let (_, Seen::MergedDirectory(directory)) = view.find(place, Follow::None)? {
                described.insert(place.to_owned(), topmost_and_describing(&directory).1);
            }
        }
    }
    Ok(described)
}

/// The layer whose directory overlayfs shows, and the layer that describes the directory.
fn topmost_and_describing(directory: &MergedDirectory) -> (usize, usize) {
    let topmost = directory.layers[0];
    (topmost, directory.described_by.unwrap_or(topmost))
}

fn attributes(view: &View, layer: usize, path: &Path) -> anyhow::Result<Metadata> {
    Metadata::of_directory(view.layers()[layer].directory(path)?.as_fd())
}

fn make_cover(view: &View, described: &BTreeMap<PathBuf, usize>, cover: &Layer) -> anyhow::Result<()> {
    for path in described.keys() {
        if let (Some(above), Some(name)) = (path.parent(), path.file_name()) {
            cover.directory(above)?.create_directory(name, MODE_MEANWHILE)?;
        }
    }
    // Children first: creating them has changed the time of their parent.
    for (path, layer) in described.iter().rev() {
        copy_metadata(&cover.directory(path)?, &view.layers()[*layer].directory(path)?)?;
    }
    Ok(())
}
