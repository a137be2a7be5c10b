//! The kernel's command line, as each boot loader wants it.

use anyhow::{Result, ensure};
use iguana_core::cmdline::words;
use iguana_core::hint::hinted;

/// Bytes that an x86 kernel takes, its closing zero not counted (`COMMAND_LINE_SIZE` in its sources).
const LONGEST: usize = 2047;

/// A command line that every boot loader can pass on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandLine(String);

impl CommandLine {
    /// Reads `--cmdline`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
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
        assert_eq!(told("a\nb"), "there is `\\n` in the command line");
        assert_eq!(told("it's"), "there is `\\'` in the command line");
        assert_eq!(told(&"x".repeat(2048)), "the command line has 2048 bytes");
    }
}
