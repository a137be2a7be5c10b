//! The command line of a kernel that no entry gives one.

use super::super::filesystem;
use super::super::system::{Root, System};
use super::{SearchLocation, TEXT_LIMIT};
use std::path::Path;

/// What kernel-install(8) gives to every kernel of a system.
const OF_SYSTEM: &[&str] = &["etc/kernel/cmdline", "usr/lib/kernel/cmdline"];
/// GRUB's menu, in the boot directory.
const MENUS: &[&str] = &["grub/grub.cfg", "grub2/grub.cfg"];
/// Where GRUB keeps variables, in the boot directory: a block of `NAME=VALUE` lines.
const GRUB_VARIABLES: &[&str] = &["grub2/grubenv", "grub/grubenv"];
/// Bytes of that block (GRUB's manual, "The GRUB environment block").
const GRUB_BLOCK: usize = 1024;
/// Words that are read of a command line; a kernel takes 2 KiB of letters.
const WORDS_LIMIT: usize = 2048;
/// GRUB's commands that name a kernel and its command line.
const GRUB_COMMANDS: &[&str] = &["linux", "linuxefi", "linux16"];

/// What GRUB's menu says for this kernel, else what the system says for all, else `root=` as the mount list has it.
pub(super) fn find(kernel: &str, places: &[SearchLocation], system: &System, own: &str) -> String {
    let of_menu = |place: &SearchLocation| MENUS.iter().find_map(|menu| in_menu(&place.text(menu)?, kernel));
    if let Some((place, found)) = places.iter().find_map(|place| Some((place, of_menu(place)?))) {
        return without_variables(&found, place);
    }
    let of_system = OF_SYSTEM.iter().filter_map(|path| system.text(path, TEXT_LIMIT).ok());
    let of_system = of_system.map(|text| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).next();
    of_system.filter(|text| !text.is_empty()).unwrap_or_else(|| made(&system.root, own))
}

/// The arguments of the first command that starts this kernel.
fn in_menu(menu: &str, kernel: &str) -> Option<String> {
    menu.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_command = GRUB_COMMANDS.contains(&words.next()?);
        let is_kernel = words.next()?.rsplit('/').next() == Some(kernel);
        (is_command && is_kernel).then(|| words.collect::<Vec<_>>().join(" "))
    })
}

/// GRUB's variables in a command line: those that its environment block has are put in, all others are empty.
pub(super) fn without_variables(cmdline: &str, place: &SearchLocation) -> String {
    // It is read once, whatever asks for it.
    let block = GRUB_VARIABLES.iter().find_map(|path| place.text(path)).unwrap_or_default();
    let block = &block[..block.floor_char_boundary(GRUB_BLOCK)];
    let mut words = Vec::new();
    for word in cmdline.split_ascii_whitespace().take(WORDS_LIMIT) {
        match word.strip_prefix('$') {
            None => words.push(word),
            Some(name) => words.extend(variable(name.trim_matches(['{', '}']), block)),
        }
    }
    words.join(" ")
}

fn variable<'a>(name: &str, block: &'a str) -> Option<&'a str> {
    block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// `root=` with what belongs to it, and the consoles on which somebody looks on.
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

/// By UUID: the names of disks may be others under another kernel. What device-mapper has made keeps its name.
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
    fn the_first_line_of_grubs_menu_counts() {
        assert_eq!(in_menu(MENU, "vmlinuz-6.1").unwrap(), "root=UUID=1 ro quiet $vt_handoff");
        assert_eq!(in_menu(MENU, "vmlinuz-6"), None);
    }

    #[test]
    fn variables_of_grub_are_put_in() {
        let (_home, place) =
            directory(&[("grub2/grubenv", "# GRUB Environment Block\nkernelopts=root=UUID=1 ro \n####")]);
        assert_eq!(without_variables("$kernelopts ${tuned} quiet", &place), "root=UUID=1 ro  quiet");
        assert_eq!(without_variables("a $x b", &directory(&[]).1), "a b");
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
