//! The kernel's command line in the syntax of each boot loader.

use anyhow::{Result, ensure};
use config::cmdline::words;
use hint::hinted;

/// Bytes of the longest command line on x86, without the terminating zero (`COMMAND_LINE_SIZE` in the kernel's
/// sources).
const LONGEST: usize = 2047;

/// Variables whose values are chosen by others: the firmware's tables or a DHCP server. iPXE expands variables before
/// it splits the line into words, and expands the result again. So such a value could add kernel options of its own.
const TEXTS: &[&str] = &["serial", "hostname"];

/// The settings of iPXE that Iguana also has as variables.
const SHARED_VARIABLES: &[&str] = &["mac", "uuid", "serial", "hostname", "arch"];

/// iPXE's setting types whose values consist of digits, letters and a few punctuation marks (ipxe.org/cfg).
const PLAIN_TYPES: &[&str] = &[
    "ipv4", "ipv6", "int8", "int16", "int32", "uint8", "uint16", "uint32", "hex", "hexhyp", "hexraw",
    "base64", "uuid", "guid", "busdevfn",
];

/// A command line that every boot loader can pass to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandLine(String);

impl CommandLine {
    /// Reads `--cmdline`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        ensure!(!text.is_empty(), hinted("the command line is empty", "omit `--cmdline`, or give options"));
        ensure!(
            text.len() <= LONGEST,
            hinted(
                format!("the command line has {} bytes", text.len()),
                format!("an x86 kernel accepts at most {LONGEST}: move long values into the workflow")
            )
        );
        let refused = |letter: &char| letter.is_control() || matches!(letter, '\\' | '\'');
        if let Some(letter) = text.chars().find(refused) {
            let hint = "boot loaders do not pass on control characters, `\\` or `'`: rewrite it without them";
            return Err(hinted(format!("the command line contains `{}`", letter.escape_default()), hint));
        }
        Ok(Self(text.to_string()))
    }

    /// The command line as the kernel reads it.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// The content of the section `.cmdline` of a unified kernel image; it is never empty. If the section is missing
    /// or has no bytes, systemd-stub(7) uses the boot loader's options, even under Secure Boot. The stub removes
    /// blanks at both ends.
    pub(super) fn for_stub(&self) -> &str {
        if self.0.is_empty() { " " } else { &self.0 }
    }

    /// The command line for iPXE. Variables in [`TEXTS`] get the other spelling, which iPXE leaves for Iguana to
    /// expand.
    pub(super) fn for_ipxe(&self) -> String {
        let left = |line: String, name: &&str| line.replace(&format!("${{{name}}}"), &format!("$[{name}]"));
        TEXTS.iter().fold(self.0.clone(), left)
    }

    /// Checks that no variable that iPXE expands can add an option: it must be one of Iguana's too, or have a plain
    /// type.
    pub(crate) fn check_for_ipxe(&self) -> Result<()> {
        let settings = self.0.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
        let is_open = |name: &str| match name.split_once(':') {
            Some((_, kind)) => !PLAIN_TYPES.contains(&kind),
            None => !SHARED_VARIABLES.contains(&name),
        };
        let Some((name, _)) = settings.into_iter().find(|(name, _)| is_open(name)) else { return Ok(()) };
        let bare = name.split(':').next().unwrap_or_default();
        Err(hinted(
            format!(
                "iPXE would insert the text of `${{{name}}}` into the command line, including any options \
                 in it"
            ),
            format!("state its type, such as `${{{bare}:ipv4}}` or `${{{bare}:hexraw}}`"),
        ))
    }

    /// The command line for GRUB, escaped so that GRUB does not expand `${…}`.
    pub(super) fn for_grub(&self) -> String {
        words(&self.0).iter().map(|word| format!(" '{word}'")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_for_grub_are_quoted() {
        let line =
            CommandLine::parse(" quiet rd.iguana.control_url=http://a/${mac} dyndbg=\"file a +p\" ").unwrap();
        assert_eq!(line.for_grub(), " 'quiet' 'rd.iguana.control_url=http://a/${mac}' 'dyndbg=file a +p'");
        assert_eq!(line.text(), "quiet rd.iguana.control_url=http://a/${mac} dyndbg=\"file a +p\"");
        assert_eq!(CommandLine::default().for_grub(), "");
    }

    #[test]
    fn a_command_line_that_cannot_be_passed_on_is_refused() {
        let told = |text: &str| CommandLine::parse(text).unwrap_err().to_string();
        assert_eq!(told(""), "the command line is empty");
        assert_eq!(told(" \t\n"), "the command line is empty");
        assert_eq!(told("a\nb"), "the command line contains `\\n`");
        assert_eq!(told("it's"), "the command line contains `\\'`");
        assert_eq!(told(&"x".repeat(2048)), "the command line has 2048 bytes");
    }
    #[test]
    fn variables_of_ipxe_cannot_add_options() {
        let told = |text: &str| {
            CommandLine::parse(text).unwrap().check_for_ipxe().map_err(|error| error.to_string())
        };
        assert_eq!(told("u=http://${mac}/${uuid}/${serial}/${hostname}/${arch} dyndbg=${"), Ok(()));
        assert_eq!(told("ip=${net0/ip:ipv4} u=${asset:hexraw}"), Ok(()));
        for setting in ["${asset}", "${asset:uristring}", "${user-class:string}", "${net0/ip}"] {
            let error = told(&format!("a=${{mac}} u={setting}")).unwrap_err();
            assert!(error.starts_with(&format!("iPXE would insert the text of `{setting}`")), "{error}");
        }
    }
}
