//! Loader entries: Boot Loader Specification (uapi-group.org), types 1 and 2, their order and the default.

use super::SearchLocation;
use super::cmdline;
use super::unified;
use crate::pattern;
use std::cmp::Ordering;
use std::collections::HashSet;
use uapi_version::strverscmp;

/// Directories of entries of type 1 and of type 2.
const TEXTS: &str = "loader/entries";
const IMAGES: &str = "EFI/Linux";
/// The configuration of systemd-boot (loader.conf(5)).
const SETTINGS: &str = "loader/loader.conf";

/// The most entries that are read of one location; a system with many kernels has a dozen.
const ENTRIES_LIMIT: usize = 512;
/// Bytes of an entry that are read; one with a long command line has 3 kB.
const ENTRY_LIMIT: usize = 64 << 10;

/// Bytes of a file name (linux/limits.h, NAME_MAX): a longer pattern matches nothing.
const NAME_LIMIT: usize = 255;

/// One loader entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LoaderEntry {
    /// The file name, without the boot counter.
    pub(super) id: String,
    title: String,
    sort_key: String,
    machine_id: String,
    version: String,
    architecture: String,
    /// Its boot counter has no tries left, and no boot succeeded.
    is_bad: bool,
    pub(super) linux: Option<String>,
    /// A unified kernel image: kernel, initrd and command line in one file.
    pub(super) unified: Option<String>,
    /// The values of `initrd`, each of which may hold several paths and variables of GRUB.
    pub(super) initrds: Vec<String>,
    pub(super) options: Vec<String>,
}

/// All entries for this architecture: the default first, then in the order of the specification, newest version first.
pub(super) fn in_order(places: &[SearchLocation]) -> Vec<(&SearchLocation, LoaderEntry)> {
    let mut seen = HashSet::new();
    let mut entries: Vec<(&SearchLocation, LoaderEntry)> = places
        .iter()
        .flat_map(|place| of(place).into_iter().map(move |entry| (place, entry)))
        .filter(|(_, entry)| entry.is_for_this_machine() && seen.insert(entry.id.clone()))
        .collect();
    entries.sort_by(|(_, one), (_, other)| one.compare(other));
    let default = places.iter().find_map(|place| default(&place.text(SETTINGS)?));
    let chosen = places.iter().find_map(cmdline::chosen_entry);
    let first = match (default, chosen) {
        (Some(default), _) => entries.iter().position(|(_, entry)| pattern::matches(&default, &entry.id)),
        (None, Some(chosen)) => position(&chosen, &entries),
        (None, None) => None,
    };
    if let Some(first) = first.filter(|first| *first < entries.len()) {
        entries[..=first].rotate_right(1);
    }
    entries
}

/// The place of the entry that GRUB names: by its file name without `.conf`, by its title, or by its number (blscfg, and
/// GRUB's manual, `default`).
fn position(chosen: &str, entries: &[(&SearchLocation, LoaderEntry)]) -> Option<usize> {
    let is_chosen = |id: &str| id == chosen || id.strip_suffix(".conf") == Some(chosen);
    let by_id = entries.iter().position(|(_, entry)| is_chosen(&entry.id));
    let by_title = || entries.iter().position(|(_, entry)| entry.title == chosen);
    by_id.or_else(by_title).or_else(|| chosen.parse().ok())
}

fn of(place: &SearchLocation) -> Vec<LoaderEntry> {
    let named = |directory: &str, ending: &str| -> Vec<String> {
        let mut names = place.names(directory);
        names.retain(|name| name.ends_with(ending));
        names
    };
    let texts = named(TEXTS, ".conf").into_iter().filter_map(|name| {
        let text = place.text(&format!("{TEXTS}/{name}")).filter(|text| text.len() <= ENTRY_LIMIT)?;
        Some(parse(&name, &text))
    });
    let images = named(IMAGES, ".efi").into_iter().filter_map(|name| {
        let path = format!("{IMAGES}/{name}");
        let release = unified::os_release(&place.open(&path).ok()?)?;
        Some(of_image(&name, path, &release))
    });
    texts.chain(images).take(ENTRIES_LIMIT).collect()
}

fn parse(name: &str, text: &str) -> LoaderEntry {
    let (id, is_bad) = without_tries(name);
    let mut entry = LoaderEntry { id, is_bad, ..LoaderEntry::default() };
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let (key, value) =
            line.split_once([' ', '\t']).map_or((line, ""), |(key, value)| (key, value.trim()));
        let value = value.to_owned();
        match key {
            "title" => entry.title = value,
            "sort-key" => entry.sort_key = value,
            "machine-id" => entry.machine_id = value,
            "version" => entry.version = value,
            "architecture" => entry.architecture = value,
            "linux" => entry.linux = Some(value),
            "uki" | "efi" => entry.unified = Some(value),
            "initrd" => entry.initrds.push(value),
            "options" => entry.options.push(value),
            _ => {}
        }
    }
    entry
}

/// An entry of type 2. Its os-release(5) contains what an entry of type 1 has as keys.
fn of_image(name: &str, path: String, release: &str) -> LoaderEntry {
    let (id, is_bad) = without_tries(name);
    let value = |key: &str| {
        let lines = release.lines();
        let value = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).next();
        value.map(|value| value.trim_matches(['"', '\'']).to_owned())
    };
    let first = |keys: &[&str]| keys.iter().find_map(|key| value(key)).unwrap_or_default();
    LoaderEntry {
        id,
        is_bad,
        sort_key: first(&["IMAGE_ID", "ID"]),
        version: first(&["IMAGE_VERSION", "VERSION_ID", "BUILD_ID"]),
        unified: Some(path),
        ..LoaderEntry::default()
    }
}

