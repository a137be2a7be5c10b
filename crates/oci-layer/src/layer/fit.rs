//! Fits a layer to the lower ones: plans the content of its copy as a tree of values, and then makes it by hard links.

use super::LowerDependencies;
use super::links;
use super::memory::Memory;
use super::metadata::{Maker, Metadata};
use super::root::{check_depth, is_stat_of_whiteout, make_opaque, make_whiteout, stat};
use super::view::{Follow, Seen, View};
use crate::store::Layer;
use anyhow::{Context as _, bail};
use hint::hinted;
use rustix::fd::AsFd as _;
use rustix::fs::{AtFlags, FileType, linkat};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use untrusted_fs::{Cause, Directory};

/// The mode of the copy's directories until they get their final metadata.
const MODE_MEANWHILE: u32 = 0o700;

/// Copies the topmost layer into the empty layer `target` by hard links, with everything at its proper path.
pub(super) fn fit(view: &View, target: &Layer) -> anyhow::Result<LowerDependencies> {
    let layer = view.layers().last().context("there is no layer")?;
    let memory = Memory::for_copy();
    let mut plan = Plan { view, layer, root: Branch::default(), places: HashMap::new(), memory };
    let root = Path::new("");
    plan.directory(root, root)?;
    plan.content(root, root)?;
    plan.links()?;
    drop_idle(view, &mut plan.root, root, false)?;
    let mut lower_dependencies = LowerDependencies::default();
    let mut copy = Copy { view, source: None, memory: plan.memory };
    copy.make(&plan.root, &target.directory(root)?, root, &mut lower_dependencies)?;
    Ok(lower_dependencies)
}

struct Plan<'a> {
    view: &'a View,
    /// The layer that is fitted.
    layer: &'a Arc<Layer>,
    root: Branch,
    /// The directories of the layer, and their paths in the copy.
    places: HashMap<PathBuf, PathBuf>,
    /// The memory that all these take.
    memory: Memory,
}

/// The proper path of a directory of the layer.
enum Landing {
    At(PathBuf),
    /// This path, where the directory replaces something else.
    Replacing(PathBuf),
}

/// What the copy has under a name.
enum Item {
    Branch(Branch),
    Whiteout,
    File(Origin),
}

/// A file, link or device of a layer.
#[derive(Clone)]
struct Origin {
    layer: usize,
    /// Its directory in that layer. The files of a directory share it: a path may have 4 KiB.
    directory: Rc<Path>,
    /// Its name there, unless that is its name in the copy.
    name: Option<Rc<OsStr>>,
    /// Whether the path in the fitted layer is the same as in the copy. Of two entries for one path that one wins; a
    /// hollow directory is not an entry in this sense, for whiteouts hide only lower layers.
    is_direct: bool,
}

/// A directory of the copy.
#[derive(Default)]
struct Branch {
    description: Description,
    is_opaque: bool,
    /// Whether it contains nothing but whiteouts and has no entry.
    is_hollow: bool,
    items: BTreeMap<OsString, Item>,
}

/// Where the metadata of a directory comes from.
#[derive(Default, PartialEq)]
enum Description {
    /// The lower layers.
    #[default]
    Below,
    /// Nowhere: the lower layers are hidden.
    Nothing,
    /// A directory of the layer that is fitted.
    Of(PathBuf),
}

