//! The names of environment variables and of outputs.

use yaml_tree::finding::Severity;

/// What has the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameOf {
    /// An environment variable.
    Variable,
    /// An output of a job.
    Output,
}

/// What is wrong with a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NameFault {
    pub(super) severity: Severity,
    pub(super) message: String,
    pub(super) hint: &'static str,
}

impl NameOf {
    /// What is wrong with the name: an error if no program could have it in its environment (POSIX, section 8.1, with the
    /// blanks and control characters that are always a mistake), a warning if only shells or expressions cannot use it.
    pub(super) fn fault(self, name: &str) -> Option<NameFault> {
        let (what, users, extra) = match self {
            Self::Variable => ("a variable", "shells", "_"),
            Self::Output => ("an output", "expressions", "_-"),
        };
        let shown = name.escape_debug();
        let fault = |severity, message, hint| Some(NameFault { severity, message, hint });
        let is_wrong = |letter: char| letter == '=' || letter.is_whitespace() || letter.is_control();
        let is_usual = |letter: char| letter.is_ascii_alphanumeric() || extra.contains(letter);
        if name.contains("${{") {
            let message = format!("expressions are not evaluated in the name of {what}: `{shown}`");
            return fault(Severity::Error, message, "write the name, and use the expression in the value");
        }
        if name.is_empty() || name.contains(is_wrong) {
            let message = format!("`{shown}` is not a valid name of {what}");
            return fault(Severity::Error, message, "use letters, digits and `_`");
        }
        if !name.chars().all(is_usual)
            || name.starts_with(|first: char| !first.is_ascii_alphabetic() && first != '_')
        {
            let message = format!("{users} cannot use `{shown}` as the name of {what}");
            let hint = "use letters, digits and `_`, and begin with a letter or `_`";
            return fault(Severity::Warning, message, hint);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_by_who_uses_them() {
        let judged = |name_of: NameOf, name: &str| name_of.fault(name).map(|fault| fault.severity);
        for name in ["A", "_a1", "http_proxy"] {
            assert_eq!(
                (judged(NameOf::Variable, name), judged(NameOf::Output, name)),
                (None, None),
                "{name}"
            );
        }
        for name in ["", "A=B", "A B", "A\tB", "A\0", "${{ env.A }}", "A_${{ env.A }}"] {
            for name_of in [NameOf::Variable, NameOf::Output] {
                assert_eq!(judged(name_of, name), Some(Severity::Error), "{name:?}");
            }
        }
        for name in ["1A", "a.b", "ä"] {
            assert_eq!(judged(NameOf::Variable, name), Some(Severity::Warning), "{name}");
        }
        assert_eq!(judged(NameOf::Variable, "disk-size"), Some(Severity::Warning));
        assert_eq!(judged(NameOf::Output, "disk-size"), None);
    }
}
