//! Texts that contain `${{ … }}`.

use super::bounded::BoundedText;
use super::{Expression, ExpressionError, Scope};
use std::fmt::Write as _;
use std::ops::Range;

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// A text with any number of `${{ … }}` in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    source: String,
    /// In the order of the text.
    placeholders: Vec<Placeholder>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Placeholder {
    /// Span from `${{` to `}}`, including both.
    span: Range<usize>,
    expression: Expression,
}

impl Template {
    /// Parses a text and all expressions in it.
    ///
    /// # Errors
    /// When a `${{` is not closed, or does not contain an expression.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let mut placeholders = Vec::new();
        let mut at = 0;
        while let Some(length) = text[at..].find(OPEN) {
            let inside = inside(text, at + length)?;
            let expression = Expression::parse(&text[inside.clone()])
                .map_err(|error| ExpressionError { offset: inside.start + error.offset, ..error })?;
            let span = at + length..inside.end + CLOSE.len();
            at = span.end;
            placeholders.push(Placeholder { span, expression });
        }
        Ok(Self { source: text.to_owned(), placeholders })
    }

    /// A text that is taken literally, even if it contains `${{`.
    #[must_use]
    pub fn literal(text: impl Into<String>) -> Self {
        Self { source: text.into(), placeholders: Vec::new() }
    }

    /// The text, if it has no expressions.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        self.placeholders.is_empty().then_some(self.source.as_str())
    }

    /// The text as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text with the values of its expressions.
    #[must_use]
    pub fn evaluate(&self, scope: &dyn Scope) -> String {
        if let Some(text) = self.as_literal() {
            return text.to_owned();
        }
        let mut text = BoundedText::default();
        let mut at = 0;
        for Placeholder { span, expression } in &self.placeholders {
            let _ = write!(text, "{}{}", &self.source[at..span.start], expression.evaluate(scope));
            at = span.end;
        }
        text.push(&self.source[at..]);
        text.into_string()
    }

    /// The expressions, each with its byte offset in the source.
    pub fn expressions(&self) -> impl Iterator<Item = (&Expression, usize)> {
        self.placeholders
            .iter()
            .map(|placeholder| (&placeholder.expression, placeholder.span.start + OPEN.len()))
    }
}

/// The span between the `${{` at `open` and its `}}`. A `}}` in quotes does not count.
fn inside(text: &str, open: usize) -> Result<Range<usize>, ExpressionError> {
    let start = open + OPEN.len();
    let mut is_quoted = false;
    for (index, byte) in text.bytes().enumerate().skip(start) {
        match byte {
            // A doubled quote toggles twice, so it has no effect.
            b'\'' => is_quoted = !is_quoted,
            b'}' if !is_quoted && text[index..].starts_with(CLOSE) => return Ok(start..index),
            _ => {}
        }
    }
    let hint = if is_quoted { "close the string with `'`, then write `}}`" } else { "close it with `}}`" };
    Err(ExpressionError::new(&(open..start), "this `${{` is not closed").hint(hint))
}

