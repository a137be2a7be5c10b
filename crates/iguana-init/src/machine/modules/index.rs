//! kmod's text indexes: the modules for a name or modalias, and their dependencies (modules.dep(5); modules.alias and
//! modules.softdep as written by depmod(8)).

use crate::pattern;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Normalizes a name or alias: `-` and `_` are equal, except in the ranges of a pattern (kmod's `alias_normalize`).
pub(super) fn normalized(name: &str) -> String {
    let mut is_range = false;
    name.chars()
        .map(|letter| {
            is_range = letter == '[' || is_range && letter != ']';
            if letter == '-' && !is_range { '_' } else { letter }
        })
        .collect()
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Module {
    path: PathBuf,
    /// In the order of modules.dep: the one to load first comes last.
    needs: Vec<String>,
    before: Vec<String>,
    after: Vec<String>,
}

/// The key of patterns whose bus is a pattern itself; no bus has this name.
const ANY_BUS: &str = "*";

/// kmod's text indexes, parsed.
#[derive(Debug, Default)]
pub(super) struct Index {
    modules: HashMap<String, Module>,
    /// Patterns and their modules, by the bus before the first `:`, so that few patterns have to be compared with a
    /// modalias. Patterns whose bus is a pattern itself (`acpi*:PNP0A08:*`) are under [`ANY_BUS`].
    aliases: HashMap<String, Vec<(String, String)>>,
}

impl Index {
    pub(super) fn read(directory: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        Self::parse(&text("modules.dep"), &text("modules.alias"), &text("modules.softdep"))
    }

    fn parse(dep: &str, alias: &str, softdep: &str) -> Self {
        let mut index = Self::default();
        for (path, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_ascii_whitespace().map(module_name).collect();
            let module = Module { path: path.into(), needs, ..Module::default() };
            index.modules.insert(module_name(path), module);
        }
        for line in alias.lines() {
            if let ["alias", pattern, module] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
                let pattern = normalized(pattern);
                let patterns = index.aliases.entry(pattern_bus(&pattern).to_owned()).or_default();
                patterns.push((pattern, normalized(module)));
            }
        }
        for line in softdep.lines() {
            index.add_soft_needs(line);
        }
        index
    }

    /// `softdep NAME pre: A B post: C`
    fn add_soft_needs(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace().skip(1);
        let Some(module) = words.next().and_then(|name| self.modules.get_mut(&normalized(name))) else {
            return;
        };
        let mut side = &mut module.before;
        for word in words {
            match word {
                "pre:" => side = &mut module.before,
                "post:" => side = &mut module.after,
                name => side.push(normalized(name)),
            }
        }
    }

    /// A module and its dependencies, in the order in which to load them.
    pub(super) fn chain(&self, name: &str) -> Vec<String> {
        fn visit(index: &Index, name: &str, seen: &mut HashSet<String>, chain: &mut Vec<String>) {
            let Some(module) = index.modules.get(name) else { return };
            if !seen.insert(name.to_owned()) {
                return;
            }
            module
                .before
                .iter()
                .chain(module.needs.iter().rev())
                .for_each(|need| visit(index, need, seen, chain));
            chain.push(name.to_owned());
            module.after.iter().for_each(|follower| visit(index, follower, seen, chain));
        }
        let mut chain = Vec::new();
        visit(self, name, &mut HashSet::new(), &mut chain);
        chain
    }

    /// The modules for a modalias or name. As in modprobe(8), a module on the `blacklist` is only found by its own
    /// name.
    pub(super) fn find(&self, alias: &str, blacklist: &HashSet<String>) -> Vec<String> {
        let alias = normalized(alias);
        if self.modules.contains_key(&alias) {
            return vec![alias];
        }
        let patterns = [bus(&alias), ANY_BUS].into_iter().filter_map(|bus| self.aliases.get(bus)).flatten();
        let matching = patterns.filter(|(pattern, _)| pattern::matches(pattern, &alias));
        let modules = matching.map(|(_, module)| module.clone());
        modules.filter(|module| !blacklist.contains(module)).collect()
    }

    /// The path of a module, relative to the directory of the index.
    pub(super) fn path(&self, name: &str) -> Option<&Path> {
        Some(&self.modules.get(name)?.path)
    }
}

fn bus(alias: &str) -> &str {
    alias.split(':').next().unwrap_or(alias)
}

fn pattern_bus(pattern: &str) -> &str {
    let bus = bus(pattern);
    if bus.contains(['*', '?', '[']) { ANY_BUS } else { bus }
}

/// The module's name: `kernel/fs/ext4/ext4.ko` is `ext4`.
pub(super) fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normalized(file.split('.').next().unwrap_or(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_indexes_of_kmod_are_understood() {
        let index = Index::parse(
            "kernel/a/virtio-net.ko: kernel/b/failover.ko kernel/b/net_failover.ko\nkernel/b/failover.ko:\n",
            "# comment\nalias virtio:d00000001v* virtio_net\nalias fs-ext4 ext4\n",
            "softdep virtio_net pre: one-a two post: three\n",
        );
        let module = &index.modules["virtio_net"];
        assert_eq!(module.path, PathBuf::from("kernel/a/virtio-net.ko"));
        assert_eq!(module.needs, ["failover", "net_failover"]);
        assert_eq!(
            (module.before.clone(), module.after.clone()),
            (vec!["one_a".into(), "two".into()], vec!["three".into()])
        );
        assert_eq!(index.chain("virtio_net"), ["failover", "virtio_net"]);
        let find = |alias| index.find(alias, &HashSet::new());
        assert_eq!(find("virtio:d00000001v1"), ["virtio_net"]);
        assert_eq!(find("virtio-net"), ["virtio_net"]);
        assert_eq!(find("fs-ext4"), ["ext4"]);
        assert!(find("fs-xfs").is_empty());
    }

    #[test]
    fn a_bus_may_be_a_pattern_and_dashes_are_underscores() {
        let alias = "alias acpi*:PNP0A08:* a\nalias acpi*:VMBUS:* hv-vmbus\nalias platform:i8042-kbd b\n\
                     alias usb:v0*[0-9] c\nalias ?ci:x d\n";
        let index = Index::parse("", alias, "");
        let find = |alias| index.find(alias, &HashSet::new());
        assert_eq!(find("acpi:PNP0A08:PNP0A03:"), ["a"]);
        assert_eq!(find("acpi:VMBUS:"), ["hv_vmbus"]);
        assert_eq!(find("platform:i8042_kbd"), ["b"]);
        assert_eq!(find("usb:v0x5"), ["c"]);
        assert_eq!(find("pci:x"), ["d"]);
    }

    #[test]
    fn a_blacklisted_module_loads_by_its_own_name_only() {
        let index = Index::parse("kernel/a/nouveau.ko:\n", "alias pci:v1* nouveau\nalias pci:v* other\n", "");
        let blacklist = HashSet::from(["nouveau".to_owned()]);
        assert_eq!(index.find("pci:v1", &blacklist), ["other"]);
        assert_eq!(index.find("nouveau", &blacklist), ["nouveau"]);
    }
}
