//! The `.modinfo` section of a module's ELF file.

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection};
use std::collections::HashSet;

/// Bytes of the section. The largest of Debian have some tens of kB; a compressed module of 100 kB may have one of 64 MiB.
const SECTION_LIMIT: u64 = 1 << 20;
/// Bytes of a value that is kept. The longest of Debian's have a few hundred. An index nests as deep as one alias is long.
const VALUE_LIMIT: usize = 2048;
/// Bytes that a value takes besides its text, about.
const OF_EACH: usize = 64;

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
        let bytes = section.size();
        ensure!(
            bytes <= SECTION_LIMIT,
            "its `.modinfo` section has {bytes} bytes, more than the limit of {SECTION_LIMIT}"
        );
        Self::from_section(section.data().context("its `.modinfo` section is damaged")?)
    }

    /// Parses the section: `key=value` pairs, each terminated by a zero byte.
    fn from_section(section: &[u8]) -> Result<Self> {
        let mut info = Self::default();
        for entry in section.split(|byte| *byte == 0) {
            let entry = String::from_utf8_lossy(entry);
            let Some((key, value)) = entry.split_once('=') else { continue };
            let is_kept = matches!(key, "depends" | "alias" | "softdep" | "vermagic");
            ensure!(
                !is_kept || value.len() <= VALUE_LIMIT,
                "a value of `{key}` in its `.modinfo` section has {} bytes, more than the limit of {VALUE_LIMIT}",
                value.len()
            );
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
        let mut seen = HashSet::new();
        info.depends.retain(|name| seen.insert(name.clone()));
        Ok(info)
    }

    /// The approximate memory that it takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let values = self.depends.iter().chain(&self.aliases).chain(&self.softdeps);
        values.map(|value| value.len() + OF_EACH).sum::<usize>() + OF_EACH
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
        let info = ModInfo::from_section(SECTION).unwrap();
        assert_eq!(info.depends, ["raid6_pq", "libcrc32c", "xor_blocks"]);
        assert_eq!(info.aliases, ["fs-btrfs", "devname:btrfs-control"]);
        assert_eq!(info.release.as_deref(), Some("6.1.0-9-amd64"));
        assert_eq!(info.wished().collect::<Vec<_>>(), ["crc32c", "blake2b_256", "late"]);
        assert_eq!(info.wished_before(), ["crc32c", "blake2b_256"]);
    }

    #[test]
    fn an_empty_depends_field_is_no_dependency() {
        assert!(ModInfo::from_section(b"depends=\0").unwrap().depends.is_empty());
    }

    /// A file in ELF (elf(5)) with this section: header, names of sections, the section, headers of sections.
    fn elf(modinfo: &[u8]) -> Vec<u8> {
        const NAMES: &[u8] = b"\0.modinfo\0names\0\0";
        const HEADER: u64 = 64;
        let start = HEADER + NAMES.len() as u64;
        let section = |name: u32, kind: u32, offset: u64, size: u64| {
            let (name, kind) = ([name, kind].map(u32::to_le_bytes).concat(), [0, 0, offset, size]);
            [name, kind.map(u64::to_le_bytes).concat(), vec![0; 24]].concat()
        };
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend([1, 0, 62, 0, 1, 0, 0, 0]);
        file.extend([0, 0, start + modinfo.len() as u64].map(u64::to_le_bytes).concat());
        file.extend([0_u16, 0, 64, 0, 0, 64, 3, 2].map(u16::to_le_bytes).concat());
        file.extend([NAMES, modinfo].concat());
        file.extend(section(0, 0, 0, 0));
        file.extend(section(1, 1, start, modinfo.len() as u64));
        file.extend(section(10, 3, HEADER, NAMES.len() as u64));
        file
    }

    #[test]
    fn a_repeated_dependency_is_one() {
        assert_eq!(ModInfo::from_section(b"depends=a,b,a\0depends=b\0").unwrap().depends, ["a", "b"]);
    }

    #[test]
    fn the_length_of_a_value_is_limited() {
        let with = |key: &str, bytes: usize| {
            ModInfo::from_section(format!("{key}={}\0", "a".repeat(bytes)).as_bytes())
        };
        assert!(with("alias", VALUE_LIMIT).is_ok() && with("description", VALUE_LIMIT + 1).is_ok());
        let error = with("alias", VALUE_LIMIT + 1).unwrap_err().to_string();
        assert!(error.contains("`alias`") && error.contains("more than the limit of 2048"), "{error}");
    }

    #[test]
    fn the_size_of_the_section_is_limited() {
        let elf = |bytes: u64| ModInfo::from_elf(&elf(&b"alias=x\0".repeat(bytes as usize / 8)));
        assert_eq!(elf(SECTION_LIMIT).unwrap().aliases.len(), SECTION_LIMIT as usize / 8);
        let error = elf(SECTION_LIMIT + 8).unwrap_err().to_string();
        assert!(error.contains("has 1048584 bytes, more than the limit of 1048576"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_a_module_is_reported() {
        let error = ModInfo::from_elf(b"hello").unwrap_err();
        assert_eq!(error.to_string(), "it is not an ELF file");
    }
}
