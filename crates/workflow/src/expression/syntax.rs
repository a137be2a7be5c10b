//! The syntax tree of an expression, and its parser.

use super::functions;
use super::functions::Function;
use super::token::{Token, TokenKind, shown, tokens, unexpected};
use super::{ExpressionError, Name, Value};
use std::ops::Range;

/// The deepest tree: GitHub's limit. It also keeps hostile input from overflowing the stack; for that reason
/// parentheses count here, although they do not on GitHub.
pub(super) const MAX_DEPTH: usize = 50;

#[derive(Debug, Clone)]
pub(super) struct ExpressionNode {
    pub(super) kind: NodeKind,
    /// Number of nodes to the furthest leaf, including this one.
    depth: usize,
}

#[derive(Debug, Clone)]
pub(super) enum NodeKind {
    Literal(Value),
    Context(String),
    Item { of: Box<ExpressionNode>, key: Box<ExpressionNode> },
    All(Box<ExpressionNode>),
    Not(Box<ExpressionNode>),
    Logic(Logic, Vec<ExpressionNode>),
    Compare(Box<ExpressionNode>, Comparison, Box<ExpressionNode>),
    Call(Function, Vec<ExpressionNode>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Logic {
    And,
    Or,
}

#[derive(Debug, Clone, Copy)]
enum Operator {
    Logic(Logic),
    Compare(Comparison),
}

#[derive(Debug, Clone)]
pub(super) struct Syntax {
    pub(super) root: ExpressionNode,
    pub(super) names: Vec<Name>,
    pub(super) asks_for_status: bool,
}

impl Syntax {
    pub(super) fn parse(text: &str, part: Range<usize>) -> Result<Self, ExpressionError> {
        let mut tokens = tokens(text, part.clone())?.into_iter();
        let Some(current) = tokens.next() else {
            return Err(ExpressionError::new(&part, "the expression is empty")
                .hint("write one, such as `env.NAME == 'value'`"));
        };
        let parsed = current.span.clone();
        let (names, asks_for_status) = (Vec::new(), false);
        let mut parser = Parser { text, tokens, current, parsed, depth: 0, names, asks_for_status };
        let root = parser.expression(LOWEST_PRECEDENCE)?;
        match parser.current.kind {
            TokenKind::End => Ok(Self { root, names: parser.names, asks_for_status: parser.asks_for_status }),
            _ => Err(parser.unexpected()),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: std::vec::IntoIter<Token>,
    current: Token,
    /// Span of the token before the current one.
    parsed: Range<usize>,
    /// Number of operands that enclose the current one.
    depth: usize,
    names: Vec<Name>,
    asks_for_status: bool,
}

type Parsed<T = ExpressionNode> = Result<T, ExpressionError>;

impl Parser<'_> {
    /// Operands and the operators between them whose precedence is at least `weakest`.
    fn expression(&mut self, weakest: u8) -> Parsed {
        let mut left = self.operand()?;
        while let Some((strength, operator)) = binary(&self.current.kind)
            && strength >= weakest
        {
            self.advance();
            let right = self.expression(strength + 1)?;
            left = self.node(join(left, operator, right))?;
        }
        Ok(left)
    }

    fn operand(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep(&self.current.span));
        }
        let node = match self.current.kind {
            TokenKind::Literal(_) => self.literal(),
            TokenKind::Name => self.named(),
            TokenKind::Sign("!") => self.negation(),
            TokenKind::Sign("(") => self.group(),
            _ => Err(self.unexpected()),
        };
        self.depth -= 1;
        node
    }

    fn literal(&mut self) -> Parsed {
        match self.advance().kind {
            TokenKind::Literal(value) => self.node(NodeKind::Literal(value)),
            _ => Err(self.unexpected()),
        }
    }

    fn negation(&mut self) -> Parsed {
        self.advance();
        let operand = self.operand()?;
        self.node(NodeKind::Not(operand.into()))
    }

    fn group(&mut self) -> Parsed {
        let open = self.advance().span;
        let node = self.expression(LOWEST_PRECEDENCE)?;
        self.close(")", &open)?;
        self.items(node, None)
    }

    fn named(&mut self) -> Parsed {
        let span = self.advance().span;
        if self.is_at("(") {
            let call = self.call(&span)?;
            return self.items(call, None);
        }
        let name = self.text[span.clone()].to_ascii_lowercase();
        self.names.push(Name { path: vec![name.clone()], offset: span.start, length: span.len() });
        let node = self.node(NodeKind::Context(name))?;
        self.items(node, Some(self.names.len() - 1))
    }

    /// The `.key`, `[…]` and `.*` after a value. Constant keys are appended to the name with the index `name`.
    fn items(&mut self, mut node: ExpressionNode, mut name: Option<usize>) -> Parsed {
        loop {
            let key = if self.is_at(".") {
                self.advance();
                self.key()?
            } else if self.is_at("[") {
                self.bracketed_key()?
            } else {
                return Ok(node);
            };
            name = name.filter(|name| self.lengthen(*name, key.as_ref()));
            node = match key {
                Some(key) => self.node(NodeKind::Item { of: node.into(), key: key.into() })?,
                None => self.node(NodeKind::All(node.into()))?,
            };
        }
    }

    /// The key after a point; `None` for `*`.
    fn key(&mut self) -> Parsed<Option<ExpressionNode>> {
        match self.current.kind {
            TokenKind::Sign("*") => {
                self.advance();
                Ok(None)
            }
            TokenKind::Name => {
                let key = self.text[self.advance().span].to_owned();
                self.node(NodeKind::Literal(Value::Text(key))).map(Some)
            }
            _ => Err(self.unexpected().hint("write a name or `*` after a dot; any other key as `['key']`")),
        }
    }

    fn bracketed_key(&mut self) -> Parsed<Option<ExpressionNode>> {
        let open = self.advance().span;
        let key = match self.is_at("*") {
            true => self.key()?,
            false => Some(self.expression(LOWEST_PRECEDENCE)?),
        };
        self.close("]", &open)?;
        Ok(key)
    }

    /// Whether the key is constant; then it was appended to the name.
    fn lengthen(&mut self, name: usize, key: Option<&ExpressionNode>) -> bool {
        let Some(NodeKind::Literal(key)) = key.map(|key| &key.kind) else { return false };
        let name = &mut self.names[name];
        name.path.push(key.to_string());
        name.length = self.parsed.end - name.offset;
        true
    }

    fn call(&mut self, name: &Range<usize>) -> Parsed {
        let signature = functions::find(self.text, name)?;
        let open = self.advance().span;
        let first = self.current.span.clone();
        let arguments = self.arguments()?;
        self.close(")", &open)?;
        signature.check(arguments.len(), &(name.start..self.parsed.end))?;
        if let (Function::Format, Some(NodeKind::Literal(format))) =
            (signature.function, arguments.first().map(|node| &node.kind))
        {
            functions::check_format(&format.to_string(), arguments.len() - 1, &first)?;
        }
        self.asks_for_status |= matches!(signature.function, Function::Status(_));
        self.node(NodeKind::Call(signature.function, arguments))
    }

    fn arguments(&mut self) -> Parsed<Vec<ExpressionNode>> {
        let mut arguments = Vec::new();
        if self.is_at(")") {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression(LOWEST_PRECEDENCE)?);
            if !self.is_at(",") {
                return Ok(arguments);
            }
            self.advance();
        }
    }

