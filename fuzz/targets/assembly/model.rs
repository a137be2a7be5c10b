//! The layer rules (OCI image-spec, layer.md) for trees in memory. It shares nothing with what is tested.
//!
//! Where the rules do not say what a layer means there is no tree: a layer that has a name twice, that leads through a link
//! of its own, or where it matters which of its entries comes first.

use crate::layers::{EntryKind, TarEntry};
use crate::listing::{Attributes, Listing, Thing};
use std::collections::BTreeMap;

/// As many links are followed (path_resolution(7)).
const LINKS_LIMIT: usize = 40;
const ROOT: usize = 0;

/// A file or a directory.
struct Node {
    thing: Thing,
    /// Nothing where no entry says which.
    attributes: Option<Attributes>,
    /// The layer that made it.
    layer: usize,
    children: BTreeMap<String, usize>,
}

struct Tree(Vec<Node>);

/// An entry that was applied.
enum Taken {
    /// To what it leads.
    HardLink(usize),
    Other,
}

/// Where a path leads.
#[derive(Clone, PartialEq, Eq)]
struct Found {
    directory: Option<usize>,
    through_link: bool,
    /// Through a link of this layer, or a place that it has not made yet.
    through_own: bool,
}

/// What the layers give, where the rules say it.
pub(crate) fn tree(layers: &[Vec<TarEntry>]) -> Option<Listing> {
    let root = Node { thing: Thing::Directory, attributes: None, layer: 0, children: BTreeMap::new() };
    let mut tree = Tree(vec![root]);
    for (number, layer) in layers.iter().enumerate() {
        tree.apply(number + 1, layer)?;
    }
    Some(tree.listing())
}