impl Plan<'_> {
    fn content(&mut self, from: &Path, to: &Path) -> anyhow::Result<()> {
        self.view.count_path(from)?;
        let directory = self.layer.directory(from)?;
        let (mut below, is_direct) = (Vec::new(), from == to);
        let source: Rc<Path> = from.into();
        self.memory.take(from.as_os_str().len())?;
        for name in self.names(&directory)? {
            self.view.count_lookup()?;
            let Some(found) = stat(directory.as_fd(), &name)? else { continue };
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                below.push(name);
            } else if is_stat_of_whiteout(&found) {
                self.whiteout(&to.join(name))?;
            } else {
                let directory = Rc::clone(&source);
                let origin = Origin { layer: self.number(), directory, name: None, is_direct };
                self.file(&to.join(&name), origin)?;
            }
        }
        drop(directory);
        for name in below {
            let (from, to) = (from.join(&name), to.join(&name));
            let Some(landing) = self.landing(&from, to)? else { continue };
            let (Landing::At(to) | Landing::Replacing(to)) = &landing;
            check_depth(to.components().count()).with_context(|| format!("`{}`", from.display()))?;
            if self.directory(&from, to)? {
                if let (Landing::Replacing(_), Some(branch)) = (&landing, self.root.find_mut(to)) {
                    branch.cut_off();
                }
                self.content(&from, to)?;
            }
        }
        Ok(())
    }

    fn names(&self, directory: &Directory) -> anyhow::Result<Vec<OsString>> {
        match directory.names(self.memory.items_left()) {
            Err(error) if matches!(error.cause(), Cause::TooMany(_)) => Err(self.memory.exceeded()),
            names => Ok(names?),
        }
    }

    /// The index of the layer that is fitted.
    fn number(&self) -> usize {
        self.view.layers().len() - 1
    }

    /// The proper path of a directory of the layer: for a directory without an entry, the target of a link that a lower
    /// layer has in its place. `None` if it contains only whiteouts, which have nothing to hide.
    fn landing(&self, from: &Path, to: PathBuf) -> anyhow::Result<Option<Landing>> {
        let lower_dependencies = self.layer.lower_dependencies();
        if !lower_dependencies.directories.contains(from) {
            return Ok(Some(Landing::At(to)));
        }
        let is_hollow = lower_dependencies.hollow.contains(from);
        if self.root.hides_below(&to) {
            return Ok((!is_hollow).then_some(Landing::At(to)));
        }
        let (landing, seen) = match self.view.find(&to, Follow::ButLast)? {
            (_, Seen::Link(_)) => self.view.find(&to, Follow::All)?,
            (_, seen) => (to.clone(), seen),
        };
        Ok(match seen {
            Seen::MergedDirectory(_) => Some(Landing::At(landing)),
            _ if is_hollow => None,
            Seen::Nothing => Some(Landing::At(landing)),
            // Nothing can be inside something that is not a directory, so the link is replaced.
            _ => Some(Landing::Replacing(to)),
        })
    }

    /// Plans a directory of the layer; `false` if something is in its way.
    fn directory(&mut self, from: &Path, to: &Path) -> anyhow::Result<bool> {
        let (lower_dependencies, is_direct) = (self.layer.lower_dependencies(), from == to);
        let is_cut_off = lower_dependencies.cut_off.contains(from);
        let is_described = !is_cut_off && !lower_dependencies.directories.contains(from);
        let (is_hollow, is_opaque) = (lower_dependencies.hollow.contains(from), self.layer.is_opaque(from)?);
        // Its place, and the origin of its metadata.
        self.memory.take(2 * from.as_os_str().len() + to.as_os_str().len())?;
        to.iter().skip(self.root.depth_of(to)).try_for_each(|name| self.memory.take(name.len()))?;
        let Some(branch) = self.root.reach(to, is_direct, is_hollow) else { return Ok(false) };
        branch.is_opaque |= is_opaque;
        if is_described && (is_direct || !matches!(branch.description, Description::Of(_))) {
            branch.description = Description::Of(from.to_owned());
        }
        if is_cut_off {
            branch.cut_off();
        }
        self.places.insert(from.to_owned(), to.to_owned());
        Ok(true)
    }

    fn file(&mut self, to: &Path, origin: Origin) -> anyhow::Result<()> {
        let (items, name) = self.items(to)?;
        let stays = match items.get(name) {
            None | Some(Item::Whiteout) => false,
            Some(Item::Branch(branch)) => !origin.is_direct && !branch.is_hollow,
            Some(Item::File(known)) => known.is_direct || !origin.is_direct,
        };
        if !stays {
            items.insert(name.to_owned(), Item::File(origin));
            self.memory.take(name.len())?;
        }
        Ok(())
    }

    /// Plans a whiteout. Whiteouts concern lower layers: a directory of the layer itself stays, but is not merged with
    /// them.
    fn whiteout(&mut self, at: &Path) -> anyhow::Result<()> {
        let (items, name) = self.items(at)?;
        match items.get_mut(name) {
            Some(Item::Branch(branch)) if !branch.is_hollow => branch.cut_off(),
            Some(Item::File(_)) => {}
            _ => {
                items.insert(name.to_owned(), Item::Whiteout);
                self.memory.take(name.len())?;
            }
        }
        Ok(())
    }

    /// The entries of the directory in the copy that contains a path, and the last component of the path.
    fn items<'p>(&mut self, path: &'p Path) -> anyhow::Result<(&mut BTreeMap<OsString, Item>, &'p OsStr)> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            bail!("the root of a layer is not a directory");
        };
        let branch = self.root.find_mut(above).context("a directory of the layer has no place")?;
        Ok((&mut branch.items, name))
    }

    /// Plans the hard links whose targets the layer itself does not have. One may lead to another.
    fn links(&mut self) -> anyhow::Result<()> {
        let waiting = self.layer.lower_dependencies().links.clone();
        let left = links::make_all(waiting, |path, target| self.link(path, target))?;
        let Some((path, target)) = left.first() else { return Ok(()) };
        Err(hinted(
            format!(
                "the hard link `{}` refers to `{}`, which neither its layer nor one below it contains",
                path.display(),
                target.display()
            ),
            "the image is damaged: rebuild it",
        ))
    }

    /// Plans a hard link; `false` if its target is not there yet.
    fn link(&mut self, path: &Path, target: &Path) -> anyhow::Result<bool> {
        let parent = path.parent().and_then(|parent| self.places.get(parent));
        let (Some(parent), Some(name)) = (parent, path.file_name()) else { return Ok(true) };
        let to = parent.join(name);
        let (found_at, seen) = self.view.find(target, Follow::ButLast)?;
        let origin = match (self.root.item(&found_at), seen) {
            (Some(Item::File(origin)), _) => {
                let name = origin.name.clone().or_else(|| found_at.file_name().map(Rc::from));
                Origin { name, ..origin.clone() }
            }
            (Some(Item::Whiteout), _) => return Ok(false),
            (Some(Item::Branch(_)), _) | (None, Seen::MergedDirectory(_)) => {
                bail!("the hard link `{}` refers to a directory", path.display())
            }
            (None, Seen::Other(layer) | Seen::Link(layer)) => {
                self.memory.take(found_at.as_os_str().len())?;
                let (directory, name) = (found_at.parent().map(Rc::from), found_at.file_name().map(Rc::from));
                Origin { layer, directory: directory.context("it has no directory")?, name, is_direct: false }
            }
            (None, Seen::Nothing | Seen::Barred) => return Ok(false),
        };
        self.file(&to, Origin { is_direct: path == to, ..origin })?;
        Ok(true)
    }
}