/// The part of a condition that is the expression.
///
/// On GitHub a condition with several `${{ … }}` is a text, which is always true. Nobody wants that, so it is an
/// error here. White space around `${{ … }}` has the same effect there; here it is ignored.
pub(super) fn condition(text: &str) -> Result<Range<usize>, ExpressionError> {
    let Some(open) = text.find(OPEN) else { return Ok(0..text.len()) };
    let start = text.len() - text.trim_start().len();
    let end = text.trim_end().len();
    if open == start {
        let inside = inside(text, open)?;
        if inside.end + CLOSE.len() == end {
            return Ok(inside);
        }
    }
    Err(ExpressionError::new(
        &(start..end),
        "`${{ }}` encloses only a part of this condition, which turns it into a string",
    )
    .hint("enclose the whole condition in one `${{ }}`, or omit `${{ }}`"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Sample, assert_faults};
    use super::*;

    #[test]
    fn a_template_is_filled() {
        for (text, expected) in [
            ("", ""),
            ("plain {{ }} $ }}", "plain {{ }} $ }}"),
            ("${{ env.name }}", "Ada"),
            ("é ${{env.name}}é${{ 1 == 1 }}!", "é Adaétrue!"),
            ("${{ 'a }} b' }} c", "a }} b c"),
            ("${{ 'it''s }}' }}}", "it's }}}"),
            ("${{ '${{ x }}' }}", "${{ x }}"),
            ("a${{ null }}b${{ words }}", "abArray"),
        ] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.evaluate(&Sample), expected, "{text}");
            assert_eq!(template.source(), text);
            assert_eq!(template.as_literal().is_some(), !text.contains("${{"), "{text}");
        }
    }

    #[test]
    fn a_literal_stands_for_itself() {
        let literal = Template::literal("${{ env.name }}");
        assert_eq!(literal.evaluate(&Sample), "${{ env.name }}");
        assert_eq!(literal.as_literal(), Some("${{ env.name }}"));
        assert_ne!(literal, Template::parse("${{ env.name }}").unwrap());
        assert_eq!(Template::literal(""), Template::default());
    }

    #[test]
    fn an_expression_in_a_template_has_its_position() {
        let text = "é ${{ env.A }}${{needs.b}}";
        let template = Template::parse(text).unwrap();
        let names: Vec<_> = template
            .expressions()
            .map(|(expression, offset)| {
                let name = &expression.names()[0];
                &text[offset + name.offset..][..name.length]
            })
            .collect();
        assert_eq!(names, ["env.A", "needs.b"]);
    }

    #[test]
    fn an_error_in_a_template_has_its_position() {
        for (text, at_fault, expected) in [
            ("é ${{ a", "${{", "close it with `}}`"),
            ("${{ a }} ${{ 'b }}", "${{", "close the string"),
            ("${{ a }", "${{", "is not closed"),
            ("${{}", "${{", "is not closed"),
            ("é ${{ a b }}", "b", "unexpected `b`"),
            ("x ${{ }}", " ", "the expression is empty"),
            ("x ${{}}", "", "the expression is empty"),
            ("${{ ${{ a }} }}", "${{", "inside an expression"),
        ] {
            let error = Template::parse(text).expect_err(text);
            let said = format!("{error}; {}", error.hint.as_deref().unwrap_or_default());
            assert_eq!(&text[error.offset..error.offset + error.length], at_fault, "{text}: {said}");
            assert!(said.contains(expected), "{text}: {said}");
        }
        assert_eq!(Template::parse("${{ a }} ${{ b").unwrap_err().offset, 9);
    }

    #[test]
    fn a_condition_is_an_expression_with_or_without_braces() {
        for (text, expected) in [
            ("env.name == 'ada'", "true"),
            ("${{ env.name == 'ada' }}", "true"),
            (" ${{ false }}\n", "false"),
            ("'}}'", "}}"),
            ("${{ contains('${{ }}', '}}') }}", "true"),
        ] {
            let value = Expression::condition(text).unwrap().evaluate(&Sample);
            assert_eq!(value.to_string(), expected, "{text}");
        }
        let hint = "enclose the whole condition in one `${{ }}`";
        assert_faults(&[
            ("${{ a }} == 'b'", "${{ a }} == 'b'", hint),
            ("!${{ a }} ", "!${{ a }}", hint),
            ("${{ a }} && ${{ b }}", "${{ a }} && ${{ b }}", hint),
            ("a == '${{ b }}'", "a == '${{ b }}'", hint),
            (" ${{ a", "${{", "is not closed"),
            ("${{ }}", " ", "the expression is empty"),
        ]);
    }

    #[test]
    fn the_result_of_a_template_is_bounded() {
        let text = "${{ join(words, env.name) }}".repeat(60_000);
        assert_eq!(Template::parse(&text).unwrap().evaluate(&Sample).len(), super::super::bounded::MAX_BYTES);
    }
}
