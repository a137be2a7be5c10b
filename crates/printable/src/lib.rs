//! Escapes untrusted text for printing: text from registries, servers, workflows, containers and the network can
//! neither control a terminal nor look like a message of Iguana.
//!
//! Principles:
//!
//! 1. Text is escaped once, where it is printed, by both programs; before that it is passed on unchanged.
//! 2. [`Secrets`] are values that are hidden where text is printed.
//! 3. Everything that a reader cannot see is escaped: control characters, and characters that hide or reorder others.
//!
//! ```
//! assert_eq!(printable::visible("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
//! ```
//!
//! Errors: none. Every text can be printed.
//!
//! Specifications: ISO 6429 (control functions), Unicode UAX #9 (bidirectional text), UAX #44
//! (`Default_Ignorable_Code_Point`).
#![forbid(unsafe_code)]

mod secrets;

pub use secrets::Secrets;

use std::borrow::Cow;
use std::fmt::Write as _;

/// Prefix of each further line of a message, so that it cannot look like the beginning of another message.
pub const CONTINUATION: &str = "  | ";

/// Limits of a printed message in bytes and lines: a serial console prints it in two seconds (115,200 bit/s); a
/// document of 8 MiB would take twelve minutes.
const MESSAGE_LIMIT: usize = 16 << 10;
const LINES_LIMIT: usize = 500;

/// Whether a character is escaped: it controls a terminal (including ISO 6429's C1), is invisible, or reorders others
/// (Unicode's `Default_Ignorable_Code_Point` and `Bidi_Control`; line and paragraph separators; the empty Braille pattern).
/// Tabs are not escaped, nor are spaces of other widths.
#[must_use]
pub fn is_hidden(letter: char) -> bool {
    match letter {
        '\t' => false,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' => true,
        '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{fe00}'..='\u{fe0f}' | '\u{fff0}'..='\u{fffb}' => true,
        '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' => true,
        other => other.is_control(),
    }
}

/// The text on one line, with hidden characters escaped as in Rust: `\n`, `\u{1b}`.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for letter in text.chars() {
        match is_hidden(letter) {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    Cow::Owned(shown)
}

/// Splits a message into lines to print. Hidden characters other than line breaks are escaped, and each further line
/// begins with [`CONTINUATION`]. A message that is too long is shortened, and the size of the omitted part is added.
#[must_use]
pub fn lines(message: &str) -> Vec<String> {
    let message = message.trim_end_matches(['\n', '\r']);
    let shown = beginning(message);
    let mut lines = escaped_lines(shown);
    if shown.len() < message.len() {
        lines.push(format!("{CONTINUATION}… ({} bytes omitted)", message.len() - shown.len()));
    }
    lines
}

fn beginning(message: &str) -> &str {
    let shown = &message[..message.floor_char_boundary(MESSAGE_LIMIT)];
    let end = shown.match_indices('\n').nth(LINES_LIMIT - 1).map_or(shown.len(), |(end, _)| end);
    &shown[..end]
}

fn escaped_lines(message: &str) -> Vec<String> {
    let lines = message.split('\n').enumerate();
    let lines = lines.map(|(number, line)| {
        let line = visible(line.strip_suffix('\r').unwrap_or(line));
        let continuation = if number == 0 { "" } else { CONTINUATION };
        without_commands(&format!("{continuation}{line}")).into_owned()
    });
    lines.collect()
}

/// Changes a line so that no CI service takes it for a command. The runners of GitHub and Azure accept `::NAME::` at
/// the beginning of a line (also after blanks), and `##[NAME]`, `##vso[NAME]` anywhere; TeamCity accepts
/// `##teamcity[…]`.
#[must_use]
pub fn without_commands(line: &str) -> Cow<'_, str> {
    let blank = line.len() - line.trim_start().len();
    let begins_one = line[blank..].starts_with("::");
    if !begins_one && !line.contains("##") {
        return Cow::Borrowed(line);
    }
    let (mut shown, rest) = match begins_one {
        true => (format!("{}\\u{{3a}}", &line[..blank]), &line[blank + 1..]),
        false => (String::new(), line),
    };
    for letter in rest.chars() {
        let is_after_name =
            || shown.trim_end_matches(|letter: char| letter.is_ascii_alphanumeric()).ends_with("##");
        match letter {
            '[' if is_after_name() => shown.push_str("\\u{5b}"),
            other => shown.push(other),
        }
    }
    Cow::Owned(shown)
}

