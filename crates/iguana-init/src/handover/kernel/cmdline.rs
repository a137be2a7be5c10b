//! The command line of a kernel without a loader entry.

use super::super::filesystem;
use super::super::system::{Root, System};
use super::{SearchLocation, TEXT_LIMIT};
use std::path::Path;

/// Files with the command line that kernel-install(8) gives to every kernel of a system.
const OF_SYSTEM: &[&str] = &["etc/kernel/cmdline", "usr/lib/kernel/cmdline"];
/// GRUB's menus, relative to the boot directory.
pub(super) const MENUS: &[&str] = &["grub/grub.cfg", "grub2/grub.cfg"];
/// GRUB's environment blocks, relative to the boot directory: lines of `NAME=VALUE`.
const GRUB_VARIABLES: &[&str] = &["grub2/grubenv", "grub/grubenv"];
/// Bytes of an environment block (GRUB's manual, "The GRUB environment block").
const GRUB_BLOCK: usize = 1024;
/// Words of a command line that are read; the kernel takes 2 KiB of characters.
const WORDS_LIMIT: usize = 2048;
/// Bytes of a command line from which on no more is expanded: one word of a menu may have thousands of variables.
const EXPANDED_LIMIT: usize = 64 << 10;
/// GRUB commands that name a kernel and its command line.
pub(super) const GRUB_COMMANDS: &[&str] = &["linux", "linuxefi", "linux16"];

/// The command line: from GRUB's menu for this kernel, else from the files of kernel-install(8), else made from `root`.
pub(super) fn find(kernel: &str, places: &[SearchLocation], system: &System, own: &str) -> String {
    let of_menu = |place: &SearchLocation| MENUS.iter().find_map(|menu| in_menu(&place.text(menu)?, kernel));
    if let Some((place, found)) = places.iter().find_map(|place| Some((place, of_menu(place)?))) {
        return without_variables(&found, place);
    }
    let of_system = OF_SYSTEM.iter().filter_map(|path| system.text(path, TEXT_LIMIT).ok());
    let of_system = of_system.map(|text| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).next();
    of_system.filter(|text| !text.is_empty()).unwrap_or_else(|| made(&system.root, own))
}

/// The arguments of the first menu command that starts this kernel.
fn in_menu(menu: &str, kernel: &str) -> Option<String> {
    menu.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_command = GRUB_COMMANDS.contains(&words.next()?);
        let is_kernel = words.next()?.rsplit('/').next() == Some(kernel);
        (is_command && is_kernel).then(|| words.collect::<Vec<_>>().join(" "))
    })
}

/// Replaces GRUB's variables in a command line by their values in the environment block; unknown ones become empty.
pub(super) fn without_variables(cmdline: &str, place: &SearchLocation) -> String {
    // Read only once, however many variables there are.
    let block = environment_block(place);
    let (mut words, mut length) = (Vec::<String>::new(), 0);
    for word in cmdline.split_ascii_whitespace().take(WORDS_LIMIT) {
        length += words.last().map_or(0, String::len);
        if length > EXPANDED_LIMIT {
            break;
        }
        match word.contains('$') {
            false => words.push(word.to_owned()),
            true => words.extend(Some(expanded(word, &block)).filter(|word| !word.is_empty())),
        }
    }
    words.join(" ")
}

/// A word with the values of the variables in it: `$NAME` or `${NAME}`.
fn expanded(word: &str, block: &str) -> String {
    let mut parts = word.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if text.len() > EXPANDED_LIMIT {
            break;
        }
        let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let braced = part.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, rest) = braced
            .unwrap_or_else(|| part.split_at(part.find(|letter| !is_of_name(letter)).unwrap_or(part.len())));
        text.push_str(variable(name, block).unwrap_or_default());
        text.push_str(rest);
    }
    text
}

/// The entry that GRUB starts next: once (`next_entry`), or always (`saved_entry`).
pub(super) fn chosen_entry(place: &SearchLocation) -> Option<String> {
    let block = environment_block(place);
    let mut values = ["next_entry", "saved_entry"].into_iter().filter_map(|name| variable(name, &block));
    values.find(|value| !value.is_empty()).map(str::to_owned)
}

