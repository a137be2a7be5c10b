//! The configuration of other makers' boot loaders.

use super::cmdline::CommandLine;
use super::files::Files;
use oci_reference::Digest;

/// How each begins, so that it is known for ours.
pub(super) const MARK: &str = "# Made by `iguana build`\n";

/// How long a person may read what GRUB says, in seconds.
const RETRY_SECONDS: u32 = 10;

/// What GRUB reads as `grub.cfg`. It waits a second for Esc, which shows its menu. What cannot be read is told and tried
/// again: by itself GRUB would show its menu and wait.
pub(super) fn grub(kernel: &str, initrd: &str, cmdline: &CommandLine, end: Option<&End>) -> String {
    let cmdline = cmdline.for_grub();
    let start = format!("if linux {kernel}{cmdline}; then if initrd {initrd}; then boot; fi; fi");
    let start = end.map(|end| end.guard(&start)).unwrap_or(start);
    format!(
        "{MARK}set timeout=1\nset timeout_style=hidden\nmenuentry Iguana {{\n    \
         {start}\n    \
         echo 'iguana: error: {kernel} and {initrd} cannot be read whole'\n    \
         echo 'iguana:   hint: the medium or the server is faulty, or its content was cut off: write it anew'\n    \
         echo 'iguana: rebooting in {RETRY_SECONDS} s'\n    sleep {RETRY_SECONDS}\n    reboot\n}}\n"
    )
}

/// The last file of a medium, which one that was cut off lacks: to read beyond the end need not be an error.
pub(super) struct End {
    /// Where it is.
    pub(super) path: &'static str,
    /// What is in it, and in that of no other medium.
    word: String,
}

impl End {
    /// That of a medium with these files before it.
    pub(super) fn of(path: &'static str, files: &Files) -> End {
        let list = files.iter().map(|(path, content)| format!("{path} {}\n", Digest::of(content)));
        End { path, word: Digest::of(list.collect::<String>().as_bytes()).to_string() }
    }

    /// The file.
    pub(super) fn content(&self) -> String {
        format!("set iguana_end={}\n", self.word)
    }

    /// GRUB does `start` only where the file is there.
    fn guard(&self, start: &str) -> String {
        format!("source /{}\n    if [ \"$iguana_end\" = {} ]; then {start}; fi", self.path, self.word)
    }
}

/// What PXELINUX reads as `pxelinux.cfg/default`; paths are relative to the directory of its program.
pub(super) fn pxelinux(kernel: &str, initrd: &str, cmdline: &CommandLine) -> String {
    let cmdline = cmdline.text();
    format!("{MARK}DEFAULT iguana\nLABEL iguana\n  KERNEL {kernel}\n  INITRD {initrd}\n  APPEND {cmdline}\n")
}

/// A script for iPXE; paths are relative to the script. `${mac}` and `${uuid}` are iPXE's own settings too, with the same
/// values, the first of the interface that it boots from; `${arch}` is made one.
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
    fn texts_of_the_machine_are_not_for_ipxe() {
        let line =
            CommandLine::parse("u=http://x/${mac}/${serial}/${arch}?h=${hostname}&s=${serial}").unwrap();
        let script = ipxe("k", "i", &line);
        let left = "\nkernel k initrd=i u=http://x/${mac}/$[serial]/${arch}?h=$[hostname]&s=$[serial]\n";
        assert!(script.contains(left), "{script}");
    }

    #[test]
    fn another_build_has_another_end() {
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