/// Escapes hidden characters in the strings of a JSON text (RFC 8259, section 7); serde_json does that for ASCII
/// only.
#[must_use]
pub fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter != '\n' && is_hidden(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(letter);
        }
    }
    shown.replace("##", "#\\u0023")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_invisible_characters_are_escaped() {
        for (text, expected) in [
            ("plain", "plain"),
            ("ä 漢 é\tb", "ä 漢 é\tb"),
            ("a\u{1b}[31mb", r"a\u{1b}[31mb"),
            ("a\r\nb", r"a\r\nb"),
            ("\u{9b}2J\u{7f}\0", r"\u{9b}2J\u{7f}\u{0}"),
            ("gpj\u{202e}exe", r"gpj\u{202e}exe"),
            ("a\u{200b}\u{2066}\u{feff}\u{e0041}", r"a\u{200b}\u{2066}\u{feff}\u{e0041}"),
            ("a\u{2028}b\u{85}c", r"a\u{2028}b\u{85}c"),
            ("install\u{3164}\u{2800}\u{115f}\u{e0100}", r"install\u{3164}\u{2800}\u{115f}\u{e0100}"),
            ("✔\u{fe0f}\u{34f}\u{1d173}\u{17b4}", r"✔\u{fe0f}\u{34f}\u{1d173}\u{17b4}"),
        ] {
            assert_eq!(visible(text), expected);
        }
    }

    #[test]
    fn a_continuation_line_never_looks_like_a_first_line() {
        let message = "refused\niguana: workflow: signed by you\r\n\n::error::x\n";
        let expected = ["refused", "  | iguana: workflow: signed by you", "  | ", "  | ::error::x"];
        assert_eq!(lines(message), expected);
        assert_eq!(lines(""), [""]);
    }

    #[test]
    fn the_bytes_and_lines_of_a_message_are_limited() {
        for (message, expected, left_out) in [
            ("é".repeat(MESSAGE_LIMIT / 2), 1, 0),
            (format!("a{}", "é".repeat(MESSAGE_LIMIT)), 2, MESSAGE_LIMIT + 2),
            ("x\n".repeat(LINES_LIMIT), LINES_LIMIT, 0),
            ("x\n".repeat(LINES_LIMIT + 10), LINES_LIMIT + 1, 20),
        ] {
            let lines = lines(&message);
            assert_eq!(lines.len(), expected);
            let told = format!("  | … ({left_out} bytes omitted)");
            assert_eq!(lines.last() == Some(&told), left_out > 0, "{:?}", lines.last());
        }
    }

    #[test]
    fn no_line_is_a_command_for_a_ci_service() {
        for (line, expected) in [
            ("::error::x", r"\u{3a}:error::x"),
            ("  ::set-env name=a::b", r"  \u{3a}:set-env name=a::b"),
            ("a ::error::", "a ::error::"),
            ("a ##[error]x ##vso[task.a]b", r"a ##\u{5b}error]x ##vso\u{5b}task.a]b"),
            ("##teamcity[x", r"##teamcity\u{5b}x"),
            ("###[x", r"###\u{5b}x"),
            ("## a [b] # [c] ##", "## a [b] # [c] ##"),
            ("####", "####"),
            ("##ä[", "##ä["),
            ("::##[x", r"\u{3a}:##\u{5b}x"),
        ] {
            assert_eq!(without_commands(line), expected);
        }
    }

    #[test]
    fn json_keeps_its_value() {
        let value = serde_json::json!({"a": "\u{9b}\u{202e}\u{e0041}\n\u{1b}##[x] ##vso[y]\u{7f}ä"});
        let shown = json(&format!("{value:#}\n"));
        assert!(
            !shown.contains(|letter| letter != '\n' && is_hidden(letter)) && !shown.contains("##"),
            "{shown}"
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
