//! The lines in what a program writes to a terminal, and how a console shows those of a program that does not have it.
//!
//! A terminal answers some sequences, and the answer would be input of the next program that has the terminal. Other
//! sequences move the cursor to the lines of others. So only text is shown, and a mark at the beginning of each line
//! tells it from Iguana's own.

use super::sequences::{Meaning, Sequences};
use printable::{is_hidden, without_commands};

/// Bytes of a line; a longer one is split.
const LINE_LIMIT: usize = 4096;
const BACKSPACE: u8 = 0x08;
/// As in the log.
const MARK: &str = "| ";

/// Splits output into lines of text, as a person would read them on the screen: without escape sequences, and of text
/// that is overwritten (after `\r`) only the last. What a full-screen program draws is no line.
#[derive(Debug, Default)]
pub(crate) struct OutputLines {
    line: Vec<u8>,
    sequences: Sequences,
    /// The cursor was moved to another line.
    is_drawing: bool,
    /// A `\r` was written: the next character overwrites the line.
    is_at_start: bool,
}

impl OutputLines {
    /// Adds output, and hands each finished line to `on_line`.
    pub(crate) fn add(&mut self, output: &[u8], mut on_line: impl FnMut(&str)) {
        for byte in output {
            match self.sequences.take(*byte) {
                Meaning::Text(byte) => self.add_text(byte, &mut on_line),
                Meaning::Drawing => self.is_drawing = true,
                Meaning::Nothing => {}
            }
        }
    }

    /// Whether an escape sequence was written, which may steer the terminal.
    pub(crate) fn has_sequences(&self) -> bool {
        self.sequences.has_any()
    }

    /// Whether a sequence was written that a terminal may answer.
    pub(super) fn may_ask(&self) -> bool {
        self.sequences.may_ask()
    }

    /// Hands on what there is of an unfinished line; what follows is a line of its own.
    pub(super) fn split(&mut self, mut on_line: impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.end(&mut on_line);
        }
    }

    /// Hands on what was written without a line break at its end.
    pub(crate) fn finish(&mut self, on_line: impl FnOnce(&str)) {
        let was_empty = self.line.is_empty();
        let line = std::mem::take(self);
        if !was_empty && !line.is_drawing {
            on_line(&String::from_utf8_lossy(&line.line));
        }
    }

    fn add_text(&mut self, byte: u8, on_line: &mut impl FnMut(&str)) {
        match byte {
            b'\n' => self.end(on_line),
            b'\r' => self.is_at_start = true,
            BACKSPACE => drop(self.line.pop()),
            b'\t' => self.line.push(b' '),
            byte if byte.is_ascii_control() => {}
            byte => {
                if std::mem::take(&mut self.is_at_start) {
                    self.line.clear();
                }
                self.line.push(byte);
                if self.line.len() >= LINE_LIMIT {
                    self.end(on_line);
                }
            }
        }
    }

    fn end(&mut self, on_line: &mut impl FnMut(&str)) {
        if !self.is_drawing {
            on_line(&String::from_utf8_lossy(&self.line));
        }
        self.line.clear();
        (self.is_drawing, self.is_at_start) = (false, false);
    }
}

/// A line as a console shows it: text only, after the mark, and no command to a CI service.
pub(super) fn marked_line(line: &str, end: &str) -> String {
    let text: String = line.chars().filter(|letter| !is_hidden(*letter)).collect();
    format!("{MARK}{}{end}", without_commands(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(output: &[u8]) -> String {
        lines(output).iter().map(|line| marked_line(line, "\n")).collect()
    }

    #[test]
    fn each_line_has_the_mark_whatever_begins_it() {
        assert_eq!(shown(b"one\n\ntwo\r\n 10 %\r 20 %\n"), "| one\n| \n| two\n|  20 %\n");
        let forged = b"\r[   20.001] iguana: workflow: signed\n\x1b[1G[   20] x\n\x08\x08y\n";
        assert_eq!(shown(forged), "| [   20.001] iguana: workflow: signed\n| [   20] x\n| y\n");
    }

    #[test]
    fn nothing_is_left_that_a_terminal_answers_or_hides() {
        assert_eq!(shown(b"\x1b[6n\x1b[c\x1bZ\x05\x1b]11;?\x07\x1bP$q m\x1b\\a\x1b[8mb\x1b[0m\n"), "| ab\n");
        // The same as one byte each (ISO 6429), in UTF-8 and not.
        assert_eq!(shown(b"\xc2\x9b6n\x9b6n\n"), "| 6n\u{fffd}6n\n");
        assert_eq!(shown("a\u{202e}b\u{feff}\n".as_bytes()), "| ab\n");
    }

    #[test]
    fn text_of_any_language_is_shown() {
        assert_eq!(shown("ä€😀\tö\n".as_bytes()), "| ä€😀 ö\n");
        assert_eq!(shown(b"\xe2\x82a\xf0\n"), "| \u{fffd}a\u{fffd}\n");
    }

    #[test]
    fn a_line_commands_no_ci_service() {
        assert_eq!(marked_line("done", "\r\n"), "| done\r\n");
        assert!(!marked_line("a ##vso[task.setvariable variable=PATH]/evil", "\n").contains("##vso["));
        assert!(!marked_line("::error::x", "\n").contains("::error"));
    }

    #[test]
    fn a_split_line_is_two_lines_even_within_a_sequence_or_a_character() {
        let mut all = Vec::new();
        let mut lines = OutputLines::default();
        for output in [&b"one"[..], b"two\x1b", b"[6nthree\xc3", b"\xa4\n"] {
            lines.add(output, |line| all.push(line.to_owned()));
            lines.split(|line| all.push(line.to_owned()));
        }
        assert_eq!(all, ["one", "two", "three\u{fffd}", "\u{fffd}"]);
    }

    fn lines(output: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        let mut lines = OutputLines::default();
        // Byte by byte, as a sequence may come in two reads.
        for byte in output {
            lines.add(&[*byte], |line| all.push(line.to_owned()));
        }
        lines.finish(|line| all.push(line.to_owned()));
        all
    }

    #[test]
    fn lines_are_what_a_person_reads() {
        assert_eq!(lines(b"one\r\ntwo\n\nthree"), ["one", "two", "", "three"]);
        assert_eq!(lines(b"\x1b[1;31mred\x1b[0m\x1b(B and\x1b]0;title\x07 plain\n"), ["red and plain"]);
        assert_eq!(lines(b"a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n"), ["alink"]);
        assert_eq!(lines(b" 10 %\r 50 %\r100 %\r\ndone\n"), ["100 %", "done"]);
        assert_eq!(lines(b"ax\x08b\tc\x00\x07\n"), ["ab c"]);
        assert_eq!(lines("ä€\n".as_bytes()), ["ä€"]);
        assert_eq!(lines(b"\xff\n"), ["\u{fffd}"]);
    }

    #[test]
    fn screen_drawings_are_not_lines() {
        assert_eq!(lines(b"before\n\x1b[2J\x1b[3;4Hmenu\x1b[4;4Hentry\nafter\n"), ["before", "after"]);
    }

    #[test]
    fn a_line_without_end_is_split() {
        let all = lines(&[b'x'; 10_000]);
        assert_eq!(all.iter().map(String::len).collect::<Vec<_>>(), [4096, 4096, 1808]);
    }
}
