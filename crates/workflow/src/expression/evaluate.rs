//! Evaluates the tree of an expression.

use super::functions;
use super::syntax::{Comparison, ExpressionNode, Logic, NodeKind};
use super::{Scope, Value};
use std::cmp::Ordering;

/// A value, and whether it is the result of `*`: an index then applies to each item of the list, not to the list.
pub(super) struct Evaluated {
    pub(super) value: Value,
    is_filtered: bool,
}

impl From<Value> for Evaluated {
    fn from(value: Value) -> Self {
        Self { value, is_filtered: false }
    }
}

impl ExpressionNode {
    /// Recursive: a tree is at most [`super::syntax::MAX_DEPTH`] deep.
    pub(super) fn evaluate(&self, scope: &dyn Scope) -> Evaluated {
        match &self.kind {
            NodeKind::Literal(value) => value.clone().into(),
            NodeKind::Context(name) => scope.context(name).into(),
            NodeKind::Item { of, key } => item(of.evaluate(scope), &key.evaluate(scope).value),
            NodeKind::All(of) => all(of.evaluate(scope)),
            NodeKind::Not(operand) => Value::Bool(!operand.evaluate(scope).value.is_true()).into(),
            NodeKind::Logic(Logic::And, operands) => first_that_is(false, operands, scope),
            NodeKind::Logic(Logic::Or, operands) => first_that_is(true, operands, scope),
            NodeKind::Compare(left, comparison, right) => {
                let ordering = left.evaluate(scope).value.compare(&right.evaluate(scope).value);
                Value::Bool(comparison.holds(ordering)).into()
            }
            NodeKind::Call(function, arguments) => {
                let arguments: Vec<_> = arguments.iter().map(|node| node.evaluate(scope).value).collect();
                functions::call(*function, &arguments, scope).into()
            }
        }
    }
}

fn item(of: Evaluated, key: &Value) -> Evaluated {
    if !of.is_filtered {
        return of.value.into_item(key).unwrap_or_default().into();
    }
    let items = of.value.into_items().into_iter();
    filtered(items.filter_map(|item| item.into_item(key)).collect())
}

fn all(of: Evaluated) -> Evaluated {
    let items = of.value.into_items();
    match of.is_filtered {
        true => filtered(items.into_iter().flat_map(Value::into_items).collect()),
        false => filtered(items),
    }
}

fn filtered(items: Vec<Value>) -> Evaluated {
    Evaluated { value: Value::List(items), is_filtered: true }
}

/// The first operand whose truth is `truth`, or else the last. The operands after it are not evaluated.
fn first_that_is(truth: bool, operands: &[ExpressionNode], scope: &dyn Scope) -> Evaluated {
    let mut outcome = Value::Null.into();
    for operand in operands {
        outcome = operand.evaluate(scope);
        if outcome.value.is_true() == truth {
            break;
        }
    }
    outcome
}

impl Comparison {
    fn holds(self, ordering: Option<Ordering>) -> bool {
        match self {
            Self::Equal => ordering.is_some_and(Ordering::is_eq),
            Self::NotEqual => !ordering.is_some_and(Ordering::is_eq),
            Self::Less => ordering.is_some_and(Ordering::is_lt),
            Self::LessOrEqual => ordering.is_some_and(Ordering::is_le),
            Self::Greater => ordering.is_some_and(Ordering::is_gt),
            Self::GreaterOrEqual => ordering.is_some_and(Ordering::is_ge),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_values;

    #[test]
    fn logical_operators_return_an_operand_and_short_circuit() {
        assert_values(&[
            ("1 && 'a'", "\"a\""),
            ("'' && never", "\"\""),
            ("0 || 'b'", "\"b\""),
            ("'a' || never", "\"a\""),
            ("null || false", "false"),
            ("1 && 0 && never", "0"),
            ("false && never || 'c'", "\"c\""),
            ("true && 'yes' || never", "\"yes\""),
        ]);
    }

    #[test]
    fn keys_are_found_in_any_case_the_exact_one_first() {
        assert_values(&[
            ("ENV.NAME", "\"Ada\""),
            ("env['nAmE']", "\"Ada\""),
            ("format('{0}{1}', env.a, env.A)", "\"12\""),
            ("env.Name.x.y", "null"),
            ("env.absent", "null"),
            ("absent.x[0]", "null"),
            ("env[words]", "null"),
        ]);
    }

    #[test]
    fn an_index_is_rounded_down_and_may_be_missed() {
        assert_values(&[
            ("words[0]", "\"zero\""),
            ("words['1']", "\"One\""),
            ("words[2.9]", "\"two\""),
            ("words[true]", "\"One\""),
            ("words[4]", "null"),
            ("words[-1]", "null"),
            ("words[NaN]", "null"),
            ("words[Infinity]", "null"),
            ("words.zero", "null"),
        ]);
    }

    #[test]
    fn a_star_applies_the_following_keys_to_each_item() {
        assert_values(&[
            ("disks.*.name", r#"["sda","sdb"]"#),
            ("disks[*]['NAME']", r#"["sda","sdb"]"#),
            ("disks.*.size", "[8]"),
            ("disks.*.tags[1]", r#"["y"]"#),
            ("disks.*.tags.*", r#"["x","y"]"#),
            ("needs.*.result", r#"["success"]"#),
            ("(words.*)[0]", "[]"),
            ("(null || disks.*).name", r#"["sda","sdb"]"#),
            ("disks[0].name", "\"sda\""),
            ("env.Name.*", "[]"),
            ("absent.*.x", "[]"),
        ]);
    }
}
