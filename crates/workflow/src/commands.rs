//! Workflow commands: lines such as `::group::TITLE` in the output of a step (GitHub, "Workflow commands").

/// Commands that have no effect, each with what to do instead.
pub const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("set-output", "write the output to the file: `echo NAME=VALUE >> $GITHUB_OUTPUT`"),
    ("save-state", "write a variable to the file: `echo NAME=VALUE >> $GITHUB_ENV`"),
    ("set-env", "write the variable to the file: `echo NAME=VALUE >> $GITHUB_ENV`"),
    ("add-path", "write the directory to the file: `echo /DIRECTORY >> $GITHUB_PATH`"),
    ("add-matcher", "remove it: nothing looks for problems in the output"),
    ("remove-matcher", "remove it: nothing looks for problems in the output"),
];

/// A command and its parts, unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its name in lower case.
    pub name: String,
    /// Its properties as written: `file=a,line=1`.
    pub properties: Vec<(String, String)>,
    /// What follows.
    pub message: String,
}

impl Command {
    /// Parses a line; `None` if it is not a command. The names are not checked.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (head, message) = line.trim_start().strip_prefix("::")?.split_once("::")?;
        let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
        let pairs = properties.split(',').filter_map(|property| property.trim().split_once('='));
        let pairs = pairs.map(|(key, value)| (key.to_owned(), unescaped(value)));
        let is_name = !name.is_empty() && !name.contains(|letter: char| letter.is_whitespace());
        is_name.then(|| Self {
            name: name.to_ascii_lowercase(),
            properties: pairs.collect(),
            message: unescaped(message),
        })
    }

    /// What to do instead, if it has no effect.
    #[must_use]
    pub fn instead(&self) -> Option<&'static str> {
        WITHOUT_EFFECT.iter().find(|(name, _)| *name == self.name).map(|(_, instead)| *instead)
    }
}

/// The commands without an effect that a script mentions, with their offsets in bytes; each once.
pub(super) fn without_effect(script: &str) -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    WITHOUT_EFFECT.iter().filter_map(|(name, instead)| {
        let begin = format!("::{name}");
        let is_command = |(at, _): &(usize, &str)| {
            let rest = &script[at + begin.len()..];
            rest.starts_with("::") || rest.starts_with(' ')
        };
        let (at, _) = script.match_indices(&begin).find(is_command)?;
        Some((at, *name, *instead))
    })
}

/// The runner's escapes of characters that end a command or a property.
fn unescaped(text: &str) -> String {
    let of_line = text.replace("%0D", "\r").replace("%0A", "\n");
    of_line.replace("%3A", ":").replace("%2C", ",").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_parsed_as_the_runner_does() {
        let parsed = |line| Command::parse(line).unwrap();
        let warning = parsed("  ::Warning file=a.sh,line=7::100%25 full%0Anow");
        assert_eq!((warning.name.as_str(), warning.message.as_str()), ("warning", "100% full\nnow"));
        assert_eq!(warning.properties, [("file".into(), "a.sh".into()), ("line".into(), "7".into())]);
        let output = parsed("::set-output name=x::a::b");
        assert_eq!(output.message, "a::b");
        assert!(output.instead().unwrap().contains("GITHUB_OUTPUT") && warning.instead().is_none());
        assert_eq!(parsed("::endgroup::").name, "endgroup");
        for other in ["::1", "x ::group::", "::::", ":: group::", ""] {
            assert_eq!(Command::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_script_is_searched_for_commands_without_effect() {
        let script = "echo ::group::a\necho '::set-output name=a::b'\necho ::set-output::x\nx ::add-path::/y\n::set-environment::";
        let found: Vec<_> = without_effect(script).map(|(at, name, _)| (at, name)).collect();
        assert_eq!(found, [(22, "set-output"), (69, "add-path")]);
    }
}
