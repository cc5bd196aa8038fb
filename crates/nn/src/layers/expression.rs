//! The expressions of Lambda layers: parsed from text, printed as text, and checked against shapes.
//!
//! ```text
//! sum      = product { ("+" | "-") product }
//! product  = negation { ("*" | "/") negation }
//! negation = ["-"] power
//! power    = atom ["^" number]
//! atom     = number | "x" | "(" sum ")" | function "(" sum ")"
//!          | ("mean" | "sum") "(" sum ", axis=" integer ")" | "concat([" sum {"," sum} "], axis=" integer ")"
//! function = square sqrt exp log abs sin cos and the activations relu sigmoid tanh softplus silu
//! ```
//!
//! Axis 0 is the batch, -1 the last axis. `mean` and `sum` keep the axis that they reduce, with size 1, and
//! sizes of 1 are repeated to fit a larger one, so `x - mean(x, axis=1)` is the deviation from the row's mean.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A function of one tensor, made of element-wise operations, reductions and concatenation.
///
/// ```
/// let expression: nn::layers::Expression = "concat([x, square(x - mean(x, axis=1))], axis=1)".parse()?;
/// assert_eq!(expression.to_string(), "concat([x, square(x - mean(x, axis=1))], axis=1)");
/// # Ok::<(), nn::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression {
    /// In an order in which each node comes after those that it is made of; the last one is the result.
    pub(super) nodes: Vec<Node>,
}

/// One operation; operands are places in the list of nodes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Input,
    Constant(f64),
    Unary(Unary, usize),
    Power(usize, f64),
    Binary(Binary, usize, usize),
    Reduce(Reduction, usize, isize),
    Concat(Vec<usize>, isize),
}

/// Functions of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unary {
    Negate,
    Square,
    Sqrt,
    Exp,
    Log,
    Abs,
    Sin,
    Cos,
    Relu,
    Sigmoid,
    Tanh,
    Softplus,
    Silu,
}

const FUNCTIONS: [(&str, Unary); 12] = [
    ("square", Unary::Square),
    ("sqrt", Unary::Sqrt),
    ("exp", Unary::Exp),
    ("log", Unary::Log),
    ("abs", Unary::Abs),
    ("sin", Unary::Sin),
    ("cos", Unary::Cos),
    ("relu", Unary::Relu),
    ("sigmoid", Unary::Sigmoid),
    ("tanh", Unary::Tanh),
    ("softplus", Unary::Softplus),
    ("silu", Unary::Silu),
];

/// Functions of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// Functions of the numbers along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reduction {
    Mean,
    Sum,
}

/// Expressions nest at most this deep: what a person writes, far from what would exhaust the stack.
const MAX_DEPTH: usize = 64;

impl FromStr for Expression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parser = Parser { text, position: 0, depth: 0, nodes: Vec::new() };
        parser.sum()?;
        match parser.peek() {
            None => Ok(Self { nodes: parser.nodes }),
            Some(_) => parser.unexpected("an operator or the end"),
        }
    }
}

impl TryFrom<String> for Expression {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.to_string()
    }
}

/// Reads by recursive descent. Each rule returns the place of the node it made.
struct Parser<'a> {
    text: &'a str,
    position: usize,
    depth: usize,
    nodes: Vec<Node>,
}

