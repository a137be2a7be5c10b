//! The kernel's command line, as each boot loader wants it.

use anyhow::{Result, ensure};
use config::cmdline::words;
use hint::hinted;

/// Bytes that an x86 kernel takes, its closing zero not counted (`COMMAND_LINE_SIZE` in its sources).
const LONGEST: usize = 2047;

/// What the machine tells that is text which others chose: the firmware's tables, a DHCP server. iPXE would put it into the
/// line before it splits that into words, and would put in again what looks like a setting in the text.
const TEXTS: &[&str] = &["serial", "hostname"];

/// The settings of iPXE that Iguana has, too.
const IGUANA_TOO: &[&str] = &["mac", "uuid", "serial", "hostname", "arch"];

/// iPXE's types whose values are written in digits, letters and a few marks (ipxe.org/cfg).
const PLAIN_TYPES: &[&str] = &[
    "ipv4", "ipv6", "int8", "int16", "int32", "uint8", "uint16", "uint32", "hex", "hexhyp", "hexraw",
    "base64", "uuid", "guid", "busdevfn",
];

/// A command line that every boot loader can pass on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandLine(String);

impl CommandLine {
    /// Reads `--cmdline`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        ensure!(
            !text.is_empty(),
            hinted("the command line is empty", "leave `--cmdline` away, or name options")
        );
        ensure!(
            text.len() <= LONGEST,
            hinted(
                format!("the command line has {} bytes", text.len()),
                format!("an x86 kernel takes {LONGEST}: put what is long into the workflow")
            )
        );
        let refused = |letter: &char| letter.is_control() || matches!(letter, '\\' | '\'');
        if let Some(letter) = text.chars().find(refused) {
            let hint = "boot loaders do not pass on control characters, `\\` and `'`: say it without";
            return Err(hinted(format!("there is `{}` in the command line", letter.escape_default()), hint));
        }
        Ok(Self(text.to_string()))
    }

    /// As the kernel reads it.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// As the stub of a unified kernel image reads it: never empty. Where its section `.cmdline` is missing or has no bytes,
    /// systemd-stub(7) takes the boot loader's options, even under Secure Boot. It leaves blanks at the ends away.
    pub(super) fn for_stub(&self) -> &str {
        if self.0.is_empty() { " " } else { &self.0 }
    }

    /// As iPXE reads it: with texts in the other spelling, which it leaves to Iguana.
    pub(super) fn for_ipxe(&self) -> String {
        let left = |line: String, name: &&str| line.replace(&format!("${{{name}}}"), &format!("$[{name}]"));
        TEXTS.iter().fold(self.0.clone(), left)
    }

    /// Whether what iPXE puts in cannot become an option of its own: it is Iguana's too, or of a stated type.
    pub(crate) fn check_for_ipxe(&self) -> Result<()> {
        let settings = self.0.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
        let is_open = |name: &str| match name.split_once(':') {
            Some((_, kind)) => !PLAIN_TYPES.contains(&kind),
            None => !IGUANA_TOO.contains(&name),
        };
        let Some((name, _)) = settings.into_iter().find(|(name, _)| is_open(name)) else { return Ok(()) };
        let bare = name.split(':').next().unwrap_or_default();
        Err(hinted(
            format!(
                "iPXE would put what `${{{name}}}` is into the command line, even if that is further options"
            ),
            format!("write the type that it has, such as `${{{bare}:ipv4}}` or `${{{bare}:hexraw}}`"),
        ))
    }

    /// As GRUB reads it, whose variables `${…}` are not meant.
    pub(super) fn for_grub(&self) -> String {
        words(&self.0).iter().map(|word| format!(" '{word}'")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grub_gets_words_in_quotes() {
        let line =
            CommandLine::parse(" quiet rd.iguana.control_url=http://a/${mac} dyndbg=\"file a +p\" ").unwrap();
        assert_eq!(line.for_grub(), " 'quiet' 'rd.iguana.control_url=http://a/${mac}' 'dyndbg=file a +p'");
        assert_eq!(line.text(), "quiet rd.iguana.control_url=http://a/${mac} dyndbg=\"file a +p\"");
        assert_eq!(CommandLine::default().for_grub(), "");
    }

    #[test]
    fn what_cannot_be_passed_on_is_refused() {
        let told = |text: &str| CommandLine::parse(text).unwrap_err().to_string();
        assert_eq!(told(""), "the command line is empty");
        assert_eq!(told(" \t\n"), "the command line is empty");
        assert_eq!(told("a\nb"), "there is `\\n` in the command line");
        assert_eq!(told("it's"), "there is `\\'` in the command line");
        assert_eq!(told(&"x".repeat(2048)), "the command line has 2048 bytes");
    }
    #[test]
    fn what_ipxe_puts_in_is_no_option_of_its_own() {
        let told = |text: &str| {
            CommandLine::parse(text).unwrap().check_for_ipxe().map_err(|error| error.to_string())
        };
        assert_eq!(told("u=http://${mac}/${uuid}/${serial}/${hostname}/${arch} dyndbg=${"), Ok(()));
        assert_eq!(told("ip=${net0/ip:ipv4} u=${asset:hexraw}"), Ok(()));
        for setting in ["${asset}", "${asset:uristring}", "${user-class:string}", "${net0/ip}"] {
            let error = told(&format!("a=${{mac}} u={setting}")).unwrap_err();
            assert!(error.starts_with(&format!("iPXE would put what `{setting}` is")), "{error}");
        }
    }
}
