//! Texts with expressions in them, and lists of words.

use super::Reader;
use crate::expression::{Expression, ExpressionError, Template};
use crate::names::Names;
use std::ops::Range;
use yaml_tree::document::Node;
use yaml_tree::finding::Severity;

impl Reader<'_> {
    /// A text whose `${{ … }}` are evaluated at run time.
    pub(super) fn template(&mut self, node: &Node, names: &Names<'_>) -> Option<Template> {
        let text = node.text()?;
        self.check_zero(node, text);
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(error) => {
                self.expression_error(node, text, &error);
                return None;
            }
        };
        for (expression, offset) in template.expressions() {
            self.check_names(node, text, expression, offset, names);
        }
        Some(template)
    }

    /// The value of `if:`, with or without `${{ }}`.
    pub(super) fn condition(&mut self, node: &Node, names: &Names<'_>) -> Option<Expression> {
        let text = node.text()?;
        match Expression::condition(text) {
            Ok(expression) => {
                self.check_names(node, text, &expression, 0, names);
                self.check_constant(node, &expression);
                Some(expression)
            }
            Err(error) => {
                self.expression_error(node, text, &error);
                None
            }
        }
    }

    /// A text without expressions; `None` for a scalar that YAML reads as a number.
    pub(super) fn plain(&mut self, node: &Node) -> Option<String> {
        if node.is_text() { self.plain_scalar(node) } else { None }
    }

    /// The same for any scalar, as it is written.
    pub(super) fn plain_scalar(&mut self, node: &Node) -> Option<String> {
        let text = node.text()?;
        self.check_zero(node, text);
        if let Some(offset) = text.find("${{") {
            let span = self.place(node, text, offset, 3);
            let hint = "write the value itself; expressions are evaluated only in `env`, `if`, `image`, \
                        `run`, `outputs`, `name`, and in `entrypoint` and `command` as lists";
            self.findings.error("expression-place", &span, "expressions are not evaluated here", hint);
            return None;
        }
        Some(text.to_owned())
    }

    /// A command: a list of words, or a text that is split as in a shell.
    pub(super) fn words(&mut self, node: &Node, names: &Names<'_>) -> Option<Vec<Template>> {
        if node.scalar().is_none() {
            return node.items().iter().map(|item| self.template(item, names)).collect();
        }
        let text = node.text()?;
        if text.contains("${{") {
            let hint = "write it as a list, one word per item, so that a value never becomes several words";
            self.findings.error(
                "expression-place",
                &node.span,
                "expressions are not evaluated in a command written as one string",
                hint,
            );
            return None;
        }
        Some(self.plain_words(node)?.into_iter().map(Template::literal).collect())
    }

    /// The same without expressions.
    pub(super) fn plain_words(&mut self, node: &Node) -> Option<Vec<String>> {
        if node.scalar().is_none() {
            return node.items().iter().map(|item| self.plain_scalar(item)).collect();
        }
        let text = self.plain_scalar(node)?;
        match shell_words::split(&text) {
            Ok(words) => Some(words),
            Err(_) => {
                let hint = "close the quote, or write the command as a list";
                self.findings.error("words", &node.span, "a quote is not closed", hint);
                None
            }
        }
    }

    /// Reports a zero byte, which neither arguments nor variables can contain.
    fn check_zero(&mut self, node: &Node, text: &str) {
        if text.contains('\0') {
            self.findings.error("zero", &node.span, "this string contains a NUL byte", "remove `\\0`");
        }
    }

    fn expression_error(&mut self, node: &Node, text: &str, error: &ExpressionError) {
        let span = self.place(node, text, error.offset, error.length);
        let hint = error.hint.clone().unwrap_or_else(|| "see docs/workflow.md, Expressions".into());
        self.findings.error("expression", &span, error.message.clone(), hint);
    }

    fn check_names(
        &mut self,
        node: &Node,
        text: &str,
        expression: &Expression,
        offset: usize,
        names: &Names<'_>,
    ) {
        for name in expression.names() {
            self.used.note(&name.path);
            if self.findings.are_enough() {
                return;
            }
            if let Err((message, hint)) = names.check(&name.path) {
                let span = self.place(node, text, offset + name.offset, name.length);
                self.findings.error("name", &span, message, hint);
            }
        }
    }

    /// Reports a condition that has the same value in every run.
    fn check_constant(&mut self, node: &Node, condition: &Expression) {
        let Some(value) = condition.constant() else { return };
        let (message, hint) = match value.is_true() {
            true => ("this condition is always true", "remove it, or write what it depends on"),
            false => ("this condition is always false", "remove what it is for, or write what it depends on"),
        };
        self.findings.add(Severity::Warning, "constant-if", &node.span, message.into(), Some(hint.into()));
    }

    /// The span of a part of a scalar in the document. Quotes, escapes and indentation shift the offsets, so the part
    /// is searched for. If it is not found, the result is the span of the whole scalar.
    pub(super) fn place(&self, node: &Node, text: &str, offset: usize, length: usize) -> Range<usize> {
        let start = text.floor_char_boundary(offset);
        let end = text.floor_char_boundary(offset.saturating_add(length).min(text.len())).max(start);
        let part = &text[start..end];
        let written = self.text.get(node.span.clone()).unwrap_or_default();
        if part.is_empty() {
            return node.span.clone();
        }
        let earlier = text[..start].matches(part).count();
        match written.match_indices(part).nth(earlier) {
            Some((found, _)) => node.span.start + found..node.span.start + found + part.len(),
            None => node.span.clone(),
        }
    }
}
