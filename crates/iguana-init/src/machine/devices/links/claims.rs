//! Which device gets which link, and the links themselves.

use super::names::Priority;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

/// The temporary name of a link; no device has this name.
const UNFINISHED: &str = ".iguana-link";

/// Which devices claim which links. The device with the highest priority gets a link; among equals, the first to claim
/// it.
pub(super) struct Claims {
    /// `/dev`
    directory: PathBuf,
    /// By path of the link in the directory.
    links: BTreeMap<String, Vec<Claim>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    /// The path of the device's node in the directory.
    node: String,
    priority: Priority,
    /// When the link was claimed.
    turn: u64,
}

impl Claims {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), links: BTreeMap::new() }
    }

    /// Replaces the links that a device claims, and updates the file system; each link may fail by itself. Links that
    /// the device claimed before keep their turn.
    pub(super) fn replace(
        &mut self,
        node: &str,
        priority: Priority,
        turn: u64,
        names: &[String],
        failed: &mut dyn FnMut(&str, io::Error),
    ) {
        for name in self.drop_others(node, names) {
            self.make(&name).unwrap_or_else(|error| failed(&name, error));
        }
        self.add(node, priority, turn, names, failed);
        self.links.retain(|_, claims| !claims.is_empty());
    }

    /// Adds links to those that a device claims.
    pub(super) fn add(
        &mut self,
        node: &str,
        priority: Priority,
        turn: u64,
        names: &[String],
        failed: &mut dyn FnMut(&str, io::Error),
    ) {
        for name in names {
            self.claim(name, Claim { node: node.to_owned(), priority, turn });
            self.make(name).unwrap_or_else(|error| failed(name, error));
        }
    }

    fn drop_others(&mut self, node: &str, kept: &[String]) -> Vec<String> {
        let mut dropped = Vec::new();
        for (name, claims) in self.links.iter_mut().filter(|(name, _)| !kept.contains(name)) {
            let before = claims.len();
            claims.retain(|claim| claim.node != node);
            if claims.len() < before {
                dropped.push(name.clone());
            }
        }
        dropped
    }

    fn claim(&mut self, name: &str, claim: Claim) {
        let claims = self.links.entry(name.to_owned()).or_default();
        match claims.iter_mut().find(|other| other.node == claim.node) {
            Some(other) => other.priority = claim.priority,
            None => claims.push(claim),
        }
        claims.sort_by_key(|claim| (-claim.priority, claim.turn));
    }

    fn make(&self, name: &str) -> io::Result<()> {
        match self.links.get(name).and_then(|claims| claims.first()) {
            Some(claim) => self.lead(name, &claim.node),
            None => self.take_away(name),
        }
    }

    fn lead(&self, name: &str, node: &str) -> io::Result<()> {
        let (link, device) = (self.directory.join(name), self.directory.join(node));
        if is_same_device(&link, &device) || is_node(&link) {
            // Without udev, LVM and dmsetup create nodes and links of their own; these are kept.
            return Ok(());
        }
        link.parent().map_or(Ok(()), fs::create_dir_all)?;
        let unfinished = self.directory.join(UNFINISHED);
        let _ = fs::remove_file(&unfinished);
        symlink(target(name, node), &unfinished)?;
        fs::rename(unfinished, link)
    }

    fn take_away(&self, name: &str) -> io::Result<()> {
        let link = self.directory.join(name);
        if !link.is_symlink() {
            return Ok(());
        }
        fs::remove_file(&link)?;
        // Remove empty directories, because LVM takes a directory with a group's name for the group.
        let directories = link.ancestors().skip(1).take_while(|directory| *directory != self.directory);
        directories.map_while(|directory| fs::remove_dir(directory).ok()).for_each(drop);
        Ok(())
    }
}

/// The link's target: relative, because `/dev` is moved into the new system.
fn target(name: &str, node: &str) -> String {
    "../".repeat(name.matches('/').count()) + node
}

fn is_same_device(link: &Path, device: &Path) -> bool {
    match (fs::metadata(link), fs::metadata(device)) {
        (Ok(link), Ok(device)) => link.file_type().is_block_device() && link.rdev() == device.rdev(),
        _ => false,
    }
}

fn is_node(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| !found.is_symlink())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims in a directory of their own.
    fn claims(name: &str) -> Claims {
        let directory = std::env::temp_dir().join(format!("iguana-claims-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        Claims::new(&directory)
    }

    fn claim(claims: &mut Claims, node: &str, priority: Priority, turn: u64, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        claims.replace(node, priority, turn, &names, &mut |name, error| panic!("{name}: {error}"));
    }

    fn leads_to(claims: &Claims, name: &str) -> Option<String> {
        fs::read_link(claims.directory.join(name)).ok().map(|target| target.display().to_string())
    }

    const LABEL: &str = "disk/by-label/ROOT";

    #[test]
    fn a_link_is_relative_and_goes_with_its_device() {
        let mut claims = claims("one");
        claim(&mut claims, "vda1", 0, 1, &[LABEL, "cdrom"]);
        assert_eq!(leads_to(&claims, LABEL).as_deref(), Some("../../vda1"));
        assert_eq!(leads_to(&claims, "cdrom").as_deref(), Some("vda1"));
        claim(&mut claims, "vda1", 0, 2, &["cdrom"]);
        assert!(!claims.directory.join("disk").exists(), "its directory is gone, too");
        claim(&mut claims, "vda1", 0, 3, &[]);
        assert_eq!(fs::read_dir(&claims.directory).unwrap().count(), 0);
        fs::remove_dir_all(&claims.directory).unwrap();
    }

    #[test]
    fn the_link_of_a_duplicate_label_is_the_first_device() {
        let mut claims = claims("two");
        claim(&mut claims, "vdb1", 0, 2, &[LABEL]);
        claim(&mut claims, "vda1", 0, 1, &[LABEL]);
        assert_eq!(leads_to(&claims, LABEL).as_deref(), Some("../../vda1"), "looked at earlier, known later");
        claim(&mut claims, "vdc1", 0, 3, &[LABEL]);
        claim(&mut claims, "vda1", 0, 4, &[LABEL]);
        assert_eq!(leads_to(&claims, LABEL).as_deref(), Some("../../vda1"), "looked at again");
        claim(&mut claims, "vda1", 0, 5, &[]);
        assert_eq!(leads_to(&claims, LABEL).as_deref(), Some("../../vdb1"), "the next one has it");
        fs::remove_dir_all(&claims.directory).unwrap();
    }

    #[test]
    fn an_array_comes_before_its_members() {
        let mut claims = claims("array");
        claim(&mut claims, "vda1", 0, 1, &[LABEL]);
        claim(&mut claims, "md0", 100, 2, &[LABEL]);
        assert_eq!(leads_to(&claims, LABEL).as_deref(), Some("../../md0"));
        fs::remove_dir_all(&claims.directory).unwrap();
    }

    #[test]
    fn foreign_files_are_kept() {
        let mut claims = claims("others");
        fs::create_dir_all(claims.directory.join("mapper")).unwrap();
        fs::write(claims.directory.join("mapper/root"), "").unwrap();
        claim(&mut claims, "dm-0", 100, 1, &["mapper/root"]);
        claim(&mut claims, "dm-0", 100, 2, &[]);
        assert!(claims.directory.join("mapper/root").is_file());
        fs::remove_dir_all(&claims.directory).unwrap();
    }
}