impl Branch {
    fn find_mut(&mut self, path: &Path) -> Option<&mut Self> {
        path.iter().try_fold(self, |branch, name| match branch.items.get_mut(name) {
            Some(Item::Branch(inner)) => Some(inner),
            _ => None,
        })
    }

    /// How many components of a path are directories here, from its first one on.
    fn depth_of(&self, path: &Path) -> usize {
        let mut branch = self;
        let is_here = |name: &&OsStr| match branch.items.get(*name) {
            Some(Item::Branch(inner)) => {
                branch = inner;
                true
            }
            _ => false,
        };
        path.iter().take_while(is_here).count()
    }

    /// Whether the lower layers are hidden at a path.
    fn hides_below(&self, path: &Path) -> bool {
        let (mut branch, mut names) = (self, path.iter());
        while !branch.is_opaque {
            let Some(Item::Branch(inner)) = names.next().and_then(|name| branch.items.get(name)) else {
                return false;
            };
            branch = inner;
        }
        names.next().is_some()
    }

    fn item(&self, path: &Path) -> Option<&Item> {
        let (above, name) = (path.parent()?, path.file_name()?);
        let branch = above.iter().try_fold(self, |branch, name| match branch.items.get(name) {
            Some(Item::Branch(inner)) => Some(inner),
            _ => None,
        })?;
        branch.items.get(name)
    }

    /// The directory at a path, planned together with its parents. `None` where something else is in its way. Only a
    /// directory that the layer has at exactly this path replaces it, and never a hollow one.
    fn reach(&mut self, path: &Path, is_direct: bool, is_hollow: bool) -> Option<&mut Self> {
        let mut names = path.iter().peekable();
        let mut branch = self;
        while let Some(name) = names.next() {
            let may_replace = is_direct && !is_hollow && names.peek().is_none();
            let item = branch.items.entry(name.to_owned()).or_insert_with(|| Self::hollow(is_hollow));
            match item {
                Item::Whiteout if is_hollow => return None,
                Item::Whiteout => {
                    let mut inner = Self::default();
                    inner.cut_off();
                    *item = Item::Branch(inner);
                }
                Item::File(_) if may_replace => *item = Item::Branch(Self::default()),
                Item::File(_) => return None,
                Item::Branch(inner) => inner.is_hollow &= is_hollow,
            }
            let Item::Branch(inner) = item else { return None };
            branch = inner;
        }
        Some(branch)
    }

