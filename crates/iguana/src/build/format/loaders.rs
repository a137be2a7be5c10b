//! The configuration files of third-party boot loaders.

use super::cmdline::CommandLine;
use super::files::Files;
use oci_reference::Digest;

/// First line of each configuration, by which a later build recognizes its own files.
pub(super) const MARK: &str = "# Made by `iguana build`\n";

/// Seconds for which GRUB shows an error before it tries again.
const RETRY_SECONDS: u32 = 10;

/// The content of `grub.cfg`. GRUB waits one second for Esc, which shows its menu. A file that cannot be read is
/// reported and tried again: without this, GRUB would show its menu and wait for input.
pub(super) fn grub(kernel: &str, initrd: &str, cmdline: &CommandLine, end: Option<&End>) -> String {
    let cmdline = cmdline.for_grub();
    let start = format!("if linux {kernel}{cmdline}; then if initrd {initrd}; then boot; fi; fi");
    let start = end.map(|end| end.guard(&start)).unwrap_or(start);
    format!(
        "{MARK}set timeout=1\nset timeout_style=hidden\nmenuentry Iguana {{\n    \
         {start}\n    \
         echo 'iguana: error: {kernel} and {initrd} cannot be read whole'\n    \
         echo 'iguana:   hint: the medium or the server is faulty, or the file is truncated: write it again'\n    \
         echo 'iguana: rebooting in {RETRY_SECONDS} s'\n    sleep {RETRY_SECONDS}\n    reboot\n}}\n"
    )
}

/// The last file of a medium. A truncated medium lacks it; a read beyond its end may succeed without an error.
pub(super) struct End {
    /// Its path on the medium.
    pub(super) path: &'static str,
    /// Its content, which is different on every medium.
    word: String,
}

impl End {
    /// The end file for a medium with `files` before it.
    pub(super) fn of(path: &'static str, files: &Files) -> End {
        let list = files.iter().map(|(path, content)| format!("{path} {}\n", Digest::of(content)));
        End { path, word: Digest::of(list.collect::<String>().as_bytes()).to_string() }
    }

    /// The content of the file.
    pub(super) fn content(&self) -> String {
        format!("set iguana_end={}\n", self.word)
    }

    /// Makes GRUB run `start` only if the file is there.
    fn guard(&self, start: &str) -> String {
        format!("source /{}\n    if [ \"$iguana_end\" = {} ]; then {start}; fi", self.path, self.word)
    }
}

/// The content of `pxelinux.cfg/default`. Paths are relative to the directory of PXELINUX.
pub(super) fn pxelinux(kernel: &str, initrd: &str, cmdline: &CommandLine) -> String {
    let cmdline = cmdline.text();
    format!("{MARK}DEFAULT iguana\nLABEL iguana\n  KERNEL {kernel}\n  INITRD {initrd}\n  APPEND {cmdline}\n")
}

/// A script for iPXE; paths are relative to the script. `${mac}` and `${uuid}` are settings of iPXE too, with the
/// same values; `mac` is that of the interface that iPXE boots from. The script sets `${arch}`.
pub(super) fn ipxe(kernel: &str, initrd: &str, cmdline: &CommandLine) -> String {
    let cmdline = cmdline.for_ipxe();
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
        let starts = "if linux /k 'quiet' 'a=${mac}'; then if initrd /i; then boot; fi; fi";
        assert!(grub("/k", "/i", &line, None).contains(starts));
        assert!(pxelinux("k", "i", &line).ends_with("  KERNEL k\n  INITRD i\n  APPEND quiet a=${mac}\n"));
        assert!(ipxe("k", "i", &line).ends_with("\nkernel k initrd=i quiet a=${mac}\ninitrd i\nboot\n"));
    }

    #[test]
    fn variables_of_the_machine_are_escaped_for_ipxe() {
        let line =
            CommandLine::parse("u=http://x/${mac}/${serial}/${arch}?h=${hostname}&s=${serial}").unwrap();
        let script = ipxe("k", "i", &line);
        let left = "\nkernel k initrd=i u=http://x/${mac}/$[serial]/${arch}?h=$[hostname]&s=$[serial]\n";
        assert!(script.contains(left), "{script}");
    }

    #[test]
    fn another_build_has_another_end_marker() {
        let [one, other] =
            [b"a", b"b"].map(|initrd| End::of("end.cfg", &vec![("initrd".into(), initrd.into())]));
        assert_ne!(one.content(), other.content());
        let guarded = grub("/k", "/i", &CommandLine::default(), Some(&one));
        assert!(
            guarded.contains(&format!(
                "source /end.cfg\n    if [ \"$iguana_end\" = {} ]; then if linux",
                one.word
            ))
        );
    }
}
