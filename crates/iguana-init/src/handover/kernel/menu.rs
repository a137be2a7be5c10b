//! Kernels that only GRUB's menu names, wherever they are: in the stores of NixOS and Guix, or under names of their own.

use super::{Installed, SearchLocation, cmdline, joined, kernel_image};
use anyhow::Context as _;

/// GRUB's commands for initrds.
const INITRD_COMMANDS: &[&str] = &["initrd", "initrdefi", "initrd16"];
/// The most entries that are read; a menu of NixOS has a hundred generations.
const ENTRIES_LIMIT: usize = 512;

/// An entry of a menu that starts a kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct MenuEntry {
    title: String,
    id: String,
    /// Its place among the entries and submenus: the numbers by which GRUB knows it.
    place: Vec<usize>,
    kernel: String,
    cmdline: String,
    initrds: Vec<String>,
}

/// The kernel that a menu starts by default, or else the first one of it that can be opened.
pub(super) fn find(places: &[SearchLocation], root: Option<&SearchLocation>) -> Option<Installed> {
    let menus = places.iter().flat_map(|place| cmdline::MENUS.iter().map(move |path| (place, path)));
    menus.into_iter().find_map(|(place, path)| {
        let text = place.text(path)?;
        let mut entries = entries(&text);
        let chosen = cmdline::chosen_entry(place).or_else(|| default(&text));
        if let Some(first) = chosen.and_then(|chosen| position(&chosen, &entries)) {
            entries[..=first].rotate_right(1);
        }
        let of_files = || [place].into_iter().chain(places).chain(root);
        entries.iter().find_map(|entry| of_files().find_map(|files| entry.open(files, place).ok()))
    })
}

impl MenuEntry {
    /// Opens the files that the entry names in `files`; `place` has the menu.
    fn open(&self, files: &SearchLocation, place: &SearchLocation) -> anyhow::Result<Installed> {
        let initrds = self.initrds.iter().map(|path| files.open(path)).collect::<anyhow::Result<_>>()?;
        Ok(Installed {
            name: format!("`{}` of the menu in {}", self.title, place.name),
            image: kernel_image(files.open(&self.kernel)?)?,
            initrd: joined(initrds).context("cannot read its initrds")?,
            cmdline: cmdline::without_variables(&self.cmdline, place),
        })
    }
}

/// A block of the menu's script that is not closed yet.
enum Block {
    /// A submenu: the length of its own place.
    Submenu(usize),
    Entry,
    Other,
}

fn entries(menu: &str) -> Vec<MenuEntry> {
    let mut entries: Vec<MenuEntry> = Vec::new();
    let mut place = vec![0];
    let mut blocks = Vec::new();
    for line in menu.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let words = words(line);
        let [command, rest @ ..] = &words[..] else { continue };
        let is_open = words.last().is_some_and(|word| word.ends_with('{'));
        match command.as_str() {
            "menuentry" if is_open && entries.len() < ENTRIES_LIMIT => {
                entries.push(MenuEntry {
                    title: rest.first().cloned().unwrap_or_default(),
                    id: id(rest),
                    place: place.clone(),
                    ..MenuEntry::default()
                });
                blocks.push(Block::Entry);
            }
            "submenu" if is_open => {
                blocks.push(Block::Submenu(place.len()));
                place.push(0);
            }
            "}" => match blocks.pop() {
                Some(Block::Entry) => next(&mut place),
                Some(Block::Submenu(depth)) => {
                    place.truncate(depth);
                    next(&mut place);
                }
                Some(Block::Other) | None => {}
            },
            _ if is_open => blocks.push(Block::Other),
            command => {
                if let (Some(Block::Entry), Some(entry)) = (blocks.last(), entries.last_mut()) {
                    entry.take(command, rest);
                }
            }
        }
    }
    entries.retain(|entry| !entry.kernel.is_empty());
    entries
}

fn next(place: &mut [usize]) {
    if let Some(number) = place.last_mut() {
        *number += 1;
    }
}

impl MenuEntry {
    fn take(&mut self, command: &str, words: &[String]) {
        if cmdline::GRUB_COMMANDS.contains(&command) && self.kernel.is_empty() {
            let [kernel, arguments @ ..] = words else { return };
            self.kernel = without_device(kernel).to_owned();
            self.cmdline = arguments.join(" ");
        } else if INITRD_COMMANDS.contains(&command) {
            self.initrds.extend(words.iter().map(|path| without_device(path).to_owned()));
        }
    }
}

/// The words of a line of GRUB's script, whose quotes are those of a shell.
fn words(line: &str) -> Vec<String> {
    shell_words::split(line).unwrap_or_else(|_| line.split_ascii_whitespace().map(Into::into).collect())
}

/// The path without GRUB's name of a device: `($drive1)/kernels/x`.
fn without_device(path: &str) -> &str {
    path.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(path, |(_, path)| path)
}

/// The ID of an entry: what follows `--id`, or the variable that stands for it.
fn id(words: &[String]) -> String {
    let is_option =
        |word: &String| word == "--id" || word.trim_matches(['$', '{', '}']) == "menuentry_id_option";
    let at = words.iter().position(is_option);
    at.and_then(|at| words.get(at + 1)).cloned().unwrap_or_default()
}

