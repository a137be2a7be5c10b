//! The expression language, used in `${{ … }}` and in `if:`.
//!
//! It is the language of GitHub Actions: what is well-formed there is well-formed here, and has the same value.
//! Comments explain each difference. All errors are found while parsing; evaluation cannot fail.

mod bounded;
mod evaluate;
mod functions;
mod syntax;
mod template;
mod token;
mod value;

pub use template::Template;
pub use value::Value;

use std::fmt;
use std::ops::Range;
use syntax::Syntax;

/// The longest expression in characters: GitHub's limit.
const MAX_LENGTH: usize = 21_000;

/// Why and where a text is not an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    /// Start of the fault in bytes of the parsed text.
    pub offset: usize,
    /// Length of the fault in bytes.
    pub length: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ExpressionError {
    fn new(span: &Range<usize>, message: impl Into<String>) -> Self {
        Self { offset: span.start, length: span.len(), message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for ExpressionError {}

/// The status functions, which ask about earlier jobs and steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `success()`: nothing has failed so far.
    Success,
    /// `failure()`: something has failed.
    Failure,
    /// `always()`: true in any case.
    Always,
    /// `cancelled()`: the workflow was cancelled.
    Cancelled,
}

/// The values that an expression can use.
pub trait Scope {
    /// The context called `name`, in lower case; [`Value::Null`] if there is none.
    fn context(&self, name: &str) -> Value;

    /// Whether this status applies.
    fn status(&self, status: Status) -> bool;
}

/// A value from a context that an expression uses: `needs.build.outputs.x` or `env['A']`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The context in lower case, then the keys as written, up to the first that is not constant.
    pub path: Vec<String>,
    /// Start in bytes of the parsed text.
    pub offset: usize,
    /// Length in bytes.
    pub length: usize,
}

/// A well-formed expression.
#[derive(Debug, Clone)]
pub struct Expression {
    text: String,
    syntax: Syntax,
}

/// Equal texts are equal expressions.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl Expression {
    /// Parses the text between `${{` and `}}`.
    ///
    /// # Errors
    /// When the text is not an expression, or calls an unknown function, or one with the wrong arguments.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        Self::parse_part(text, 0..text.len())
    }

    /// Parses the condition of an `if:`, which may be enclosed in `${{ }}`.
    ///
    /// # Errors
    /// As [`Expression::parse`]; also when `${{ }}` encloses only a part of it.
    pub fn condition(text: &str) -> Result<Self, ExpressionError> {
        Self::parse_part(text, template::condition(text)?)
    }

    fn parse_part(text: &str, part: Range<usize>) -> Result<Self, ExpressionError> {
        let length = text[part.clone()].chars().count();
        if length > MAX_LENGTH {
            let message = format!(
                "the expression has {length} characters, more than the limit of \
                                   {MAX_LENGTH}"
            );
            return Err(ExpressionError::new(&part, message).hint("split it, or move a part into `env`"));
        }
        Ok(Self { text: text.to_owned(), syntax: Syntax::parse(text, part)? })
    }

    /// The text as written, including `${{ }}`.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.text
    }

    /// The value of the expression.
    #[must_use]
    pub fn evaluate(&self, scope: &dyn Scope) -> Value {
        self.syntax.root.evaluate(scope).value
    }

    /// The values from contexts that the expression uses, in the order of its text.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.syntax.names
    }

    /// Its value if it is the same in every run: it uses no context and calls no status function.
    #[must_use]
    pub fn constant(&self) -> Option<Value> {
        let is_constant = self.names().is_empty() && !self.asks_for_status();
        is_constant.then(|| self.evaluate(&Nothing))
    }

    /// Whether it calls `success()`, `failure()`, `always()` or `cancelled()`.
    #[must_use]
    pub fn asks_for_status(&self) -> bool {
        self.syntax.asks_for_status
    }
}

/// The scope of an expression that uses nothing.
struct Nothing;

impl Scope for Nothing {
    fn context(&self, _: &str) -> Value {
        Value::Null
    }

    fn status(&self, _: Status) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scope with every kind of value, in which nothing has failed. The context `never` must not be evaluated.
    pub(super) struct Sample;

    impl Scope for Sample {
        fn context(&self, name: &str) -> Value {
            let text = |text: &str| Value::Text(text.into());
            let map = |entries: &[(&str, Value)]| {
                Value::Map(entries.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
            };
            let tags = Value::List(vec![text("x"), text("y")]);
            let disks = [
                map(&[("name", text("sda")), ("tags", tags)]),
                map(&[("name", text("sdb")), ("size", Value::Number(8.0))]),
                text("none"),
            ];
            match name {
                "env" => {
                    map(&[("Name", text("Ada")), ("EMPTY", text("")), ("a", text("1")), ("A", text("2"))])
                }
                "words" => Value::List(vec![text("zero"), text("One"), text("two"), Value::Number(3.0)]),
                "disks" => Value::List(disks.into()),
                "needs" => map(&[("b", map(&[("result", text("success"))])), ("c", map(&[]))]),
                "never" => panic!("`never` was evaluated"),
                _ => Value::Null,
            }
        }

        fn status(&self, status: Status) -> bool {
            matches!(status, Status::Success | Status::Always)
        }
    }

    /// The value of an expression as JSON on one line.
    pub(super) fn value(text: &str) -> String {
        let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let value = expression.evaluate(&Sample);
        functions::call(functions::Function::ToJson, &[value], &Sample)
            .to_string()
            .replace("\n", "")
            .replace("  ", "")
    }

    pub(super) fn assert_values(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            assert_eq!(value(text), *expected, "{text}");
        }
    }

