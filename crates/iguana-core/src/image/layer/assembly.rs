//! Puts an image together: what hangs on the layers below a layer is found out here, where they all are there.
//!
//! Unpacked layers are never changed, for other images may have them, too. A layer whose content belongs elsewhere
//! because of a link below it is fitted: copied by hard links, with everything in its place, and known by its ChainID.
//! Folders that no entry of the topmost layer that has them describes are covered: they are in one layer more, above
//! all others, as those below describe them.

use super::Ties;
use super::metadata::{Maker, Metadata};
use super::root::make_opaque;
use super::view::{Folder, Seen, Sheet, View, is_opaque, is_whiteout, metadata};
use crate::hint::hinted;
use crate::image::digest::Digest;
use crate::image::store::{Layer, Store};
use anyhow::Context as _;
use rustix::fd::AsFd as _;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The layers of an image as overlayfs is to have them, made from its unpacked ones; the lowest first.
///
/// # Errors
/// When a hard link leads to what no layer has, links lead in circles, or the store's file system refuses.
pub(in crate::image) fn assemble(
    store: &Store,
    unpacked: Vec<(Digest, Arc<Layer>)>,
) -> anyhow::Result<Vec<Arc<Layer>>> {
    let mut layers: Vec<Arc<Layer>> = Vec::new();
    let mut chain: Option<Digest> = None;
    for (diff_id, layer) in unpacked {
        let id = chain.map_or(diff_id, |below| Digest::of(format!("{below} {diff_id}").as_bytes()));
        chain = Some(id);
        let view = view(layers.iter().chain([&layer]));
        let fitted = if is_at_home(&view, layer.ties())? {
            layer
        } else if let Some(known) = store.find(&id) {
            known
        } else {
            let target = store.incoming()?;
            let ties =
                fit(&view, target.folder()).with_context(|| format!("the layer with diff-id `{diff_id}`"))?;
            store.admit(id, target, ties)
        };
        layers.push(fitted);
    }
    let described = described(&view(&layers))?;
    // overlayfs hides nothing below a layer whose root is opaque: what is hidden is left out.
    for number in (1..layers.len()).rev() {
        if is_opaque(layers[number].folder())? {
            layers.drain(..number);
            break;
        }
    }
    if !described.is_empty() {
        let cover = store.incoming()?;
        make_cover(&described, cover.folder())?;
        layers.push(Arc::new(cover));
    }
    Ok(layers)
}

/// Gives a folder the owner, mode, time and extended attributes of another.
///
/// # Errors
/// When one of them cannot be read or set.
pub fn take_after(folder: &Path, other: &Path) -> anyhow::Result<()> {
    Metadata::of_folder(File::open(other)?.as_fd())?.apply(File::open(folder)?.as_fd(), &Maker::this())
}

fn view<'a>(layers: impl IntoIterator<Item = &'a Arc<Layer>>) -> View<'a> {
    View(layers.into_iter().map(|layer| Sheet { folder: layer.folder(), ties: layer.ties() }).collect())
}