    fn close(&mut self, sign: &'static str, open: &Range<usize>) -> Parsed<()> {
        if self.is_at(sign) {
            self.advance();
            return Ok(());
        }
        if self.current.kind != TokenKind::End {
            return Err(self.unexpected());
        }
        let message = format!("this `{}` is not closed", &self.text[open.clone()]);
        Err(ExpressionError::new(open, message).hint(format!("close it with `{sign}`")))
    }

    fn is_at(&self, sign: &'static str) -> bool {
        self.current.kind == TokenKind::Sign(sign)
    }

    fn advance(&mut self) -> Token {
        let end = self.current.span.end;
        let next = self.tokens.next().unwrap_or(Token { kind: TokenKind::End, span: end..end });
        let token = std::mem::replace(&mut self.current, next);
        self.parsed = token.span.clone();
        token
    }

    fn node(&self, kind: NodeKind) -> Parsed {
        let depth = 1 + kind.depth_below();
        if depth > MAX_DEPTH {
            return Err(too_deep(&self.parsed));
        }
        Ok(ExpressionNode { kind, depth })
    }

    fn unexpected(&self) -> ExpressionError {
        if self.current.kind != TokenKind::End {
            return unexpected(self.text, &self.current.span);
        }
        let last = shown(&self.text[self.parsed.clone()]);
        ExpressionError::new(&self.parsed, format!("the expression ends after `{last}`"))
            .hint("complete it, or remove it")
    }
}

fn too_deep(span: &Range<usize>) -> ExpressionError {
    ExpressionError::new(span, format!("the expression is nested more than {MAX_DEPTH} levels deep"))
        .hint("split it, or move a part into `env`")
}

/// The precedence of the operator that binds least.
const LOWEST_PRECEDENCE: u8 = 1;

fn binary(token: &TokenKind) -> Option<(u8, Operator)> {
    let TokenKind::Sign(sign) = token else { return None };
    Some(match *sign {
        "||" => (LOWEST_PRECEDENCE, Operator::Logic(Logic::Or)),
        "&&" => (2, Operator::Logic(Logic::And)),
        "==" => (3, Operator::Compare(Comparison::Equal)),
        "!=" => (3, Operator::Compare(Comparison::NotEqual)),
        "<" => (4, Operator::Compare(Comparison::Less)),
        "<=" => (4, Operator::Compare(Comparison::LessOrEqual)),
        ">" => (4, Operator::Compare(Comparison::Greater)),
        ">=" => (4, Operator::Compare(Comparison::GreaterOrEqual)),
        _ => return None,
    })
}

