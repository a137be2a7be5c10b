//! The merged view of stacked layers, by the rules of overlayfs.

use super::LowerDependencies;
use super::root::{Walk, is_stat_of_whiteout};
use super::work::steps_of_path;
use crate::store::Layer;
use anyhow::Context as _;
use hint::hinted;
use rustix::fs::FileType;
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Lookups of names while an image is assembled, counted per layer. Each costs some system calls, about 5 us. Usual
/// images take less than 100,000; a name that each of 500 layers has takes 500 each time.
pub(super) const LOOKUPS_LIMIT: u64 = 10_000_000;
/// Names of a path that take about as long as one lookup: the kernel resolves each path from the layer's root.
const NAMES_OF_LOOKUP: usize = 16;

/// Stacked layers, the lowest first.
pub(super) struct View {
    layers: Vec<Arc<Layer>>,
    /// The components of the last path, each with the path up to it and the directory there. Paths are looked up in
    /// order, so each one costs only what differs from the one before.
    known: RefCell<Vec<(PathBuf, Rc<KnownDirectory>)>>,
    /// The remaining lookups, and their limit.
    lookups: Cell<u64>,
    lookups_limit: u64,
    start: Instant,
    time_limit: Duration,
}

/// A directory on a path, which may not exist.
struct KnownDirectory {
    path: PathBuf,
    directory: Rc<MergedDirectory>,
    above: Option<Rc<KnownDirectory>>,
}

/// A directory that one or more layers have at the same path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MergedDirectory {
    /// The layers whose content is visible, the topmost first.
    pub(super) layers: Vec<usize>,
    /// The topmost layer with an entry for it, which may be below an opaque one.
    pub(super) described_by: Option<usize>,
}

/// What is visible at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    MergedDirectory(Rc<MergedDirectory>),
    /// A symbolic link, and the layer that has it.
    Link(usize),
    /// Anything else, and the layer that has it.
    Other(usize),
    /// The path leads through something that is not a directory, or through a loop of links.
    Barred,
}

/// Which links on a path are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    All,
    /// All but one as the last component.
    ButLast,
    /// None: a path through a link is barred.
    None,
}

/// The result of looking up a name.
enum Entered {
    MergedDirectory(Rc<KnownDirectory>),
    /// Anything else, and its path.
    Else(PathBuf, Seen),
}

impl View {
    /// A view without layers, and with a limit of lookups and one of the time from now on.
    pub(super) fn new(lookups_limit: u64, time_limit: Duration) -> Self {
        Self {
            layers: Vec::new(),
            known: RefCell::default(),
            lookups: Cell::new(lookups_limit),
            lookups_limit,
            start: Instant::now(),
            time_limit,
        }
    }

    pub(super) fn push(&mut self, layer: Arc<Layer>) {
        self.layers.push(layer);
        self.known.borrow_mut().clear();
    }

    pub(super) fn pop(&mut self) -> Option<Arc<Layer>> {
        self.known.borrow_mut().clear();
        self.layers.pop()
    }

    pub(super) fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// Counts the lookup of a name in one layer.
    ///
    /// # Errors
    /// When a limit is reached.
    pub(super) fn count_lookup(&self) -> anyhow::Result<()> {
        self.count_lookups(1)
    }

    /// Counts the lookup of a path from the root of a layer.
    ///
    /// # Errors
    /// When a limit is reached.
    pub(super) fn count_path(&self, path: &Path) -> anyhow::Result<()> {
        self.count_lookups(1 + (path.components().count() / NAMES_OF_LOOKUP) as u64)
    }

    fn count_lookups(&self, count: u64) -> anyhow::Result<()> {
        let left = self.lookups.get().checked_sub(count);
        self.lookups.set(left.ok_or_else(|| too_long(format!("{} lookups", self.lookups_limit)))?);
        if self.start.elapsed() >= self.time_limit {
            return Err(too_long(format!("{} s", self.time_limit.as_secs())));
        }
        Ok(())
    }

    pub(super) fn lower_dependencies(&self, number: usize) -> &LowerDependencies {
        self.layers[number].lower_dependencies()
    }