impl Tree {
    fn apply(&mut self, layer: usize, entries: &[TarEntry]) -> Option<()> {
        let is_mark = |entry: &&TarEntry| matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque);
        // "Whiteout files MUST only apply to resources in lower/parent layers": so they come first; that of a directory
        // before those in it.
        let mut marks: Vec<&TarEntry> = entries.iter().filter(is_mark).collect();
        marks.sort_by_key(|entry| (&entry.path, entry.kind == EntryKind::Opaque));
        let mut applied = Vec::new();
        for entry in marks {
            let (above, name) = split(entry);
            let found = self.find(above, layer);
            if let Some(directory) = found.directory {
                match name {
                    Some(name) => drop(self.0[directory].children.remove(name)),
                    None => self.0[directory].children.clear(),
                }
            }
            applied.push((entry, found));
        }
        let mut linked = Vec::new();
        for entry in entries.iter().filter(|entry| !is_mark(entry)) {
            self.reach(split(entry).0, layer)?;
            applied.push((entry, self.find(split(entry).0, layer)));
            if let Taken::HardLink(target) = self.take(layer, entry)? {
                linked.push((entry, target));
            }
        }
        self.expect_same_at_the_end(layer, &applied, &linked)
    }

    /// Nothing, if another order of the entries had given something else.
    fn expect_same_at_the_end(
        &self,
        layer: usize,
        applied: &[(&TarEntry, Found)],
        linked: &[(&TarEntry, usize)],
    ) -> Option<()> {
        let is_by_link = |(entry, before): &(&TarEntry, Found)| {
            matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque) && before.through_link
        };
        let nested = applied.iter().filter(|(entry, _)| !split(entry).0.is_empty()).count();
        if nested > 1 && applied.iter().any(is_by_link) {
            // Whether it hides what others of them lead through.
            return None;
        }
        for (entry, before) in applied {
            let now = self.find(split(entry).0, layer);
            let is_by_links = before.through_link || now.through_link;
            if now.through_own || (is_by_links && now.directory != before.directory) {
                return None;
            }
        }
        for (entry, node) in linked {
            let EntryKind::HardLink(target) = &entry.kind else { continue };
            let (name, above) = target.split_last()?;
            let found = self.find(above, layer);
            if self.0[found.directory?].children.get(*name) != Some(node) {
                return None;
            }
        }
        Some(())
    }

    fn take(&mut self, layer: usize, entry: &TarEntry) -> Option<Taken> {
        let (name, above) = entry.path.split_last()?;
        let directory = self.reach(above, layer)?;
        let present = self.0[directory].children.get(*name).copied();
        let is_own = |node: usize| self.0[node].layer == layer;
        if let EntryKind::HardLink(target) = &entry.kind {
            let (target_name, target_above) = target.split_last()?;
            let found = self.find(target_above, layer);
            let node = *self.0[found.directory?].children.get(*target_name)?;
            if self.0[node].thing == Thing::Directory || present.is_some_and(|node| self.has_of(node, layer))
            {
                return None;
            }
            self.0[directory].children.insert((*name).to_owned(), node);
            // What leads through it leads through a link of this layer.
            self.0[node].layer = layer;
            return Some(Taken::HardLink(node));
        }
        let mode = if matches!(entry.kind, EntryKind::Symlink(_)) { 0 } else { entry.mode };
        let attributes = Some((mode, entry.owner, entry.mtime));
        let thing = match &entry.kind {
            EntryKind::Directory => Thing::Directory,
            EntryKind::File(content) => Thing::File(content.clone()),
            EntryKind::Symlink(target) => Thing::Symlink(target.clone()),
            _ => Thing::Fifo,
        };
        if let Some(node) = present {
            let both_are_directories = thing == Thing::Directory && self.0[node].thing == Thing::Directory;
            let is_described = self.0[node].attributes.is_some();
            if !both_are_directories && self.has_of(node, layer) {
                return None;
            }
            let by_link = self.find(above, layer).through_link;
            if is_own(node) && (!both_are_directories || is_described || by_link) {
                return None;
            }
            if both_are_directories {
                // "the existing path's attributes MUST be replaced by those of the entry in the changeset"
                (self.0[node].attributes, self.0[node].layer) = (attributes, layer);
                return Some(Taken::Other);
            }
        }
        let node = self.add(Node { thing, attributes, layer, children: BTreeMap::new() });
        self.0[directory].children.insert((*name).to_owned(), node);
        Some(Taken::Other)
    }

    /// Whether a layer has made it, or something in it.
    fn has_of(&self, node: usize, layer: usize) -> bool {
        let node = &self.0[node];
        node.layer == layer || node.children.values().any(|child| self.has_of(*child, layer))
    }

    fn add(&mut self, node: Node) -> usize {
        self.0.push(node);
        self.0.len() - 1
    }

    /// The directory at a path; those that are missing are made. Nothing where a link of this layer is in the way, or
    /// something that is not a directory.
    fn reach(&mut self, path: &[&str], layer: usize) -> Option<usize> {
        let (mut left, mut trail, mut links): (Vec<String>, _, _) = (reversed(path), vec![ROOT], 0);
        while let Some(name) = left.pop() {
            if name == ".." {
                trail.truncate((trail.len() - 1).max(1));
                continue;
            }
            let here = *trail.last()?;
            let Some(&child) = self.0[here].children.get(&name) else {
                let made =
                    Node { thing: Thing::Directory, attributes: None, layer, children: BTreeMap::new() };
                let made = self.add(made);
                self.0[here].children.insert(name, made);
                trail.push(made);
                continue;
            };
            match &self.0[child].thing {
                Thing::Directory => trail.push(child),
                Thing::Symlink(target) if self.0[child].layer != layer => {
                    links += 1;
                    if links > LINKS_LIMIT {
                        return None;
                    }
                    follow(target, &mut left, &mut trail);
                }
                _ => return None,
            }
        }
        trail.last().copied()
    }

    /// The directory at a path, if it is there.
    fn find(&self, path: &[&str], layer: usize) -> Found {
        let (mut left, mut trail, mut links) = (reversed(path), vec![ROOT], 0);
        let mut found = Found { directory: None, through_link: false, through_own: false };
        while let Some(name) = left.pop() {
            if name == ".." {
                trail.truncate((trail.len() - 1).max(1));
                continue;
            }
            let here = trail[trail.len() - 1];
            let Some(&child) = self.0[here].children.get(&name) else { return found };
            match &self.0[child].thing {
                Thing::Directory => trail.push(child),
                Thing::Symlink(target) => {
                    found.through_link = true;
                    found.through_own |= self.0[child].layer == layer;
                    links += 1;
                    if links > LINKS_LIMIT {
                        return found;
                    }
                    follow(target, &mut left, &mut trail);
                }
                _ => return found,
            }
        }
        found.directory = trail.last().copied();
        found
    }

    fn listing(&self) -> Listing {
        let (mut listing, mut places): (Listing, BTreeMap<usize, Vec<String>>) = Default::default();
        let mut left = vec![(String::new(), ROOT)];
        while let Some((path, number)) = left.pop() {
            let node = &self.0[number];
            let text = if path.is_empty() { "/".to_owned() } else { path.clone() };
            if node.thing != Thing::Directory {
                places.entry(number).or_default().push(text.clone());
            }
            listing.add(text, node.thing.clone(), node.attributes);
            left.extend(node.children.iter().map(|(name, child)| (format!("{path}/{name}"), *child)));
        }
        listing.link(places.into_values().collect());
        listing
    }
}

/// Of a mark: the directory that it is about, and the name in it, unless it is about all.
fn split(entry: &TarEntry) -> (&[&'static str], Option<&'static str>) {
    match (&entry.kind, entry.path.split_last()) {
        (EntryKind::Opaque, _) | (_, None) => (&entry.path, None),
        (_, Some((name, above))) => (above, Some(name)),
    }
}

/// The last name first.
fn reversed(path: &[&str]) -> Vec<String> {
    path.iter().rev().map(|name| (*name).to_owned()).collect()
}

fn follow(target: &str, left: &mut Vec<String>, trail: &mut Vec<usize>) {
    if target.starts_with('/') {
        trail.truncate(1);
    }
    let names = target.split('/').filter(|name| !matches!(*name, "" | "."));
    left.extend(names.rev().map(str::to_owned));
}