impl Parser<'_> {
    fn sum(&mut self) -> Result<usize> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.unexpected("at most 64 levels of nesting");
        }
        let operators = [('+', Binary::Add), ('-', Binary::Subtract)];
        let node = self.chain(&operators, |parser| {
            parser.chain(&[('*', Binary::Multiply), ('/', Binary::Divide)], Self::negation)
        })?;
        self.depth -= 1;
        Ok(node)
    }

    fn chain(
        &mut self,
        operators: &[(char, Binary)],
        operand: impl Fn(&mut Self) -> Result<usize>,
    ) -> Result<usize> {
        let mut left = operand(self)?;
        while let Some(&(_, operator)) = operators.iter().find(|(sign, _)| self.peek() == Some(*sign)) {
            self.position += 1;
            let right = operand(self)?;
            left = self.push(Node::Binary(operator, left, right));
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<usize> {
        if !self.skip("-") {
            return self.power();
        }
        let operand = self.power()?;
        Ok(self.push(Node::Unary(Unary::Negate, operand)))
    }

    fn power(&mut self) -> Result<usize> {
        let base = self.atom()?;
        if !self.skip("^") {
            return Ok(base);
        }
        let sign = if self.skip("-") { -1.0 } else { 1.0 };
        let exponent = sign * self.number()?;
        Ok(self.push(if exponent == 2.0 {
            Node::Unary(Unary::Square, base)
        } else {
            Node::Power(base, exponent)
        }))
    }

    fn atom(&mut self) -> Result<usize> {
        if self.skip("(") {
            let inner = self.sum()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.peek().is_some_and(|c| c.is_ascii_digit() || c == '.') {
            let value = self.number()?;
            return Ok(self.push(Node::Constant(value)));
        }
        let start = self.position;
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        if let Some(&(_, function)) = FUNCTIONS.iter().find(|(known, _)| *known == name) {
            self.expect("(")?;
            let operand = self.sum()?;
            self.expect(")")?;
            return Ok(self.push(Node::Unary(function, operand)));
        }
        match name.as_str() {
            "x" => Ok(self.push(Node::Input)),
            "mean" => self.reduction(Reduction::Mean),
            "sum" => self.reduction(Reduction::Sum),
            "concat" => self.concat(),
            _ => {
                self.position = start;
                self.unexpected("x, a number, a function or (")
            }
        }
    }

    fn reduction(&mut self, reduction: Reduction) -> Result<usize> {
        self.expect("(")?;
        let operand = self.sum()?;
        let axis = self.axis()?;
        Ok(self.push(Node::Reduce(reduction, operand, axis)))
    }

    fn concat(&mut self) -> Result<usize> {
        self.expect("(")?;
        self.expect("[")?;
        let mut operands = vec![self.sum()?];
        while self.skip(",") {
            operands.push(self.sum()?);
        }
        self.expect("]")?;
        let axis = self.axis()?;
        Ok(self.push(Node::Concat(operands, axis)))
    }

    /// `, axis=N)`, where N is not the batch.
    fn axis(&mut self) -> Result<isize> {
        self.expect(",")?;
        self.expect("axis")?;
        self.expect("=")?;
        let sign = if self.skip("-") { -1 } else { 1 };
        self.peek();
        let start = self.position;
        let axis = self.take_while(|c| c.is_ascii_digit()).parse::<isize>().unwrap_or(0);
        if axis == 0 {
            self.position = start;
            return self.unexpected("an axis from 1 or below 0 (axis 0 is the batch, whose rows stay apart)");
        }
        self.expect(")")?;
        Ok(sign * axis)
    }

    fn number(&mut self) -> Result<f64> {
        self.peek();
        let start = self.position;
        let mut text = self.take_while(|c| c.is_ascii_digit() || c == '.');
        let exponent = &self.text[self.position..];
        if exponent.starts_with(['e', 'E']) {
            let digits = exponent[1..].trim_start_matches(['-', '+']);
            let length = exponent.len() - digits.len();
            if length <= 2 && digits.starts_with(|c: char| c.is_ascii_digit()) {
                text.push_str(&exponent[..length]);
                self.position += length;
                text.push_str(&self.take_while(|c| c.is_ascii_digit()));
            }
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => {
                self.position = start;
                self.unexpected("a finite number")
            }
        }
    }

    fn push(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Skips white space; the character that follows.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.position..];
        self.position += rest.len() - rest.trim_start().len();
        self.text[self.position..].chars().next()
    }

    fn skip(&mut self, token: &str) -> bool {
        self.peek();
        let found = self.text[self.position..].starts_with(token);
        self.position += if found { token.len() } else { 0 };
        found
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.skip(token) { Ok(()) } else { self.unexpected(&format!("`{token}`")) }
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> String {
        let rest = &self.text[self.position..];
        let taken: String = rest.chars().take_while(|c| accept(*c)).collect();
        self.position += taken.len();
        taken
    }

    fn unexpected<R>(&mut self, expected: &str) -> Result<R> {
        let found = match self.peek() {
            Some(_) => {
                let rest = &self.text[self.position..];
                let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                format!("`{}`", if word.is_empty() { rest.chars().take(1).collect() } else { word })
            }
            None => "the end".to_owned(),
        };
        Err(Error::Expression {
            source_text: self.text.to_owned(),
            column: self.text[..self.position].chars().count() + 1,
            expected: expected.to_owned(),
            found,
        })
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(self.nodes.len() - 1, 0))
    }
}

impl Expression {
    /// The text of a node where operators that bind looser than `binding` (1 for a sum, 2 for a product, 3 for
    /// a negation, 4 for a power) need parentheses.
    #[expect(clippy::indexing_slicing, reason = "nodes refer to earlier ones")]
    fn text(&self, node: usize, binding: u8) -> String {
        let (own, text) = match &self.nodes[node] {
            Node::Input => (5, "x".to_owned()),
            Node::Constant(value) => (5, value.to_string()),
            Node::Unary(Unary::Negate, a) => (3, format!("-{}", self.text(*a, 4))),
            Node::Unary(function, a) => {
                let name =
                    FUNCTIONS.iter().find(|(_, known)| known == function).map_or("?", |(name, _)| name);
                (5, format!("{name}({})", self.text(*a, 0)))
            }
            Node::Power(a, exponent) => (4, format!("{}^{exponent}", self.text(*a, 5))),
            Node::Binary(operator, a, b) => {
                let (own, sign) = match operator {
                    Binary::Add => (1, " + "),
                    Binary::Subtract => (1, " - "),
                    Binary::Multiply => (2, " * "),
                    Binary::Divide => (2, " / "),
                };
                (own, format!("{}{sign}{}", self.text(*a, own), self.text(*b, own + 1)))
            }
            Node::Reduce(reduction, a, axis) => {
                let name = if *reduction == Reduction::Mean { "mean" } else { "sum" };
                (5, format!("{name}({}, axis={axis})", self.text(*a, 0)))
            }
            Node::Concat(parts, axis) => {
                let parts: Vec<_> = parts.iter().map(|part| self.text(*part, 0)).collect();
                (5, format!("concat([{}], axis={axis})", parts.join(", ")))
            }
        };
        if own < binding { format!("({text})") } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, printed: &str) {
        let expression: Expression = text.parse().unwrap();
        assert_eq!(expression.to_string(), printed);
        assert_eq!(printed.parse::<Expression>().unwrap(), expression, "printing and reading again");
    }

    #[test]
    fn text_survives_a_round_trip() {
        check("x", "x");
        check(" 2*x+ 1 ", "2 * x + 1");
        check("(x - 1) - (x - 2)", "x - 1 - (x - 2)");
        check("x / (x * 2)", "x / (x * 2)");
        check("-x^-1.5", "-x^-1.5");
        check("(-x)^3", "(-x)^3");
        check("(x - mean(x, axis=-1))^2", "square(x - mean(x, axis=-1))");
        check("concat([x, sum(exp(x), axis=1)],axis=-1)", "concat([x, sum(exp(x), axis=1)], axis=-1)");
        check("1e-3 * x", "0.001 * x");
    }

    #[track_caller]
    fn refuse(text: &str, message: &str) {
        let error = text.parse::<Expression>().unwrap_err().to_string();
        assert_eq!(error, format!("expression `{text}`: {message}"));
    }

    #[test]
    fn errors_name_the_place() {
        refuse("", "at column 1: expected x, a number, a function or (, found the end");
        refuse("x +", "at column 4: expected x, a number, a function or (, found the end");
        refuse("x y", "at column 3: expected an operator or the end, found `y`");
        refuse("sqare(x)", "at column 1: expected x, a number, a function or (, found `sqare`");
        refuse("(x", "at column 3: expected `)`, found the end");
        refuse("mean(x)", "at column 7: expected `,`, found `)`");
        let axis =
            "expected an axis from 1 or below 0 (axis 0 is the batch, whose rows stay apart), found `0`";
        refuse("sum(x, axis=0)", &format!("at column 13: {axis}"));
        refuse("2e", "at column 2: expected an operator or the end, found `e`");
        refuse("2e--3", "at column 2: expected an operator or the end, found `e`");
        let nested =
            |depth: usize| format!("{}x{}", "(".repeat(depth), ")".repeat(depth)).parse::<Expression>();
        assert!(["(x)"; 70].join("+").parse::<Expression>().is_ok());
        assert!(nested(63).is_ok() && nested(64).is_err());
        assert!("(".repeat(100_000).parse::<Expression>().unwrap_err().to_string().contains("64 levels"));
    }
}
