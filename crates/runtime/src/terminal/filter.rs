//! What programs write, before anybody sees it: workflow commands are carried out, and secrets hidden.

use printable::Secrets;
use std::sync::Arc;

/// Bytes of a line that may be a command; a longer line is output.
const COMMAND_LIMIT: usize = 64 << 10;

/// What is shown in place of a line that looks like a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// The line.
    AsItIs,
    /// Nothing.
    Nothing,
    /// Another line.
    Instead(String),
}

/// Decides about each line that looks like a command, `::NAME …::…`, without its line break.
pub(super) type CommandListener = Arc<dyn Fn(&str) -> Shown + Send + Sync>;

/// The rules of a terminal.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) on_command: CommandListener,
    pub(super) secrets: Secrets,
}

impl Default for Rules {
    fn default() -> Self {
        Self { on_command: Arc::new(|_| Shown::AsItIs), secrets: Secrets::default() }
    }
}

/// Filters the output of a program. It holds back what may be the beginning of a command or of a secret.
#[derive(Debug)]
pub(super) struct Filter {
    /// The beginning of a line that may be a command.
    line: Vec<u8>,
    /// The beginning of what may be a secret.
    tail: Vec<u8>,
    is_at_start: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self { line: Vec::new(), tail: Vec::new(), is_at_start: true }
    }
}

/// What the beginning of a line is.
#[derive(PartialEq, Eq)]
enum Beginning {
    /// No command.
    Output,
    /// Too short to tell.
    Unclear,
    /// A command, whose rest follows.
    Command,
}

impl Filter {
    /// What of the output is to be shown now.
    pub(super) fn take(&mut self, output: &[u8], rules: &Rules) -> Vec<u8> {
        for byte in output {
            if self.is_at_start {
                self.line.push(*byte);
                if *byte == b'\n' {
                    self.end_line(rules);
                } else if beginning(&self.line) == Beginning::Output || self.line.len() > COMMAND_LIMIT {
                    self.tail.append(&mut self.line);
                    self.is_at_start = false;
                }
            } else {
                self.tail.push(*byte);
                self.is_at_start = *byte == b'\n';
            }
        }
        self.shown(rules, false)
    }

    /// What is held back, after a pause: a person waits for it. The rest of a command is waited for.
    pub(super) fn pause(&mut self, rules: &Rules) -> Vec<u8> {
        if !self.line.is_empty() && beginning(&self.line) != Beginning::Command {
            self.tail.append(&mut self.line);
            self.is_at_start = false;
        }
        self.shown(rules, true)
    }

    /// What is held back, at the end of the program.
    pub(super) fn finish(&mut self, rules: &Rules) -> Vec<u8> {
        if !self.line.is_empty() {
            self.end_line(rules);
        }
        std::mem::take(self).shown(rules, true)
    }

    /// Whether a pause would show something.
    pub(super) fn holds_back(&self) -> bool {
        !self.tail.is_empty() || (!self.line.is_empty() && beginning(&self.line) != Beginning::Command)
    }

    fn end_line(&mut self, rules: &Rules) {
        let line = std::mem::take(&mut self.line);
        let text = line.trim_ascii_end();
        if beginning(text) != Beginning::Command {
            return self.tail.extend(line);
        }
        match (rules.on_command)(&String::from_utf8_lossy(text.trim_ascii_start())) {
            Shown::AsItIs => self.tail.extend(line),
            Shown::Nothing => {}
            Shown::Instead(other) => {
                for part in other.split('\n') {
                    self.tail.extend(part.bytes());
                    self.tail.extend(&line[text.len()..]);
                }
            }
        }
    }

    fn shown(&mut self, rules: &Rules, is_end: bool) -> Vec<u8> {
        let mut shown = Vec::new();
        rules.secrets.hide_in(&mut self.tail, &mut shown, is_end);
        shown
    }
}

/// GitHub's runner takes a line for a command if it begins, after blanks, with `::NAME::` or `::NAME `.
fn beginning(line: &[u8]) -> Beginning {
    let text = line.trim_ascii_start();
    let Some(rest) = text.strip_prefix(b"::") else {
        return if b"::".starts_with(text) { Beginning::Unclear } else { Beginning::Output };
    };
    let name = rest.iter().take_while(|byte| byte.is_ascii_graphic() && **byte != b':').count();
    match &rest[name..] {
        [] | b":" => Beginning::Unclear,
        [b' ', ..] | [b':', b':', ..] if name > 0 => Beginning::Command,
        _ => Beginning::Output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Rules that know `::mask::`, `::group::` and `::end::`, and the commands that were met.
    fn rules() -> (Rules, Arc<Mutex<Vec<String>>>) {
        let met: Arc<Mutex<Vec<String>>> = Arc::default();
        let (secrets, heard) = (Secrets::default(), Arc::clone(&met));
        let of_command = secrets.clone();
        let on_command = move |line: &str| {
            heard.lock().unwrap().push(line.to_owned());
            if let Some(value) = line.strip_prefix("::mask::") {
                of_command.add(value);
                return Shown::Nothing;
            }
            match line.strip_prefix("::group::") {
                Some(title) => Shown::Instead(title.into()),
                None => Shown::AsItIs,
            }
        };
        (Rules { on_command: Arc::new(on_command), secrets }, met)
    }

    fn filtered(parts: &[&str]) -> (String, Vec<String>) {
        let (rules, met) = rules();
        let mut filter = Filter::default();
        let mut shown = Vec::new();
        parts.iter().for_each(|part| shown.extend(filter.take(part.as_bytes(), &rules)));
        shown.extend(filter.finish(&rules));
        let met = met.lock().unwrap().clone();
        (String::from_utf8(shown).unwrap(), met)
    }

    #[test]
    fn commands_are_carried_out_and_secrets_hidden() {
        let text =
            "a\n::mask::s3cret\r\nthe s3cret\r\n  ::group::T\r\n::other x=1::y\n::1\n:: a\nb ::mask::x\nx";
        let expected = "a\nthe ***\r\nT\r\n::other x=1::y\n::1\n:: a\nb ::mask::x\nx";
        let commands = ["::mask::s3cret", "::group::T", "::other x=1::y"];
        assert_eq!(filtered(&[text]), (expected.into(), commands.map(Into::into).into()));
        let bytes: Vec<&str> = text.split("").collect();
        assert_eq!(filtered(&bytes).0, expected);
    }

    #[test]
    fn a_command_at_the_end_has_no_line_break() {
        assert_eq!(filtered(&["::mask::s3cret"]), (String::new(), vec!["::mask::s3cret".into()]));
    }

    #[test]
    fn a_pause_shows_what_a_person_waits_for_and_no_part_of_a_command() {
        let (rules, _) = rules();
        let mut filter = Filter::default();
        rules.secrets.add("s3cret");
        assert_eq!(filter.take(b"name: s", &rules), b"name: ");
        assert!(filter.holds_back());
        assert_eq!(filter.pause(&rules), b"s");
        assert_eq!(filter.take(b"\n::", &rules), b"\n");
        assert_eq!(filter.pause(&rules), b"::");
        assert_eq!(filter.take(b"x\n::mask::a", &rules), b"x\n");
        assert!(!filter.holds_back() && filter.pause(&rules).is_empty());
        assert_eq!(filter.take(b"bc\nabc\n", &rules), b"***\n");
    }

    #[test]
    fn a_long_line_is_no_command() {
        let line = format!("::mask::{}\n", "x".repeat(COMMAND_LIMIT));
        assert_eq!(filtered(&[&line]), (line.clone(), Vec::new()));
    }
}