/// Splits `name+LEFT-DONE.conf` (section "Boot counting") into the name without the counter, and whether no try is
/// left.
fn without_tries(name: &str) -> (String, bool) {
    let counted = || {
        let (stem, ending) = name.rsplit_once('.')?;
        let (stem, count) = stem.rsplit_once('+')?;
        let left = count.split('-').next()?.parse::<u32>().ok()?;
        Some((format!("{stem}.{ending}"), left == 0))
    };
    counted().unwrap_or_else(|| (name.to_owned(), false))
}

/// The pattern of `default` in loader.conf. `@saved` and the like refer to firmware variables, which are not read.
fn default(settings: &str) -> Option<String> {
    let lines = settings.lines().filter_map(|line| line.trim().strip_prefix("default"));
    let value = lines.filter(|value| value.starts_with([' ', '\t'])).map(str::trim).next_back()?;
    let is_pattern = (1..=NAME_LIMIT).contains(&value.len()) && !value.starts_with('@');
    is_pattern.then(|| value.to_owned())
}

impl LoaderEntry {
    fn is_for_this_machine(&self) -> bool {
        /// Names of architectures in the specification, which are those of EFI.
        const NAMES: &[(&str, &str)] = &[("x86_64", "x64"), ("aarch64", "aa64")];
        let name =
            NAMES.iter().find(|(ours, _)| *ours == std::env::consts::ARCH).map_or("", |(_, name)| name);
        self.architecture.is_empty() || self.architecture.eq_ignore_ascii_case(name)
    }

    /// The order of section "Sorting"; an entry that sorts first is less.
    fn compare(&self, other: &Self) -> Ordering {
        let by_tries = self.is_bad.cmp(&other.is_bad);
        let by_presence = self.sort_key.is_empty().cmp(&other.sort_key.is_empty());
        let by_keys = || {
            let same_kind =
                self.sort_key.cmp(&other.sort_key).then_with(|| self.machine_id.cmp(&other.machine_id));
            same_kind.then_with(|| strverscmp(&other.version, &self.version))
        };
        let sorted = by_tries.then(by_presence);
        let sorted = if self.sort_key.is_empty() { sorted } else { sorted.then_with(by_keys) };
        sorted.then_with(|| strverscmp(&other.id, &self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::directory;
    use super::*;

    const FEDORA: &str = "title Fedora\nversion 6.9.5\nlinux /vmlinuz-6.9.5\ninitrd /initramfs-6.9.5.img\n\
        initrd /extra.img $tuned_initrd\noptions root=UUID=1 ro\noptions quiet\n# no comment\n";

    #[test]
    fn an_entry_is_read() {
        let entry = parse("fedora+0-3.conf", FEDORA);
        assert_eq!((entry.id.as_str(), entry.is_bad), ("fedora.conf", true));
        assert_eq!(entry.linux.as_deref(), Some("/vmlinuz-6.9.5"));
        assert_eq!((entry.initrds.len(), entry.options.join(" ")), (2, "root=UUID=1 ro quiet".to_owned()));
        assert_eq!(without_tries("a+2.conf"), ("a.conf".into(), false));
        assert_eq!(without_tries("a+b.conf"), ("a+b.conf".into(), false));
    }

    #[test]
    fn the_default_entry_comes_before_the_newest() {
        let files = [
            ("loader/entries/plain-9.conf", "linux /a\n"),
            ("loader/entries/os-6.9.conf", "sort-key os\nversion 6.9\nlinux /a\n"),
            ("loader/entries/os-6.10.conf", "sort-key os\nversion 6.10\nlinux /a\n"),
            ("loader/entries/os-7+0.conf", "sort-key os\nversion 7\nlinux /a\n"),
            ("loader/entries/arm.conf", "sort-key a\narchitecture aa64\nlinux /a\n"),
            ("loader/entries/not-an-entry", "linux /a\n"),
        ];
        let ids = |files: &[(&str, &str)]| {
            let (_home, place) = directory(files);
            let places = [place];
            in_order(&places).into_iter().map(|(_, entry)| entry.id).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ids(&files), "os-6.10.conf os-6.9.conf plain-9.conf os-7.conf");
        let with_default = [&files[..], &[("loader/loader.conf", "timeout 3\ndefault os-6.9*\n")]].concat();
        assert!(ids(&with_default).starts_with("os-6.9.conf os-6.10.conf"), "{}", ids(&with_default));
        let saved = [&files[..], &[("loader/loader.conf", "default @saved\n")]].concat();
        assert_eq!(ids(&saved), ids(&files));
        let with_block = |block: &str| ids(&[&files[..], &[("grub2/grubenv", block)]].concat());
        assert!(with_block("saved_entry=os-6.9\n").starts_with("os-6.9.conf os-6.10.conf"));
        assert!(
            with_block("saved_entry=os-6.9\nnext_entry=plain-9\n").starts_with("plain-9.conf os-6.10.conf")
        );
        assert!(with_block("saved_entry=1\n").starts_with("os-6.9.conf os-6.10.conf"));
        for nothing in ["saved_entry=\n", "saved_entry=gone\n", "saved_entry=99\n"] {
            assert_eq!(with_block(nothing), ids(&files), "{nothing}");
        }
    }

    #[test]
    fn an_image_is_sorted_by_its_os_release() {
        let entry =
            of_image("x.efi", "EFI/Linux/x.efi".into(), "ID=debian\nVERSION_ID=\"12\"\nIMAGE_VERSION=7\n");
        assert_eq!((entry.sort_key.as_str(), entry.version.as_str()), ("debian", "7"));
    }
}
