//! What a program without a terminal writes, as a console shows it.
//!
//! A terminal answers some sequences, and the answer would be input of the next program that has the terminal. Other
//! sequences move the cursor to the lines of others. So only text is shown, and a mark at the beginning of each line
//! tells it from Iguana's own.

use super::sequences::{Meaning, Sequences};
use printable::is_hidden;

/// As in the log.
pub(super) const MARK: &str = "| ";

/// Makes output safe to show, however it is cut.
#[derive(Debug)]
pub(super) struct MarkedText {
    sequences: Sequences,
    /// The beginning of a character.
    character: Vec<u8>,
    is_at_start: bool,
}

impl Default for MarkedText {
    fn default() -> Self {
        Self { sequences: Sequences::default(), character: Vec::new(), is_at_start: true }
    }
}

impl MarkedText {
    pub(super) fn show(&mut self, output: &[u8]) -> String {
        let mut shown = String::new();
        for byte in output {
            if let Meaning::Text(byte) = self.sequences.take(*byte) {
                self.add(byte, &mut shown);
            }
        }
        shown
    }

    fn add(&mut self, byte: u8, shown: &mut String) {
        self.character.push(byte);
        match std::str::from_utf8(&self.character).map(|text| text.chars().next()) {
            Ok(Some(letter)) => self.add_letter(letter, shown),
            // More bytes follow.
            Err(error) if error.error_len().is_none() => return,
            _ => self.add_letter(char::REPLACEMENT_CHARACTER, shown),
        }
        let was_cut = self.character.len() > 1 && std::str::from_utf8(&self.character).is_err();
        self.character.clear();
        if was_cut {
            // It begins the next one.
            self.add(byte, shown);
        }
    }

    fn add_letter(&mut self, letter: char, shown: &mut String) {
        // A carriage return begins the same line again, over the mark.
        let is_break = letter == '\n' || letter == '\r';
        if !is_break && letter != '\t' && is_hidden(letter) {
            return;
        }
        if !is_break && self.is_at_start {
            shown.push_str(MARK);
        }
        self.is_at_start = is_break;
        shown.push(letter);
    }
}

/// A finished line, as [`MarkedText`] shows it.
pub(super) fn marked_line(line: &str, end: &str) -> String {
    let text: String = line.chars().filter(|letter| !is_hidden(*letter)).collect();
    format!("{MARK}{}{end}", printable::without_commands(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(output: &[u8]) -> String {
        let mut text = MarkedText::default();
        // Byte by byte, as a sequence or a character may come in two reads.
        output.iter().map(|byte| text.show(&[*byte])).collect()
    }

    #[test]
    fn each_line_has_the_mark_whatever_begins_it() {
        assert_eq!(shown(b"one\n\ntwo\r\n 10 %\r 20 %\n"), "| one\n\n| two\r\n|  10 %\r|  20 %\n");
        let forged = b"\r[   20.001] iguana: workflow: signed\n\x1b[1G[   20] x\n\x08\x08y\n";
        assert_eq!(shown(forged), "\r| [   20.001] iguana: workflow: signed\n| [   20] x\n| y\n");
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
        assert_eq!(shown("ä€😀\tö\n".as_bytes()), "| ä€😀\tö\n");
        assert_eq!(shown(b"\xe2\x82a\xf0\n"), "| \u{fffd}a\u{fffd}\n");
    }

    #[test]
    fn a_finished_line_commands_no_ci_service() {
        assert_eq!(marked_line("done", "\r\n"), "| done\r\n");
        assert!(!marked_line("a ##vso[task.setvariable variable=PATH]/evil", "\n").contains("##vso["));
    }
}
