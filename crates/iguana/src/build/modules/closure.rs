//! The transitive closure of a set of modules over their dependencies.

use super::modinfo::ModInfo;
use anyhow::{Result, bail};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

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
        self.ordered(name, |info| {
            let wished = info.wished_before().into_iter().map(Cow::Owned);
            wished.chain(info.depends.iter().map(Into::into)).collect()
        })
    }

    /// The direct and indirect dependencies of `name`, in the order of loading.
    pub(crate) fn dependencies<'a>(&'a self, name: &str) -> Vec<&'a str> {
        let mut order = self.ordered(name, |info| info.depends.iter().map(Into::into).collect());
        order.pop();
        order
    }

    /// `name`, after all that has to come before it. Without recursion: a chain of modules may be as long as the list of
    /// all.
    fn ordered<'a>(&'a self, name: &str, before: impl Fn(&'a ModInfo) -> Vec<Cow<'a, str>>) -> Vec<&'a str> {
        let (mut seen, mut order) = (HashSet::new(), Vec::new());
        let mut open = vec![Visit::Enter(Cow::Owned(name.to_owned()))];
        while let Some(visit) = open.pop() {
            let name = match visit {
                Visit::Leave(name) => {
                    order.push(name);
                    continue;
                }
                Visit::Enter(name) => name,
            };
            let Some((name, module)) = self.0.get_key_value(&*name) else { continue };
            if seen.insert(&**name) {
                open.push(Visit::Leave(name));
                open.extend(before(&module.info).into_iter().rev().map(Visit::Enter));
            }
        }
        order
    }
}

/// A step of the walk through modules.
enum Visit<'a> {
    /// Those before it come next.
    Enter(Cow<'a, str>),
    /// Those before it are done.
    Leave(&'a str),
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
    fn a_chain_of_modules_may_have_any_length() {
        let load = |name: &str| {
            let number: u32 = name.parse()?;
            let depends = Vec::from_iter((number < 100_000).then(|| (number + 1).to_string()));
            let info = ModInfo { depends, ..ModInfo::default() };
            Ok(Some(Module { path: String::new(), info }))
        };
        let closure = Closure::of(["0".to_string()], &BTreeSet::new(), load).unwrap();
        assert_eq!(closure.load_order("0").len(), 100_001);
        assert_eq!(closure.dependencies("0")[..2], ["100000", "99999"]);
    }

    #[test]
    fn a_cycle_of_soft_dependencies_ends() {
        let closure = closure("a", "", &["a: : pre: b", "b: : pre: a"]).unwrap();
        assert_eq!(closure.load_order("a"), ["b", "a"]);
    }
}
