//! The configuration of other makers' boot loaders.

use super::cmdline::CommandLine;

/// How each begins, so that it is known for ours.
pub(super) const MARK: &str = "# Made by `iguana build`\n";

/// What GRUB reads as `grub.cfg`. It waits a second for Esc, which shows its menu.
pub(super) fn grub(kernel: &str, initrd: &str, cmdline: &CommandLine) -> String {
    let cmdline = cmdline.for_grub();
    format!(
        "{MARK}set timeout=1\nset timeout_style=hidden\nmenuentry Iguana {{\n    \
         linux {kernel}{cmdline}\n    initrd {initrd}\n}}\n"
    )
}

/// What PXELINUX reads as `pxelinux.cfg/default`; paths are relative to the folder of its program.
pub(super) fn pxelinux(kernel: &str, initrd: &str, cmdline: &CommandLine) -> String {
    let cmdline = cmdline.text();
    format!("{MARK}DEFAULT iguana\nLABEL iguana\n  KERNEL {kernel}\n  INITRD {initrd}\n  APPEND {cmdline}\n")
}

/// A script for iPXE; paths are relative to the script. `${mac}`, `${uuid}`, `${serial}` and `${hostname}` are iPXE's
/// own settings too, with the same values; `${arch}` is made one.
pub(super) fn ipxe(kernel: &str, initrd: &str, cmdline: &CommandLine) -> String {
    let cmdline = cmdline.text();
    format!(
        "#!ipxe\n{MARK}set arch x86_64\nkernel {kernel} initrd={initrd} {cmdline}\ninitrd {initrd}\nboot\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_names_kernel_initrd_and_command_line() {
        let line = CommandLine::parse("quiet a=${mac}").unwrap();
        let expected = "set timeout=1\nset timeout_style=hidden\nmenuentry Iguana {\n    linux /k 'quiet' \
                        'a=${mac}'\n    initrd /i\n}\n";
        assert_eq!(grub("/k", "/i", &line), format!("{MARK}{expected}"));
        assert!(pxelinux("k", "i", &line).ends_with("  KERNEL k\n  INITRD i\n  APPEND quiet a=${mac}\n"));
        assert!(ipxe("k", "i", &line).ends_with("\nkernel k initrd=i quiet a=${mac}\ninitrd i\nboot\n"));
    }
}
