//! The `.modinfo` section of a module's ELF file.

use anyhow::{Context, Result};
use object::{Object, ObjectSection};

/// The fields of `.modinfo` that loading needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModInfo {
    /// Names of the modules whose symbols this one uses.
    pub(crate) depends: Vec<String>,
    /// Patterns of the devices and requests that it serves.
    pub(crate) aliases: Vec<String>,
    /// Modules to load before and after it, as in modprobe.d(5): `pre: a b post: c`.
    pub(crate) softdeps: Vec<String>,
    /// `uname -r` of the kernel that it was built for.
    pub(crate) release: Option<String>,
}

impl ModInfo {
    /// Parses the bytes of an uncompressed module.
    pub(crate) fn from_elf(bytes: &[u8]) -> Result<Self> {
        let file = object::File::parse(bytes).context("it is not an ELF file")?;
        let section = file.section_by_name(".modinfo").context("it has no `.modinfo` section")?;
        Ok(Self::from_section(section.data().context("its `.modinfo` section is damaged")?))
    }

    /// Parses the section: `key=value` pairs, each terminated by a zero byte.
    fn from_section(section: &[u8]) -> Self {
        let mut info = Self::default();
        for entry in section.split(|byte| *byte == 0) {
            let entry = String::from_utf8_lossy(entry);
            let Some((key, value)) = entry.split_once('=') else { continue };
            match key {
                "depends" => {
                    info.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(name_of))
                }
                "alias" => info.aliases.push(value.to_string()),
                "softdep" => info.softdeps.push(value.to_string()),
                "vermagic" => info.release = value.split(' ').next().map(str::to_string),
                _ => {}
            }
        }
        info
    }

    /// Names of all modules in the softdeps.
    pub(crate) fn wished(&self) -> impl Iterator<Item = String> {
        let words = self.softdeps.iter().flat_map(|softdep| softdep.split_whitespace());
        words.filter(|word| !word.ends_with(':')).map(name_of)
    }

    /// Names of the modules in the softdeps that should be loaded before this one.
    pub(crate) fn wished_before(&self) -> Vec<String> {
        let mut before = false;
        let mut names = Vec::new();
        for word in self.softdeps.iter().flat_map(|softdep| softdep.split_whitespace()) {
            match word.strip_suffix(':') {
                Some(when) => before = when == "pre",
                None if before => names.push(name_of(word)),
                None => {}
            }
        }
        names
    }
}

/// The kernel's name of a module: file names may have dashes where the kernel has underscores.
pub(crate) fn name_of(text: &str) -> String {
    text.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION: &[u8] = b"softdep=pre: crc32c blake2b-256\0softdep=post: late\0license=GPL\0\
        alias=fs-btrfs\0alias=devname:btrfs-control\0depends=raid6_pq,libcrc32c,xor-blocks\0\
        vermagic=6.1.0-9-amd64 SMP preempt mod_unload modversions \0";

    #[test]
    fn all_fields_are_read() {
        let info = ModInfo::from_section(SECTION);
        assert_eq!(info.depends, ["raid6_pq", "libcrc32c", "xor_blocks"]);
        assert_eq!(info.aliases, ["fs-btrfs", "devname:btrfs-control"]);
        assert_eq!(info.release.as_deref(), Some("6.1.0-9-amd64"));
        assert_eq!(info.wished().collect::<Vec<_>>(), ["crc32c", "blake2b_256", "late"]);
        assert_eq!(info.wished_before(), ["crc32c", "blake2b_256"]);
    }

    #[test]
    fn an_empty_depends_field_is_no_dependency() {
        assert!(ModInfo::from_section(b"depends=\0").depends.is_empty());
    }

    #[test]
    fn a_file_that_is_not_a_module_is_reported() {
        let error = ModInfo::from_elf(b"hello").unwrap_err();
        assert_eq!(error.to_string(), "it is not an ELF file");
    }
}