    fn hollow(is_hollow: bool) -> Item {
        Item::Branch(Self { is_hollow, ..Self::default() })
    }

    /// Hides the lower layers at its path.
    fn cut_off(&mut self) {
        self.is_opaque = true;
        if self.description == Description::Below {
            self.description = Description::Nothing;
        }
    }
}

/// Drops whiteouts that have nothing to hide, and directories that contain nothing else: overlayfs would list their
/// names.
fn drop_idle(view: &View, branch: &mut Branch, path: &Path, is_hidden: bool) -> anyhow::Result<()> {
    let own = view.layers().len() - 1;
    let is_alone = || match view.find(path, Follow::None)? {
        (_, Seen::MergedDirectory(directory)) => {
            anyhow::Ok(directory.layers.iter().all(|layer| *layer == own))
        }
        _ => Ok(true),
    };
    let is_hidden = is_hidden || branch.is_opaque || is_alone()?;
    if is_hidden {
        branch.items.retain(|_, item| match item {
            Item::Branch(inner) => !inner.is_hollow,
            Item::Whiteout => false,
            Item::File(_) => true,
        });
    }
    for (name, item) in &mut branch.items {
        if let Item::Branch(inner) = item {
            drop_idle(view, inner, &path.join(name), is_hidden)?;
        }
    }
    Ok(())
}

/// Makes the copy as planned.
struct Copy<'a> {
    view: &'a View,
    /// The layer and directory of the last file, as the files of one directory follow each other.
    source: Option<(usize, Rc<Path>, Directory)>,
    /// What the plan and the dependencies of the copy take.
    memory: Memory,
}

impl Copy<'_> {
    fn make(
        &mut self,
        branch: &Branch,
        directory: &Directory,
        path: &Path,
        lower_dependencies: &mut LowerDependencies,
    ) -> anyhow::Result<()> {
        for (name, item) in &branch.items {
            match item {
                Item::Whiteout => make_whiteout(directory.as_fd(), name)?,
                Item::File(origin) => {
                    let made = self.link(origin, directory, name);
                    made.with_context(|| format!("cannot create `{}`", path.join(name).display()))?;
                }
                Item::Branch(inner) => {
                    let below = directory.create_directory(name, MODE_MEANWHILE)?;
                    self.make(inner, &below, &path.join(name), lower_dependencies)?;
                }
            }
        }
        // At most in three of the lists of dependencies.
        self.memory.take(3 * path.as_os_str().len())?;
        if branch.items.values().any(|item| matches!(item, Item::Whiteout)) {
            lower_dependencies.marked.insert(path.to_owned());
        }
        if branch.is_opaque {
            make_opaque(directory.as_fd())?;
        }
        let meta = match &branch.description {
            Description::Of(from) => {
                let layer = self.view.layers().last().context("there is no layer")?;
                Metadata::of_directory(layer.directory(from)?.as_fd())?
            }
            Description::Nothing => {
                lower_dependencies.cut_off.insert(path.to_owned());
                Metadata::unknown()
            }
            Description::Below => {
                lower_dependencies.directories.insert(path.to_owned());
                if branch.is_hollow {
                    lower_dependencies.hollow.insert(path.to_owned());
                }
                Metadata::unknown()
            }
        };
        meta.apply(directory.as_fd(), &Maker::this())
    }

    fn link(&mut self, origin: &Origin, directory: &Directory, name: &OsStr) -> anyhow::Result<()> {
        let above = &origin.directory;
        let source = origin.name.as_deref().unwrap_or(name);
        let is_known =
            self.source.as_ref().is_some_and(|(layer, path, _)| *layer == origin.layer && path == above);
        if !is_known {
            let opened = self.view.layers()[origin.layer].directory(above)?;
            self.source = Some((origin.layer, Rc::clone(above), opened));
        }
        let Some((_, _, opened)) = &self.source else { return Ok(()) };
        Ok(linkat(opened, source, directory, name, AtFlags::empty())?)
    }
}
