//! The output of a serial console: receives bytes, splits them into lines with time stamps, and searches them.

use std::fmt;

/// One line of the console.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Host seconds from the machine's start to the line's first byte.
    pub at: f64,
    /// CPU seconds that QEMU had used at that moment.
    pub cpu: f64,
    /// The line without its end, escape sequences and control characters.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "[{:9.3}] {}", self.at, self.text)
    }
}

/// A position in a [`Transcript`], from which a search starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    line: usize,
    offset: usize,
}

/// The result of [`Transcript::find`].
pub(crate) struct Found {
    /// Index of the pattern that matched.
    pub(crate) pattern: usize,
    /// The line with the match, as far as it has been received.
    pub(crate) line: Line,
    /// The position after the match.
    pub(crate) after: Position,
}

/// The time of a piece of output.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    pub(crate) at: f64,
    pub(crate) cpu: f64,
}

/// The whole output of a console.
#[derive(Default)]
pub(crate) struct Transcript {
    lines: Vec<Line>,
    /// The incomplete last line, as raw bytes because an escape sequence may be split.
    open: Option<(Moment, Vec<u8>)>,
}

impl Transcript {
    /// Adds `bytes`, received at `moment`; returns the completed lines.
    pub(crate) fn push(&mut self, bytes: &[u8], moment: Moment) -> &[Line] {
        let before = self.lines.len();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.open.get_or_insert_with(|| (moment, Vec::new())).1.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
        &self.lines[before..]
    }

    /// Ends the incomplete line, if there is one, and returns it.
    pub(crate) fn end_line(&mut self) -> Option<&Line> {
        let line = self.open_line()?;
        self.open = None;
        self.lines.push(line);
        self.lines.last()
    }

    /// All lines, including the incomplete one.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.iter().cloned().chain(self.open_line()).collect()
    }

    /// The first of `patterns` that occurs after `place`.
    pub(crate) fn find(&self, place: Position, patterns: &[&str]) -> Option<Found> {
        let ended = (place.line..self.lines.len()).map(|number| (number, self.lines[number].clone()));
        let open = self.open_line().map(|line| (self.lines.len(), line));
        ended.chain(open).find_map(|(number, line)| {
            let start = if number == place.line { place.offset.min(line.text.len()) } else { 0 };
            let (pattern, end) = first_of(&line.text[start..], patterns)?;
            Some(Found { pattern, line, after: Position { line: number, offset: start + end } })
        })
    }

    /// The furthest position from which a search may continue: all lines before it are complete and were searched.
    pub(crate) fn searched(&self, place: Position) -> Position {
        if place.line < self.lines.len() { Position { line: self.lines.len(), offset: 0 } } else { place }
    }

    fn open_line(&self) -> Option<Line> {
        let (moment, bytes) = self.open.as_ref()?;
        Some(Line { at: moment.at, cpu: moment.cpu, text: printable(bytes) })
    }
}

/// Index of the pattern that occurs first in `text`, and the end of the match.
fn first_of(text: &str, patterns: &[&str]) -> Option<(usize, usize)> {
    let places =
        patterns.iter().enumerate().filter_map(|(number, pattern)| Some((text.find(pattern)?, number)));
    let (start, number) = places.min()?;
    Some((number, start + patterns[number].len()))
}

/// `bytes` as text without escape sequences (ECMA-48) and control characters.
fn printable(bytes: &[u8]) -> String {
    let mut rest = bytes;
    let mut kept = Vec::with_capacity(bytes.len());
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            0x1b => after_escape(after),
            _ => after,
        };
        if byte == b'\t' || byte >= b' ' && byte != 0x7f {
            kept.push(byte);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The bytes after an escape sequence; `bytes` begin after its ESC. Empty if the sequence is truncated.
fn after_escape(bytes: &[u8]) -> &[u8] {
    let after = |position: Option<usize>| position.map_or(&bytes[bytes.len()..], |last| &bytes[last + 1..]);
    match bytes.first() {
        // Control sequence: up to a byte from `@` to `~`.
        Some(b'[') => after((1..bytes.len()).find(|&at| (0x40..=0x7e).contains(&bytes[at]))),
        // A string for the terminal, such as a title: up to BEL or ESC \.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => after(
            (1..bytes.len()).find(|&at| bytes[at] == 0x07 || bytes[at] == b'\\' && bytes[at - 1] == 0x1b),
        ),
        // Intermediate bytes (as in ESC ( B), then a final one.
        _ => after(bytes.iter().position(|byte| !(0x20..=0x2f).contains(byte))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pieces: &[&str]) -> Transcript {
        let mut transcript = Transcript::default();
        for (number, piece) in pieces.iter().enumerate() {
            transcript.push(piece.as_bytes(), Moment { at: number as f64, cpu: 0.0 });
        }
        transcript
    }

    #[test]
    fn a_line_has_the_time_of_its_first_byte() {
        let transcript = said(&["one\r\ntw", "o\r\n", "login: "]);
        let lines: Vec<_> = transcript.lines().iter().map(Line::to_string).collect();
        assert_eq!(lines, ["[    0.000] one", "[    0.000] two", "[    2.000] login: "]);
    }

    #[test]
    fn push_returns_complete_lines_only() {
        let mut transcript = said(&["one\ntw"]);
        let ended = transcript.push(b"o\nthree\nfo", Moment::default());
        assert_eq!(ended.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["two", "three"]);
    }

    #[test]
    fn escape_sequences_are_not_text_even_when_cut() {
        assert_eq!(printable(b"\x1bc\x1b[?7l\x1b[0;32m  OK  \x1b[0m done\x1b(B!\x07"), "  OK   done!");
        assert_eq!(printable(b"\x1b]3008;start=1\x1b\\# \x1b]0;title\x07$"), "# $");
        assert_eq!(printable(b"a\x1b[0;3"), "a");
        assert_eq!(said(&["\x1b[0;1", ";39mdebian", " login: "]).lines()[0].text, "debian login: ");
    }

    #[test]
    fn a_search_continues_after_the_last_match() {
        let transcript = said(&["job a: started\njob b: started\n", "# "]);
        let first = transcript.find(Position::default(), &["started"]).unwrap();
        assert_eq!(first.line.text, "job a: started");
        let second = transcript.find(first.after, &["started"]).unwrap();
        assert_eq!(second.line.text, "job b: started");
        let prompt = transcript.find(second.after, &["# "]).unwrap();
        assert!(transcript.find(prompt.after, &["# "]).is_none());
    }

    #[test]
    fn the_earliest_of_several_patterns_wins() {
        let transcript = said(&["x error: y job\n"]);
        assert_eq!(transcript.find(Position::default(), &["job", "error"]).unwrap().pattern, 1);
    }

    #[test]
    fn complete_lines_are_searched_once_and_an_open_line_again() {
        let transcript = said(&["one\ntwo\nthr"]);
        let place = transcript.searched(Position::default());
        assert!(transcript.find(place, &["one"]).is_none());
        let open = transcript.find(place, &["th"]).unwrap();
        assert_eq!(transcript.searched(open.after), open.after);
        assert!(transcript.find(open.after, &["r"]).is_some());
    }
}
