//! Everything that this program prints, for people and for other programs.
//!
//! The text may contain untrusted parts: file names, workflows, answers of registries. It is escaped here, once.

use anyhow::{Context, Result};
use serde::Serialize;
use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write};

/// When text is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set (no-color.org).
    #[default]
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

impl Color {
    /// Whether text for `stream` is coloured.
    pub(crate) fn is_for(self, stream: &impl IsTerminal) -> bool {
        let unwanted = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match self {
            Self::Auto => stream.is_terminal() && !unwanted(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Prints a message for the user on standard output.
pub(crate) fn say(message: impl Display) {
    tell(std::io::stdout(), message);
}

/// Prints progress or a warning on standard error.
pub(crate) fn note(message: impl Display) {
    tell(std::io::stderr(), message);
}

fn tell(stream: impl Write, message: impl Display) {
    // If the message cannot be written, there is no other place to report it.
    let _ = write(stream, &(printable::lines(&message.to_string()).join("\n") + "\n"));
}

/// Writes lines with a fixed layout, whose untrusted parts have been escaped by [`printable::visible`]. It also makes
/// sure that no line is a command of a CI service.
pub(crate) fn write_lines(stream: impl Write, laid_out: &str) -> Result<()> {
    let lines = laid_out.split('\n').map(printable::without_commands).collect::<Vec<_>>();
    write(stream, &lines.join("\n"))
}

/// Writes `value` as JSON (RFC 8259), laid out in lines. Untrusted text in it neither controls a terminal nor is a
/// command of a CI service.
pub(crate) fn write_json(stream: impl Write, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot write the output as JSON")?;
    write(stream, &(printable::json(&text) + "\n"))
}

/// Writes all of `text`. A reader that closes the pipe early, such as `head`, is no error.
pub(crate) fn write(mut stream: impl Write, text: &str) -> Result<()> {
    match stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write the output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    struct Refusing(ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_not_a_failure_but_a_full_disk_is() {
        assert!(write(Refusing(ErrorKind::BrokenPipe), "text").is_ok());
        assert!(write(Refusing(ErrorKind::StorageFull), "text").is_err());
    }

    #[test]
    fn json_escapes_untrusted_text() {
        let value =
            serde_json::json!({"job": "##vso[a]b ##[error]", "error": "\u{9b}31m gpj\u{202e}exe \u{7f}"});
        let mut written = Vec::new();
        write_json(&mut written, &value).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(
            !written.contains("##") && written.chars().all(|c| c == '\n' || !printable::is_hidden(c)),
            "{written}"
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), value);
    }

    #[test]
    fn a_file_has_no_colour_unless_requested() {
        let file = tempfile::tempfile().unwrap();
        assert!(!Color::Auto.is_for(&file) && !Color::Never.is_for(&file) && Color::Always.is_for(&file));
    }
}