/// Whether the topmost layer may stay as it is.
fn is_at_home(view: &View<'_>, ties: &Ties) -> anyhow::Result<bool> {
    if !ties.links.is_empty() {
        return Ok(false);
    }
    for path in &ties.folders {
        if matches!(view.find(path, false)?.1, Seen::Link(..)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Copies the topmost layer to the empty folder `target` by hard links, what is in it being where it belongs.
fn fit(view: &View<'_>, target: &Path) -> anyhow::Result<Ties> {
    let sheet = *view.0.last().context("there is no layer")?;
    let mut copy = Copy { view, sheet, target, folders: BTreeMap::new(), places: HashMap::new() };
    let root = Path::new("");
    copy.folder(root, root)?;
    copy.content(root, root)?;
    for (path, link_target) in &sheet.ties.links {
        copy.hard_link(path, link_target)?;
    }
    copy.finish()
}

struct Copy<'a> {
    view: &'a View<'a>,
    sheet: Sheet<'a>,
    target: &'a Path,
    /// Those of the copy, and which ones of the layer describe them.
    folders: BTreeMap<PathBuf, Option<PathBuf>>,
    /// Where the layer's folders are in the copy.
    places: HashMap<PathBuf, PathBuf>,
}

impl Copy<'_> {
    fn content(&mut self, from: &Path, to: &Path) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.sheet.folder.join(from))? {
            let entry = entry?;
            let (from, to) = (from.join(entry.file_name()), to.join(entry.file_name()));
            if !entry.file_type()?.is_dir() {
                self.file(&from, &to)?;
                continue;
            }
            let to = if self.is_tied(&from) { self.landing(to)? } else { to };
            if self.folder(&from, &to)? {
                self.content(&from, &to)?;
            }
        }
        Ok(())
    }

    fn is_tied(&self, path: &Path) -> bool {
        self.sheet.ties.folders.contains(path)
    }

    /// Where a link leads that is seen in the place of a folder without an entry.
    fn landing(&self, path: PathBuf) -> anyhow::Result<PathBuf> {
        if !matches!(self.view.find(&path, false)?.1, Seen::Link(..)) {
            return Ok(path);
        }
        Ok(match self.view.find(&path, true)? {
            (landing, Seen::Folder(_) | Seen::Nothing) => landing,
            // Nothing can be in what is no folder: there the link makes way.
            _ => path,
        })
    }

    /// Makes a folder of the layer; false where something is in its way. Of two things in one place that one stays
    /// which the layer itself has there.
    fn folder(&mut self, from: &Path, to: &Path) -> anyhow::Result<bool> {
        let is_direct = from == to;
        for place in to.ancestors().collect::<Vec<_>>().into_iter().rev() {
            match metadata(&self.target.join(place))? {
                Some(found) if found.is_dir() => {}
                Some(_) if is_direct && place == to => {
                    fs::remove_file(self.target.join(place))?;
                    fs::create_dir(self.target.join(place))?;
                }
                Some(_) => return Ok(false),
                None => fs::create_dir(self.target.join(place))?,
            }
            self.folders.entry(place.to_owned()).or_default();
        }
        self.places.insert(from.to_owned(), to.to_owned());
        let description = self.folders.entry(to.to_owned()).or_default();
        if !self.sheet.ties.folders.contains(from) && (is_direct || description.is_none()) {
            *description = Some(from.to_owned());
        }
        if is_opaque(&self.sheet.folder.join(from))? {
            make_opaque(File::open(self.target.join(to))?.as_fd())?;
        }
        Ok(true)
    }

    fn file(&self, from: &Path, to: &Path) -> anyhow::Result<()> {
        let (source, target) = (self.sheet.folder.join(from), self.target.join(to));
        match fs::hard_link(&source, &target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => return Ok(linked?),
        }
        let is_whiteout = |path| anyhow::Ok(metadata(path)?.is_some_and(|found| is_whiteout(&found)));
        // Whiteouts are of what is below; between two other things it matters which one has its own name.
        let wins = !is_whiteout(&source)? && (from == to || is_whiteout(&target)?);
        if wins {
            if target.is_dir() && !target.is_symlink() {
                fs::remove_dir_all(&target)?
            } else {
                fs::remove_file(&target)?
            }
            fs::hard_link(source, target)?;
        }
        Ok(())
    }

    /// A hard link to what a layer below has.
    fn hard_link(&self, path: &Path, target: &Path) -> anyhow::Result<()> {
        let (found_at, seen) = self.view.find(target, false)?;
        let (Seen::Other(layer) | Seen::Link(layer, _)) = seen else {
            return Err(hinted(
                format!(
                    "the hard link `{}` leads to `{}`, which neither its layer nor one below has",
                    path.display(),
                    target.display()
                ),
                "the image is damaged: build it anew",
            ));
        };
        let parent = path.parent().and_then(|parent| self.places.get(parent));
        let (Some(parent), Some(name)) = (parent, path.file_name()) else { return Ok(()) };
        let source = self.view.0[layer].folder.join(found_at);
        let made = fs::hard_link(source, self.target.join(parent).join(name));
        made.with_context(|| format!("cannot make the hard link `{}`", path.display()))
    }

    fn finish(self) -> anyhow::Result<Ties> {
        let mut ties = Ties::default();
        for (path, description) in self.folders.into_iter().rev() {
            let folder = File::open(self.target.join(&path))?;
            let meta = match description {
                Some(from) => Metadata::of_folder(File::open(self.sheet.folder.join(from))?.as_fd())?,
                None => {
                    ties.folders.insert(path);
                    Metadata::unknown()
                }
            };
            meta.apply(folder.as_fd(), &Maker::this())?;
        }
        Ok(ties)
    }
}

/// The folders of an image that are not seen as they are to be seen, and those above them; with the folders that
/// describe them.
fn described<'a>(view: &View<'a>) -> anyhow::Result<BTreeMap<PathBuf, PathBuf>> {
    let mut described = BTreeMap::new();
    let tied: BTreeSet<&PathBuf> = view.0.iter().flat_map(|sheet| &sheet.ties.folders).collect();
    for path in tied {
        let (found_at, Seen::Folder(folder)) = view.find(path, false)? else { continue };
        let (topmost, describing) = topmost_and_describing(&folder);
        let is_right =
            describing == topmost || attributes(view, describing, path)? == attributes(view, topmost, path)?;
        if found_at != *path || is_right {
            continue;
        }
        for place in path.ancestors() {
            if let (_, Seen::Folder(folder)) = view.find(place, false)? {
                let sheet = view.0[topmost_and_describing(&folder).1];
                described.insert(place.to_owned(), sheet.folder.join(place));
            }
        }
    }
    Ok(described)
}

/// The layer whose folder overlayfs shows, and the one whose folder says what is to be shown.
fn topmost_and_describing(folder: &Folder) -> (usize, usize) {
    let topmost = folder.layers[0];
    (topmost, folder.described_by.unwrap_or(topmost))
}

fn attributes(view: &View<'_>, layer: usize, path: &Path) -> anyhow::Result<Metadata> {
    Metadata::of_folder(File::open(view.0[layer].folder.join(path))?.as_fd())
}

fn make_cover(described: &BTreeMap<PathBuf, PathBuf>, cover: &Path) -> anyhow::Result<()> {
    for path in described.keys().filter(|path| !path.as_os_str().is_empty()) {
        fs::create_dir(cover.join(path))?;
    }
    // Those in a folder before it: making them has changed its time.
    described.iter().rev().try_for_each(|(path, other)| take_after(&cover.join(path), other))
}