/// The last default that the menu's script sets itself.
fn default(menu: &str) -> Option<String> {
    let values = menu.lines().filter_map(|line| line.trim().strip_prefix("set default="));
    let mut values = values.map(|value| value.trim_matches(['"', '\'']).to_owned());
    values.rfind(|value| !value.is_empty() && !value.contains('$'))
}

/// The entry that a default names (GRUB's manual, `default`): by numbers, titles or IDs, with `>` between a submenu and its
/// entry.
fn position(chosen: &str, entries: &[MenuEntry]) -> Option<usize> {
    let numbers: Result<Vec<usize>, _> = chosen.split('>').map(|part| part.trim().parse()).collect();
    let last = chosen.rsplit('>').next()?;
    entries.iter().position(|entry| match &numbers {
        Ok(numbers) => entry.place.starts_with(numbers),
        Err(_) => entry.title == last || entry.id == last,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::directory;
    use super::*;
    use std::io::Read as _;

    const NIXOS: &str = "search --set=drive1 --fs-uuid 1-2\nset default=\"0\"\nif [ \"${saved_entry}\" ]; then\n  \
        set default=\"${saved_entry}\"\nfi\nmenuentry \"NixOS - Default\" --class nixos --unrestricted {\n\
        search --set=drive1 --fs-uuid 1-2\n  linux ($drive1)/kernels/abc-bzImage init=/nix/store/x-nixos/init quiet\n  \
        initrd ($drive1)/kernels/abc-initrd\n}\nsubmenu \"All configurations\" {\nmenuentry \"NixOS - 1\" {\n  \
        linux ($drive1)/kernels/old-bzImage init=/old\n  initrd ($drive1)/kernels/abc-initrd\n}\n}\n";

    const GUIX: &str = "set default=0\nmenuentry \"GNU with Linux-Libre\" {\n  \
        search --label --set Guix_image\n  linux /gnu/store/k-linux-libre/bzImage root=LABEL=Guix gnu.system=/gnu/store/s \n  \
        initrd /gnu/store/i-raw-initrd/initrd.cpio.gz\n}\n";

    fn text(mut file: std::fs::File) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_menu_names_kernels_of_nixos_on_the_boot_partition() {
        let files =
            [("kernels/abc-bzImage", "new"), ("kernels/old-bzImage", "old"), ("kernels/abc-initrd", "i")];
        for (block, kernel, cmdline) in [
            ("", "new", "init=/nix/store/x-nixos/init quiet"),
            ("saved_entry=1>0\n", "old", "init=/old"),
            ("saved_entry=NixOS - 1\n", "old", "init=/old"),
            ("next_entry=1\nsaved_entry=0\n", "old", "init=/old"),
            ("saved_entry=gone\n", "new", "init=/nix/store/x-nixos/init quiet"),
        ] {
            let files = [&files[..], &[("grub/grub.cfg", NIXOS), ("grub/grubenv", block)]].concat();
            let (_home, place) = directory(&files);
            let found = find(&[place], None).unwrap();
            assert_eq!((text(found.image).as_str(), found.cmdline.as_str()), (kernel, cmdline), "{block}");
            assert!(found.initrd.is_some() && found.name.contains("NixOS"));
        }
    }

    #[test]
    fn a_menu_names_kernels_of_guix_on_the_root() {
        let (_boot, place) = directory(&[("grub/grub.cfg", GUIX)]);
        let store = [
            ("gnu/store/k-linux-libre/bzImage", "kernel"),
            ("gnu/store/i-raw-initrd/initrd.cpio.gz", "initrd"),
        ];
        let (_root, root) = directory(&store);
        assert!(find(&[place], None).is_none());
        let (_boot, place) = directory(&[("grub/grub.cfg", GUIX)]);
        let found = find(&[place], Some(&root)).unwrap();
        assert_eq!(
            (text(found.image), found.cmdline.as_str()),
            ("kernel".into(), "root=LABEL=Guix gnu.system=/gnu/store/s")
        );
    }

    #[test]
    fn ids_and_places_are_those_of_grub() {
        let menu = "menuentry 'a' $menuentry_id_option 'id-a' {\n linux /a\n}\nfunction x {\n true\n}\n\
            submenu 's' {\n menuentry 'b' --id id-b {\n linux /b 'x y'\n }\n menuentry 'none' {\n chainloader +1\n }\n}\n\
            menuentry c {\n linux16 (hd0,1)/c\n initrd /i (hd0)/j\n";
        let found = entries(menu);
        let shown: Vec<_> =
            found.iter().map(|entry| (entry.id.as_str(), &entry.place[..], entry.kernel.as_str())).collect();
        assert_eq!(shown, [("id-a", &[0][..], "/a"), ("id-b", &[1, 0][..], "/b"), ("", &[2][..], "/c")]);
        assert_eq!(
            (found[1].cmdline.as_str(), &found[2].initrds[..]),
            ("x y", &["/i".to_owned(), "/j".to_owned()][..])
        );
        for (chosen, expected) in
            [("0", 0), ("1", 1), ("1>0", 1), ("2", 2), ("id-b", 1), ("s>b", 1), ("c", 2)]
        {
            assert_eq!(position(chosen, &found), Some(expected), "{chosen}");
        }
        assert_eq!((position("7", &found), position("x", &found)), (None, None));
        assert!(entries("menuentry 'unclosed {\nlinux\n}}}\n}").is_empty());
    }
}