    /// What is visible at a path, and the path with its links resolved.
    pub(super) fn find(&self, path: &Path, follow: Follow) -> anyhow::Result<(PathBuf, Seen)> {
        let mut known = self.known.borrow_mut();
        // The cache has the targets of links, but not whether there was a link.
        let is_of_use = |known: &Path, place: &KnownDirectory| match follow {
            Follow::All => true,
            Follow::ButLast => known != path || place.path == *known,
            Follow::None => place.path == *known,
        };
        while known.last().is_some_and(|(known, place)| !path.starts_with(known) || !is_of_use(known, place))
        {
            known.pop();
        }
        if known.is_empty() {
            known.push((PathBuf::new(), self.root()?));
        }
        let (mut here, mut place) = known.last().cloned().context("the root is known")?;
        let mut left = path.strip_prefix(&here)?.iter().peekable();
        while let Some(name) = left.next() {
            here.push(name);
            let is_last = left.peek().is_none();
            let follows = match follow {
                Follow::All => true,
                Follow::ButLast => !is_last,
                Follow::None => false,
            };
            match self.enter(&place, Path::new(name), follows)? {
                Entered::MergedDirectory(next) => place = next,
                Entered::Else(_, _) if !is_last => return Ok((here, Seen::Barred)),
                Entered::Else(path, seen) => return Ok((path, seen)),
            }
            known.push((here.clone(), Rc::clone(&place)));
        }
        let is_there = !place.directory.layers.is_empty();
        let seen = if is_there { Seen::MergedDirectory(Rc::clone(&place.directory)) } else { Seen::Nothing };
        Ok((place.path.clone(), seen))
    }

    /// Looks up a name in a directory, and follows links.
    fn enter(&self, from: &Rc<KnownDirectory>, name: &Path, follows: bool) -> anyhow::Result<Entered> {
        let mut place = Rc::clone(from);
        let mut walk = Walk::new(name, None);
        loop {
            let name = match walk.next() {
                Ok(Some(name)) => name,
                Ok(None) => return Ok(Entered::MergedDirectory(place)),
                Err(_) => return Ok(Entered::Else(place.path.clone(), Seen::Barred)),
            };
            if name == ".." {
                place = place.above.clone().unwrap_or(place);
                continue;
            }
            let next = place.path.join(&name);
            let directory = match self.step(&place.directory.layers, &next)? {
                Seen::MergedDirectory(directory) => directory,
                // It does not exist, but may be created together with its content.
                Seen::Nothing => Rc::default(),
                Seen::Link(number) if follows || !walk.is_at_end() => {
                    let target = self.layers[number].read_link(&next)?;
                    self.count_lookups(steps_of_path(target.as_os_str().len()))?;
                    match walk.follow(&target) {
                        Ok(false) => {}
                        Ok(true) => place = self.root()?,
                        Err(_) => return Ok(Entered::Else(next, Seen::Barred)),
                    }
                    continue;
                }
                _ if !walk.is_at_end() => return Ok(Entered::Else(next, Seen::Barred)),
                seen => return Ok(Entered::Else(next, seen)),
            };
            place = Rc::new(KnownDirectory { path: next, directory, above: Some(place) });
        }
    }

    fn root(&self) -> anyhow::Result<Rc<KnownDirectory>> {
        let all: Vec<usize> = (0..self.layers.len()).rev().collect();
        let directory = match self.step(&all, Path::new(""))? {
            Seen::MergedDirectory(directory) => directory,
            _ => Rc::default(),
        };
        Ok(Rc::new(KnownDirectory { path: PathBuf::new(), directory, above: None }))
    }

    /// What is visible at a path in a directory that these layers have. A directory without an entry does not hide a
    /// link, and a hollow directory does not exist unless a lower layer has it.
    fn step(&self, layers: &[usize], path: &Path) -> anyhow::Result<Seen> {
        let mut seen = MergedDirectory::default();
        let (mut is_opaque_so_far, mut is_hollow_so_far) = (false, true);
        for &number in layers {
            self.count_path(path)?;
            let (layer, lower_dependencies) = (&self.layers[number], self.lower_dependencies(number));
            let Some(found) = layer.stat(path)? else { continue };
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => {
                    is_hollow_so_far &= lower_dependencies.hollow.contains(path);
                    if !is_opaque_so_far {
                        seen.layers.push(number);
                        is_opaque_so_far = layer.is_opaque(path)?;
                    }
                    if seen.described_by.is_none() && !lower_dependencies.directories.contains(path) {
                        seen.described_by = Some(number);
                    }
                }
                FileType::Symlink if seen.described_by.is_none() => return Ok(Seen::Link(number)),
                _ if is_hollow_so_far && !is_stat_of_whiteout(&found) => return Ok(Seen::Other(number)),
                _ => break,
            }
            if is_opaque_so_far && seen.described_by.is_some() {
                break;
            }
        }
        Ok(if is_hollow_so_far { Seen::Nothing } else { Seen::MergedDirectory(Rc::new(seen)) })
    }
}

fn too_long(limit: String) -> anyhow::Error {
    hinted(
        format!("assembling its layers takes more than {limit}"),
        "build the image with fewer layers, for example with `buildah build --layers=false`",
    )
}