fn join(left: ExpressionNode, operator: Operator, right: ExpressionNode) -> NodeKind {
    match operator {
        Operator::Compare(comparison) => NodeKind::Compare(left.into(), comparison, right.into()),
        Operator::Logic(logic) => {
            let mut operands = operands(left, logic);
            operands.extend(self::operands(right, logic));
            NodeKind::Logic(logic, operands)
        }
    }
}

/// Joins a chain of one operator to one node, as GitHub does, so that its length does not count as depth.
fn operands(node: ExpressionNode, logic: Logic) -> Vec<ExpressionNode> {
    match node.kind {
        NodeKind::Logic(same, operands) if same == logic => operands,
        _ => vec![node],
    }
}

impl NodeKind {
    fn depth_below(&self) -> usize {
        match self {
            Self::Literal(_) | Self::Context(_) => 0,
            Self::Item { of, key } => of.depth.max(key.depth),
            Self::All(node) | Self::Not(node) => node.depth,
            Self::Compare(left, _, right) => left.depth.max(right.depth),
            Self::Logic(_, nodes) | Self::Call(_, nodes) => {
                nodes.iter().map(|node| node.depth).max().unwrap_or(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Expression;
    use super::super::tests::{assert_faults, assert_values, value};
    use super::MAX_DEPTH;

    #[test]
    fn operators_bind_as_on_github() {
        assert_values(&[
            ("true || true && false", "true"),
            ("(true || true) && false", "false"),
            ("false && false || true", "true"),
            ("1 == 1 && 2 == 2", "true"),
            ("1 < 2 == true", "true"),
            ("2 == 1 < 2", "false"),
            ("1 < 2 == 2", "false"),
            ("3 > 2 > 1", "false"),
            ("1 == 1 == 1", "true"),
            ("!false == true", "true"),
            ("!(false == true)", "true"),
            ("1 == !false", "true"),
            ("!!env.name", "true"),
            ("!env.name && true", "false"),
            ("1 != 2 != false", "true"),
        ]);
    }

    #[test]
    fn an_error_has_its_position() {
        assert_faults(&[
            ("", "", "the expression is empty"),
            (" \n", " \n", "the expression is empty"),
            ("1 <", "<", "ends after `<`"),
            ("!", "!", "ends after `!`"),
            ("env.", ".", "ends after `.`"),
            ("1 < )", ")", "unexpected `)`"),
            ("> 1", ">", "unexpected `>`"),
            ("a == == b", "==", "unexpected `==`"),
            ("a b", "b", "operator"),
            ("a 'b'", "'b'", "operator"),
            ("a 2", "2", "operator"),
            ("(a", "(", "this `(` is not closed; close it with `)`"),
            ("env['a'", "[", "close it with `]`"),
            ("format('a', (b)", "(", "close it with `)`"),
            ("(a]", "]", "unexpected `]`"),
            ("(a, b)", ",", "unexpected `,`"),
            ("env[a, b]", ",", "unexpected `,`"),
            ("env[]", "]", "unexpected `]`"),
            ("env.1", "1", "any other key as `['key']`"),
            ("env.'a'", "'a'", "any other key as `['key']`"),
            ("env.a(1)", "(", "unexpected `(`"),
            ("'a'.b", ".", "unexpected `.`"),
            ("'a'[0]", "[", "unexpected `[`"),
            ("*", "*", "unexpected `*`"),
            ("join(a,)", ")", "unexpected `)`"),
            ("join(,a)", ",", "unexpected `,`"),
            ("() && a", ")", "unexpected `)`"),
        ]);
    }

    #[test]
    fn depth_is_limited_in_every_direction() {
        let deep = |levels: usize| {
            [
                "!".repeat(levels - 1) + "1",
                "(".repeat(levels - 1) + "1" + &")".repeat(levels - 1),
                "a".to_owned() + &".b".repeat(levels - 1),
                "1".to_owned() + &" == 1".repeat(levels - 1),
                "format('{0}', ".repeat(levels - 1) + "1" + &")".repeat(levels - 1),
                "a[".repeat(levels - 1) + "1" + &"]".repeat(levels - 1),
            ]
        };
        for text in deep(MAX_DEPTH) {
            value(&text);
        }
        for text in deep(MAX_DEPTH + 1) {
            let error = Expression::parse(&text).expect_err(&text);
            assert!(error.message.contains("more than 50 levels deep"), "{text}: {error}");
        }
    }
}
