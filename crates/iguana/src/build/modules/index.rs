//! The indexes of a modules directory, which modprobe reads, in the formats of depmod(8).

use super::binary;
use super::closure::{Closure, Module};
use anyhow::{Result, ensure};

/// Bytes of `modules.dep`; Debian's largest has less than a million. A chain of modules makes it as long as the square of
/// the chain.
const DEP_LIMIT: usize = 16 << 20;

/// Every index: file name and content. kmod reads the binary ones, and Iguana the text ones. `builtin` is the kernel's
/// own `modules.builtin`, and `in_kernel` the names in it.
pub(crate) fn all<'a>(
    closure: &Closure,
    builtin: &str,
    in_kernel: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let (dep, names) = (dep(closure)?, closure.modules().keys().map(String::as_str));
    let aliases = aliases(closure);
    let aliases = aliases.iter().map(|(alias, name)| (alias.as_str(), *name));
    Ok(vec![
        ("modules.dep.bin", binary::index(names.zip(dep.lines()))),
        ("modules.alias.bin", binary::index(aliases)),
        ("modules.builtin.bin", binary::index(in_kernel.into_iter().map(|name| (name, "")))),
        // modprobe(8) reads these, too; nobody asks for a module by a symbol.
        ("modules.builtin.alias.bin", binary::index([])),
        ("modules.symbols.bin", binary::index([])),
        ("modules.alias", alias(closure).into()),
        ("modules.softdep", softdep(closure).into()),
        ("modules.devname", devname(closure).into()),
        ("modules.builtin", builtin.into()),
        ("modules.dep", dep.into()),
    ])
}

/// Pairs of alias and module, normalized as kmod looks them up: `-` is `_`, except in a range of letters.
fn aliases(closure: &Closure) -> Vec<(String, &str)> {
    let normalized = |alias: &str| {
        let mut is_range = false;
        let letters = alias.chars().map(|letter| {
            is_range = letter == '[' || is_range && letter != ']';
            if letter == '-' && !is_range { '_' } else { letter }
        });
        letters.collect::<String>()
    };
    let modules = closure.modules().iter();
    modules
        .flat_map(|(name, module)| module.info.aliases.iter().map(move |alias| (normalized(alias), &**name)))
        .collect()
}

/// `modules.devname`: the nodes whose opening loads a module, such as `fuse fuse c10:229`.
fn devname(closure: &Closure) -> String {
    let lines = closure.modules().iter().filter_map(|(name, module)| {
        let (node, number) = node(module)?;
        Some(format!("{name} {node} {number}\n"))
    });
    lines.collect()
}

/// The node of a module, from its aliases `devname:NAME` and `char-major-MAJOR-MINOR` (or `block-major-`).
fn node(module: &Module) -> Option<(&str, String)> {
    let after = |prefix: &str| module.info.aliases.iter().find_map(|alias| alias.strip_prefix(prefix));
    let kinds = [("char-major-", 'c'), ("block-major-", 'b')];
    let numbers = kinds.into_iter().find_map(|(prefix, kind)| {
        let (major, minor) = after(prefix)?.split_once('-')?;
        let numbers = (major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?);
        Some(format!("{kind}{}:{}", numbers.0, numbers.1))
    });
    Some((after("devname:")?, numbers?))
}

/// `modules.dep`: each module with all its dependencies; the one to load first comes last.
fn dep(closure: &Closure) -> Result<String> {
    let mut text = String::new();
    let path = |name: &str| closure.modules()[name].path.as_str();
    for name in closure.modules().keys() {
        text.push_str(path(name));
        text.push(':');
        for dependency in closure.dependencies(name).iter().rev() {
            text.push(' ');
            text.push_str(path(dependency));
            ensure!(
                text.len() <= DEP_LIMIT,
                "the dependencies of the kernel modules have more than {} MiB",
                DEP_LIMIT >> 20
            );
        }
        text.push('\n');
    }
    Ok(text)
}

/// `modules.alias`: the module for each device or request.
fn alias(closure: &Closure) -> String {
    let modules = closure.modules().iter();
    let lines = modules.flat_map(|(name, module)| {
        module.info.aliases.iter().map(move |alias| format!("alias {alias} {name}\n"))
    });
    lines.collect()
}

/// `modules.softdep`: modules to load before and after a module.
fn softdep(closure: &Closure) -> String {
    let modules = closure.modules().iter();
    let lines = modules.flat_map(|(name, module)| {
        module.info.softdeps.iter().map(move |softdep| format!("softdep {name} {softdep}\n"))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::modules::modinfo::ModInfo;
    use std::collections::BTreeSet;

    fn closure() -> Closure {
        let load = |name: &str| {
            let info = match name {
                "ext4" => ModInfo {
                    depends: vec!["jbd2".into()],
                    aliases: vec!["fs-ext4".into(), "ext3".into()],
                    softdeps: vec!["pre: crc32c".into()],
                    release: None,
                },
                "jbd2" => ModInfo { depends: vec!["crc16".into()], ..ModInfo::default() },
                "crc16" => ModInfo::default(),
                _ => return Ok(None),
            };
            Ok(Some(Module { path: format!("kernel/{name}.ko"), info }))
        };
        Closure::of(["ext4".to_string()], &BTreeSet::new(), load).unwrap()
    }

    #[test]
    fn the_module_to_load_first_is_listed_last() {
        let expected = "kernel/crc16.ko:\n\
                        kernel/ext4.ko: kernel/jbd2.ko kernel/crc16.ko\n\
                        kernel/jbd2.ko: kernel/crc16.ko\n";
        assert_eq!(dep(&closure()).unwrap(), expected);
    }

    #[test]
    fn the_dependencies_of_all_modules_together_are_limited() {
        let load = |name: &str| {
            let number: u32 = name.parse()?;
            let depends = Vec::from_iter((number < 4_000).then(|| (number + 1).to_string()));
            let info = ModInfo { depends, ..ModInfo::default() };
            Ok(Some(Module { path: format!("kernel/{name}.ko"), info }))
        };
        let chain = Closure::of(["0".to_string()], &BTreeSet::new(), load).unwrap();
        let error = dep(&chain).unwrap_err().to_string();
        assert_eq!(error, "the dependencies of the kernel modules have more than 16 MiB");
    }

    #[test]
    fn aliases_and_softdeps_are_written_as_modprobe_reads_them() {
        assert_eq!(alias(&closure()), "alias fs-ext4 ext4\nalias ext3 ext4\n");
        assert_eq!(softdep(&closure()), "softdep ext4 pre: crc32c\n");
    }

    #[test]
    fn a_module_that_is_loaded_by_opening_a_node_is_listed_with_it() {
        let of = |aliases: &[&str]| {
            let info = ModInfo {
                aliases: aliases.iter().map(|alias| (*alias).into()).collect(),
                ..ModInfo::default()
            };
            let load = |_: &str| Ok(Some(Module { path: "kernel/fuse.ko".into(), info: info.clone() }));
            devname(&Closure::of(["fuse".to_string()], &BTreeSet::new(), load).unwrap())
        };
        assert_eq!(of(&["fs-fuse", "devname:fuse", "char-major-10-229"]), "fuse fuse c10:229\n");
        assert_eq!(of(&["devname:net/tun", "char-major-10-200"]), "fuse net/tun c10:200\n");
        assert_eq!(of(&["devname:fuse"]), "");
        assert_eq!(of(&["char-major-10-*"]), "");
    }
}