    /// Each case has the text, its faulty part, and a part of the message and the hint.
    pub(super) fn assert_faults(cases: &[(&str, &str, &str)]) {
        for (text, at_fault, expected) in cases {
            let error = Expression::condition(text).expect_err(text);
            let said = format!("{error}; {}", error.hint.as_deref().unwrap_or_default());
            assert_eq!(&text[error.offset..error.offset + error.length], *at_fault, "{text}: {said}");
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    #[test]
    fn the_names_in_an_expression_are_known_before_the_run() {
        let cases: [(&str, &[(&str, &str)]); 8] = [
            ("needs.build.outputs.x == 'y'", &[("needs.build.outputs.x", "needs/build/outputs/x")]),
            ("ENV['A b'] [ 'C' ]", &[("ENV['A b'] [ 'C' ]", "env/A b/C")]),
            ("words[1].x", &[("words[1].x", "words/1/x")]),
            ("needs.*.result", &[("needs", "needs")]),
            ("env[needs.a].b", &[("env", "env"), ("needs.a", "needs/a")]),
            ("!a.b && contains(c . d, 'e.f')", &[("a.b", "a/b"), ("c . d", "c/d")]),
            ("(a.b).c", &[("a.b", "a/b")]),
            ("'é' == steps.x.outputs", &[("steps.x.outputs", "steps/x/outputs")]),
        ];
        for (text, expected) in cases {
            let expression = Expression::parse(text).unwrap();
            let names: Vec<_> = expression
                .names()
                .iter()
                .map(|name| (&text[name.offset..name.offset + name.length], name.path.join("/")))
                .collect();
            let expected: Vec<_> = expected.iter().map(|(part, path)| (*part, (*path).to_owned())).collect();
            assert_eq!(names, expected, "{text}");
        }
    }

    #[test]
    fn positions_in_a_condition_refer_to_the_whole_text() {
        let expression = Expression::condition(" ${{ env.A }}\n").unwrap();
        assert_eq!(expression.names()[0].offset, 5);
        assert_faults(&[("${{ env.A b }}", "b", "unexpected `b`")]);
    }

    #[test]
    fn a_status_function_is_found_at_any_depth() {
        for (text, expected) in [
            ("true", false),
            ("env.success", false),
            ("'success()'", false),
            ("Always()", true),
            ("format('{0}', env[failure()])", true),
            ("false && !(cancelled())", true),
        ] {
            assert_eq!(Expression::parse(text).unwrap().asks_for_status(), expected, "{text}");
        }
    }

    #[test]
    fn a_constant_is_known_before_the_run() {
        for (text, expected) in [
            ("true", Some(true)),
            ("'' || contains('ab', 'B')", Some(true)),
            ("${{ 1 == 2 }}", Some(false)),
            ("always()", None),
            ("true || needs.*.result", None),
            ("env", None),
        ] {
            let constant = Expression::condition(text).unwrap().constant();
            assert_eq!(constant.map(|value| value.is_true()), expected, "{text}");
        }
    }

    #[test]
    fn an_expression_is_no_longer_than_on_github() {
        let of = |length: usize| format!("'{}'", "é".repeat(length - 2));
        assert!(Expression::parse(&of(MAX_LENGTH)).is_ok());
        let text = of(MAX_LENGTH + 1);
        let error = Expression::parse(&text).unwrap_err();
        assert_eq!((error.offset, error.length), (0, text.len()));
        assert!(error.message.contains("21001 characters"), "{error}");
    }

    #[test]
    fn malicious_texts_are_refused_and_do_no_harm() {
        let hostile = [
            "(".repeat(20_000),
            "!".repeat(20_000),
            "[".repeat(20_000),
            "a[".repeat(10_000),
            "a.".repeat(10_000) + "a",
            "a".to_owned() + &"[0]".repeat(6_000),
            "a".to_owned() + &".*".repeat(9_000),
            "a".to_owned() + &"<a".repeat(10_000),
            "format(".repeat(2_900),
            "'".repeat(20_001),
            "\"".repeat(20_000),
            "-".repeat(20_000),
            "x".repeat(20_000) + "()",
            "a\0b".into(),
            "\0".into(),
            "é".into(),
            "\u{1b}[2J".into(),
        ];
        for text in &hostile {
            let error = Expression::parse(text).expect_err(text);
            assert!(text.get(error.offset..error.offset + error.length).is_some(), "{error}");
            assert!(!error.message.contains(char::is_control), "{error:?}");
            assert!(error.message.len() < 200, "{error}");
            assert!(Template::parse(&format!("${{{{{text}}}}}")).is_err());
        }
    }

    #[test]
    fn long_chains_are_not_deep() {
        assert_eq!(value(&("true && ".repeat(2_500) + "1")), "1");
        assert_eq!(value(&("false || ".repeat(2_000) + "1")), "1");
    }

    #[test]
    fn no_prefix_and_no_gap_makes_it_panic() {
        for text in [
            "format('{{}} {0} {1}', env['Näme'].x, 0x1F) != '}}''' && !contains(disks.*.name, -1.5e3)",
            "${{ always() && (words[0] >= .5 || needs.*['é'] < null) }}",
            "é ${{ toJSON(join(env.*, ', ')) }} ${{ 'it''s }}' }} \u{1f600}",
        ] {
            for (cut, letter) in text.char_indices() {
                let gap = [&text[..cut], &text[cut + letter.len_utf8()..]].concat();
                for text in [&text[..cut], &text[cut..], &gap] {
                    for parsed in [Expression::parse(text), Expression::condition(text)] {
                        let _ = parsed.map(|expression| expression.evaluate(&Sample).to_string());
                    }
                    let _ = Template::parse(text).map(|template| template.evaluate(&Sample));
                }
            }
        }
    }
}
