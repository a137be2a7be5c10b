//! Escape sequences in what a program writes to a terminal.
//!
//! Specification: ECMA-48, 5.4 (control sequences) and 5.6 (control strings); xterm's ctlseqs.

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;
/// ENQ, which a terminal answers with a text that it was given (VT100).
const ENQUIRY: u8 = 0x05;

/// Finds the escape sequences in output, which may be cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    state: State,
    has_any: bool,
    may_ask: bool,
}

/// What a byte means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is text, or a control character such as a line break.
    Text(u8),
    /// It ends a sequence that moves the cursor up, down, or to a line, or erases the screen.
    Drawing,
    /// It is a part of another sequence.
    Nothing,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// After `ESC [`, up to a byte from `@` to `~`.
    ControlSequence,
    /// After `ESC ]` and the like, up to `BEL` or `ESC \`.
    ControlString,
    /// After `ESC (` and the like: one more byte.
    Designation,
}

impl Sequences {
    pub(super) fn take(&mut self, byte: u8) -> Meaning {
        self.has_any |= byte == ESCAPE;
        self.may_ask |= self.may_begin_question(byte);
        let mut meaning = Meaning::Nothing;
        self.state = match (&self.state, byte) {
            (State::Text, ESCAPE) | (State::ControlString, ESCAPE) => State::Escape,
            (State::Text, byte) => {
                meaning = Meaning::Text(byte);
                State::Text
            }
            (State::Escape, b'[') => State::ControlSequence,
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::ControlString,
            (State::Escape, b' '..=b'/') => State::Designation,
            (State::Escape | State::Designation, _) | (State::ControlString, BELL) => State::Text,
            (State::ControlSequence, end @ b'@'..=b'~') => {
                if b"ABEFHJdf".contains(&end) {
                    meaning = Meaning::Drawing;
                }
                State::Text
            }
            (State::ControlSequence, _) => State::ControlSequence,
            (State::ControlString, _) => State::ControlString,
        };
        meaning
    }

    /// Terminals differ in what they answer, so this is whatever is not known to have no answer: text, and sequences that
    /// only choose colours or erase a line. From 0x80 to 0x9f, a byte may be a control character (ISO 6429).
    fn may_begin_question(&self, byte: u8) -> bool {
        match self.state {
            State::Text => byte == ENQUIRY || (0x80..0xa0).contains(&byte),
            State::Escape => byte != b'[',
            State::ControlSequence => !(byte.is_ascii_digit() || b";mK".contains(&byte)),
            State::ControlString | State::Designation => true,
        }
    }

    /// Whether a terminal may answer one of them.
    pub(super) fn may_ask(&self) -> bool {
        self.may_ask
    }

    /// Whether there was a sequence, which may steer the terminal.
    pub(super) fn has_any(&self) -> bool {
        self.has_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_terminal_may_answer_is_noticed() {
        let may_ask = |output: &[u8]| {
            let mut sequences = Sequences::default();
            for byte in output {
                sequences.take(*byte);
            }
            sequences.may_ask()
        };
        for harmless in [&b"text\r\n\t\x07"[..], b"\x1b[1;31mred\x1b[0m\x1b[m", b" 10 %\x1b[K\r"] {
            assert!(!may_ask(harmless), "{}", harmless.escape_ascii());
        }
        // Device attributes and status, modes, settings, colours, the answerback text; also as bytes of ISO 6429, and
        // with a control character inside.
        for question in [
            &b"\x1b[c"[..],
            b"\x1b[>c",
            b"\x1b[6n",
            b"\x1b[?6n",
            b"\x1b[?2004$p",
            b"\x1b[21t",
            b"\x1b[x",
            b"\x1b[?4m",
            b"\x1bZ",
            b"\x1b]11;?\x07",
            b"\x1bP$qm\x1b\\",
            b"\x1b_Gi=1,a=q\x1b\\",
            b"\x05",
            b"\x9bc",
            b"\xc2\x9bc",
            b"\x1b[1\x05m",
            b"\x1b[1\x1b[c",
        ] {
            assert!(may_ask(question), "{}", question.escape_ascii());
        }
    }
}