fn environment_block(place: &SearchLocation) -> String {
    let mut block = GRUB_VARIABLES.iter().find_map(|path| place.text(path)).unwrap_or_default();
    block.truncate(block.floor_char_boundary(GRUB_BLOCK));
    block
}

fn variable<'a>(name: &str, block: &'a str) -> Option<&'a str> {
    block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// A command line with `root=`, its options, and the consoles of the running kernel.
fn made(root: &Root, own: &str) -> String {
    let mut words = match root {
        Root::Closed { uuid, .. } => vec![format!("rd.luks.uuid={uuid}")],
        Root::Open { name, device, options } => {
            let flags = (!options.is_empty()).then(|| format!("rootflags={options}"));
            [format!("root={}", root_name(name, device.as_deref())), "ro".into()]
                .into_iter()
                .chain(flags)
                .collect()
        }
    };
    words.extend(own.split_ascii_whitespace().filter(|word| word.starts_with("console=")).map(Into::into));
    words.join(" ")
}

/// The root by UUID, because another kernel may name disks differently. Device-mapper names are stable.
fn root_name(name: &str, device: Option<&Path>) -> String {
    let is_tag = name.contains('=') && !name.contains(char::is_whitespace);
    let Some(device) = device.filter(|_| !is_tag) else { return name.into() };
    let uuid = filesystem::uuid(device).filter(|_| !device.starts_with("/dev/mapper"));
    uuid.map_or_else(|| device.display().to_string(), |uuid| format!("UUID={uuid}"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::directory;
    use super::*;

    const MENU: &str = "menuentry 'Debian' {\n\tlinux\t/boot/vmlinuz-6.1 root=UUID=1 ro  quiet $vt_handoff\n}\n\
        menuentry 'rescue' {\n\tlinux /boot/vmlinuz-6.1 root=UUID=1 single\n}\n";

    #[test]
    fn the_first_menu_entry_of_the_kernel_is_used() {
        assert_eq!(in_menu(MENU, "vmlinuz-6.1").unwrap(), "root=UUID=1 ro quiet $vt_handoff");
        assert_eq!(in_menu(MENU, "vmlinuz-6"), None);
    }

    #[test]
    fn variables_of_grub_are_substituted() {
        let (_home, place) =
            directory(&[("grub2/grubenv", "# GRUB Environment Block\nkernelopts=root=UUID=1 ro \n####")]);
        assert_eq!(without_variables("$kernelopts ${tuned} quiet", &place), "root=UUID=1 ro  quiet");
        assert_eq!(without_variables("a $x b", &directory(&[]).1), "a b");
        let (_home, place) = directory(&[("grub/grubenv", "id=7\nname=x\n")]);
        assert_eq!(without_variables("root=UUID=$id-${name}y a=$none;b $", &place), "root=UUID=7-xy a=;b");
    }

    #[test]
    fn a_word_of_many_variables_is_bounded() {
        let (_home, place) = directory(&[("grub/grubenv", &format!("a={}", "x".repeat(1000)))]);
        for many in ["$a".repeat(200_000), "$a$a$a$a$a$a$a$a$a$a ".repeat(2000)] {
            let length = without_variables(&many, &place).len();
            assert!((EXPANDED_LIMIT..2 * EXPANDED_LIMIT).contains(&length), "{length}");
        }
    }

    #[test]
    fn root_is_made_of_the_mount_list() {
        let root = |name: &str, device: Option<&str>, options: &str| Root::Open {
            name: name.into(),
            device: device.map(Into::into),
            options: options.into(),
        };
        for (root, expected) in [
            (root("LABEL=os", Some("/dev/none1"), "subvol=@"), "root=LABEL=os ro rootflags=subvol=@"),
            (root("LABEL=my os", Some("/dev/none1"), ""), "root=/dev/none1 ro"),
            (root("/dev/vg/root", Some("/dev/mapper/vg-root"), ""), "root=/dev/mapper/vg-root ro"),
            (root("/dev/none1", Some("/dev/none1"), ""), "root=/dev/none1 ro"),
            (Root::Closed { device: "/dev/x".into(), uuid: "1-2".into() }, "rd.luks.uuid=1-2"),
        ] {
            assert_eq!(made(&root, "quiet console=ttyS0 ip=dhcp"), format!("{expected} console=ttyS0"));
        }
    }
}
