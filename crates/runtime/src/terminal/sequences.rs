//! Escape sequences in what a program writes to a terminal.
//!
//! Specification: ECMA-48, 5.4 (control sequences) and 5.6 (control strings); xterm's ctlseqs.

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// Finds the escape sequences in output, which may be cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    state: State,
    has_any: bool,
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

    /// Whether there was a sequence, which may steer the terminal.
    pub(super) fn has_any(&self) -> bool {
        self.has_any
    }
}
