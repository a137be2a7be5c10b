//! The text indexes of a modules directory, which modprobe reads, in the formats of depmod(8).

use super::closure::Closure;

/// `modules.dep`: each module with all its dependencies; the one to load first comes last.
pub(crate) fn dep(closure: &Closure) -> String {
    let mut text = String::new();
    let path = |name: &str| closure.modules()[name].path.as_str();
    for name in closure.modules().keys() {
        text.push_str(path(name));
        text.push(':');
        for dependency in closure.dependencies(name).iter().rev() {
            text.push(' ');
            text.push_str(path(dependency));
        }
        text.push('\n');
    }
    text
}

/// `modules.alias`: the module for each device or request.
pub(crate) fn alias(closure: &Closure) -> String {
    let modules = closure.modules().iter();
    let lines = modules.flat_map(|(name, module)| {
        module.info.aliases.iter().map(move |alias| format!("alias {alias} {name}\n"))
    });
    lines.collect()
}

/// `modules.softdep`: modules to load before and after a module.
pub(crate) fn softdep(closure: &Closure) -> String {
    let modules = closure.modules().iter();
    let lines = modules.flat_map(|(name, module)| {
        module.info.softdeps.iter().map(move |softdep| format!("softdep {name} {softdep}\n"))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::modules::{closure::Module, modinfo::ModInfo};
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
    fn what_must_be_loaded_first_stands_last() {
        let expected = "kernel/crc16.ko:\n\
                        kernel/ext4.ko: kernel/jbd2.ko kernel/crc16.ko\n\
                        kernel/jbd2.ko: kernel/crc16.ko\n";
        assert_eq!(dep(&closure()), expected);
    }

    #[test]
    fn aliases_and_softdeps_are_written_as_modprobe_reads_them() {
        assert_eq!(alias(&closure()), "alias fs-ext4 ext4\nalias ext3 ext4\n");
        assert_eq!(softdep(&closure()), "softdep ext4 pre: crc32c\n");
    }
}
