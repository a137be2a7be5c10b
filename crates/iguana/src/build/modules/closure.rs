//! The transitive closure of a set of modules over their dependencies.

use super::modinfo::ModInfo;
use anyhow::{Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// A module in the closure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Path in the modules directory: `kernel/fs/ext4/ext4.ko`.
    pub(crate) path: String,
    /// Its `.modinfo`.
    pub(crate) info: ModInfo,
}

/// Modules by name. Every dependency of a module is in the map or built into the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Closure(BTreeMap<String, Module>);

impl Closure {
    /// The `wanted` modules with all their dependencies. `load` returns a module by name, or none if there is no such
    /// module. Modules in `builtin` are always available.
    pub(crate) fn of(
        wanted: impl IntoIterator<Item = String>,
        builtin: &BTreeSet<String>,
        mut load: impl FnMut(&str) -> Result<Option<Module>>,
    ) -> Result<Self> {
        let mut modules = BTreeMap::new();
        let mut open: Vec<(String, Need)> = wanted.into_iter().map(|name| (name, Need::Wish)).collect();
        while let Some((name, need)) = open.pop() {
            if modules.contains_key(&name) || builtin.contains(&name) {
                continue;
            }
            match (load(&name)?, need) {
                (Some(module), _) => {
                    let by = || Need::Dependency { of: name.clone() };
                    open.extend(module.info.depends.iter().map(|other| (other.clone(), by())));
                    open.extend(module.info.wished().map(|other| (other, Need::Wish)));
                    modules.insert(name, module);
                }
                (None, Need::Dependency { of }) => {
                    bail!("the kernel module `{of}` needs `{name}`, which is neither installed nor built in")
                }
                // A softdep may name an alias, or a module that this kernel does not have.
                (None, Need::Wish) => {}
            }
        }
        Ok(Self(modules))
    }

    /// The modules by name.
    pub(crate) fn modules(&self) -> &BTreeMap<String, Module> {
        &self.0
    }

    /// `name` with everything that must be loaded before it, in the order of loading.
    pub(crate) fn load_order<'a>(&'a self, name: &str) -> Vec<&'a str> {
        let mut order = Vec::new();
        self.visit(name, &mut BTreeSet::new(), &mut order, &|info| {
            [info.wished_before(), info.depends.clone()].concat()
        });
        order
    }

    /// The direct and indirect dependencies of `name`, in the order of loading.
    pub(crate) fn dependencies<'a>(&'a self, name: &str) -> Vec<&'a str> {
        let mut order = Vec::new();
        self.visit(name, &mut BTreeSet::new(), &mut order, &|info| info.depends.clone());
        order.pop();
        order
    }

    fn visit<'a>(
        &'a self,
        name: &str,
        seen: &mut BTreeSet<&'a str>,
        order: &mut Vec<&'a str>,
        before: &impl Fn(&ModInfo) -> Vec<String>,
    ) {
        let Some((name, module)) = self.0.get_key_value(name) else { return };
        if !seen.insert(name) {
            return;
        }
        for other in before(&module.info) {
            self.visit(&other, seen, order, before);
        }
        order.push(name);
    }
}

enum Need {
    Dependency { of: String },
    Wish,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses modules written as `name: depends [: softdep]`.
    fn closure(wanted: &str, builtin: &str, all: &[&str]) -> Result<Closure> {
        let load = |name: &str| {
            let line = all.iter().find(|line| line.split(':').next() == Some(name));
            Ok(line.map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let depends = parts.next().unwrap().split_whitespace().map(str::to_string).collect();
                let softdeps = parts.map(|softdep| softdep.trim().to_string()).collect();
                Module {
                    path: format!("kernel/{name}.ko"),
                    info: ModInfo { depends, softdeps, ..ModInfo::default() },
                }
            }))
        };
        Closure::of([wanted.to_string()], &BTreeSet::from([builtin.to_string()]), load)
    }

    #[test]
    fn exactly_the_needed_modules_are_included() {
        let all = ["ext4: jbd2 mbcache", "jbd2:", "mbcache: crc", "crc:", "xfs:", "loop:"];
        let closure = closure("ext4", "", &all).unwrap();
        assert_eq!(closure.modules().keys().collect::<Vec<_>>(), ["crc", "ext4", "jbd2", "mbcache"]);
        assert_eq!(closure.dependencies("ext4"), ["jbd2", "crc", "mbcache"]);
    }

    #[test]
    fn a_missing_dependency_is_an_error_unless_it_is_built_in() {
        let error = closure("ext4", "", &["ext4: jbd2"]).unwrap_err().to_string();
        assert_eq!(error, "the kernel module `ext4` needs `jbd2`, which is neither installed nor built in");
        assert!(closure("ext4", "jbd2", &["ext4: jbd2"]).is_ok());
    }

    #[test]
    fn an_existing_soft_dependency_is_included() {
        let all = ["btrfs: xor : pre: crc absent post: late", "xor:", "crc:", "late:"];
        let closure = closure("btrfs", "", &all).unwrap();
        assert_eq!(closure.modules().keys().collect::<Vec<_>>(), ["btrfs", "crc", "late", "xor"]);
        assert_eq!(closure.load_order("btrfs"), ["crc", "xor", "btrfs"]);
    }

    #[test]
    fn a_cycle_of_soft_dependencies_ends() {
        let closure = closure("a", "", &["a: : pre: b", "b: : pre: a"]).unwrap();
        assert_eq!(closure.load_order("a"), ["b", "a"]);
    }
}
