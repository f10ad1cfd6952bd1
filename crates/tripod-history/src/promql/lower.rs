//! From the parser's tree to a [`Plan`].
//!
//! What it guarantees: a plan nests at most [`DEPTH_MAX`] deep, its times are below [`TIME_MAX_MS`],
//! so that their sums are numbers, and it has only what Prometheus 2.42 knows: the parser also
//! accepts functions and modifiers of later versions, which are refused here.

mod binary;
mod call;

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use promql_parser::label::{MatchOp as ParsedOp, Matcher as ParsedMatcher};
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{
    AggregateExpr, AtModifier, Expr, Function, LabelModifier, Offset, SubqueryExpr, VectorSelector,
    register_extra_functions, token,
};

use super::error::QueryError;
use super::guard;
use super::plan::{
    Aggregate, At, Grouping, Operation, Plan, Range, Scalar, Selector, Vector, When,
};
use crate::labels::NAME_LABEL;
use crate::matcher::{MatchOp, Matcher};

/// How deep a plan may nest. All but subqueries within subqueries stay below if the guard lets them
/// through. A level takes up to 6 KiB of stack in an unoptimized build (2026-11-24).
const DEPTH_MAX: usize = 200;

/// The latest time, and the longest duration, that is worked with: some 285,000 years.
pub(super) const TIME_MAX_MS: i64 = 1 << 53;

/// Parses a query and settles its types.
///
/// # Errors
/// [`QueryError::Parse`] or [`QueryError::TooComplex`].
pub(super) fn plan(query: &str) -> Result<Plan, QueryError> {
    guard::check(query)?;
    know_older_functions();
    let expr = promql_parser::parser::parse(query).map_err(QueryError::parse)?;
    let lower = Lower { depth: 0 };
    match expr.value_type() {
        ValueType::Scalar => lower.scalar(&expr).map(Plan::Scalar),
        ValueType::Vector => lower.vector(&expr).map(Plan::Vector),
        ValueType::Matrix => lower.range(&expr).map(Plan::Range),
        ValueType::String => text(&expr).map(Plan::Text),
    }
}

/// Reads a selector such as `up{job="x"}` alone, as the HTTP API takes it to find series.
///
/// # Errors
/// [`QueryError::Parse`] if it is none, or has an offset or `@`.
#[cfg(feature = "http")]
pub(crate) fn series_selector(text: &str) -> Result<Vec<Matcher>, QueryError> {
    guard::check(text)?;
    match promql_parser::parser::parse(text).map_err(QueryError::parse)? {
        Expr::VectorSelector(VectorSelector { offset: None, at: None, name, matchers }) => {
            Ok(selector(&VectorSelector { name, matchers, offset: None, at: None })?.matchers)
        }
        _ => Err(QueryError::parse("a selector of series was expected, such as up{job=\"x\"}")),
    }
}

/// Tells the parser of functions that Prometheus 2.42 has and later versions renamed.
fn know_older_functions() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let arguments = vec![ValueType::Matrix, ValueType::Scalar, ValueType::Scalar];
        let function = Function::new("holt_winters", arguments, 0, ValueType::Vector, false);
        // An error means that the parser knows the function by itself, which is as good.
        let _ = register_extra_functions(vec![function]);
    });
}

/// Lowers one level of the tree.
#[derive(Debug, Clone, Copy)]
struct Lower {
    depth: usize,
}

impl Lower {
    /// For what is one level further down.
    fn deeper(self) -> Result<Self, QueryError> {
        if self.depth >= DEPTH_MAX {
            return Err(QueryError::TooComplex { what: "nested expressions", limit: DEPTH_MAX });
        }
        Ok(Self { depth: self.depth + 1 })
    }

    fn scalar(self, expr: &Expr) -> Result<Scalar, QueryError> {
        let inner = self.deeper()?;
        match expr {
            Expr::Paren(paren) => inner.scalar(&paren.expr),
            Expr::NumberLiteral(number) => Ok(Scalar::Number(number.val)),
            Expr::Unary(unary) => Ok(Scalar::Negate(Box::new(inner.scalar(&unary.expr)?))),
            Expr::Binary(binary) => inner.scalar_binary(binary),
            Expr::Call(call) => inner.scalar_call(call),
            other => Err(wrong_type("scalar", other)),
        }
    }

    fn vector(self, expr: &Expr) -> Result<Vector, QueryError> {
        let inner = self.deeper()?;
        match expr {
            Expr::Paren(paren) => inner.vector(&paren.expr),
            Expr::VectorSelector(parsed) => Ok(Vector::Select(selector(parsed)?)),
            Expr::Unary(unary) => Ok(Vector::Negate(Box::new(inner.vector(&unary.expr)?))),
            Expr::Aggregate(aggregate) => inner.aggregate(aggregate),
            Expr::Binary(binary) => inner.vector_binary(binary),
            Expr::Call(call) => inner.vector_call(call),
            other => Err(wrong_type("instant vector", other)),
        }
    }

    fn range(self, expr: &Expr) -> Result<Range, QueryError> {
        match expr {
            Expr::Paren(paren) => self.deeper()?.range(&paren.expr),
            Expr::MatrixSelector(matrix) => Ok(Range::Select {
                selector: selector(&matrix.vs)?,
                range_ms: milliseconds(matrix.range)?,
            }),
            Expr::Subquery(subquery) => self.deeper()?.subquery(subquery),
            other => Err(wrong_type("range vector", other)),
        }
    }

    fn subquery(self, subquery: &SubqueryExpr) -> Result<Range, QueryError> {
        Ok(Range::Subquery {
            of: Box::new(self.vector(&subquery.expr)?),
            range_ms: milliseconds(subquery.range)?,
            step_ms: subquery.step.map(milliseconds).transpose()?,
            when: when(subquery.at.as_ref(), subquery.offset.as_ref())?,
        })
    }

    fn aggregate(self, aggregate: &AggregateExpr) -> Result<Vector, QueryError> {
        let parameter = || {
            let missing = || QueryError::parse("the aggregation lacks its parameter");
            aggregate.param.as_deref().ok_or_else(missing)
        };
        let operation = match aggregate.op.id() {
            token::T_SUM => Operation::Sum,
            token::T_AVG => Operation::Average,
            token::T_MIN => Operation::Minimum,
            token::T_MAX => Operation::Maximum,
            token::T_COUNT => Operation::Count,
            token::T_GROUP => Operation::Group,
            token::T_STDDEV => Operation::Deviation,
            token::T_STDVAR => Operation::Variance,
            token::T_TOPK => Operation::Top(self.scalar(parameter()?)?),
            token::T_BOTTOMK => Operation::Bottom(self.scalar(parameter()?)?),
            token::T_QUANTILE => Operation::Quantile(self.scalar(parameter()?)?),
            token::T_COUNT_VALUES => Operation::CountValues(text(parameter()?)?),
            _ => return Err(QueryError::parse(format!("unknown aggregation {}", aggregate.op))),
        };
        let grouping = match &aggregate.modifier {
            None => Grouping::By(Vec::new()),
            Some(LabelModifier::Include(labels)) => Grouping::By(labels.labels.clone()),
            Some(LabelModifier::Exclude(labels)) => Grouping::Without(labels.labels.clone()),
        };
        let of = Box::new(self.vector(&aggregate.expr)?);
        Ok(Vector::Aggregate(Aggregate { operation, of, grouping }))
    }
}

fn wrong_type(expected: &str, found: &Expr) -> QueryError {
    QueryError::parse(format!("expected type {expected}, got {}", found.value_type()))
}

/// The text of a string, which may stand in parentheses.
fn text(expr: &Expr) -> Result<String, QueryError> {
    let mut expr = expr;
    while let Expr::Paren(paren) = expr {
        expr = &paren.expr;
    }
    match expr {
        Expr::StringLiteral(string) => Ok(string.val.clone()),
        other => Err(wrong_type("string", other)),
    }
}

fn selector(parsed: &VectorSelector) -> Result<Selector, QueryError> {
    if !parsed.matchers.or_matchers.is_empty() {
        return Err(QueryError::parse("\"or\" between label matchers is not supported"));
    }
    let mut matchers = Vec::new();
    if let Some(name) = &parsed.name {
        matchers.push(matcher(NAME_LABEL, MatchOp::Equal, name)?);
    }
    for ParsedMatcher { op, name, value } in &parsed.matchers.matchers {
        let op = match op {
            ParsedOp::Equal => MatchOp::Equal,
            ParsedOp::NotEqual => MatchOp::NotEqual,
            ParsedOp::Re(_) => MatchOp::Regex,
            ParsedOp::NotRe(_) => MatchOp::NotRegex,
        };
        matchers.push(matcher(name, op, value)?);
    }
    Ok(Selector { matchers, when: when(parsed.at.as_ref(), parsed.offset.as_ref())? })
}

fn matcher(name: &str, op: MatchOp, value: &str) -> Result<Matcher, QueryError> {
    Matcher::new(name, op, value).map_err(|error| QueryError::parse(error.to_string()))
}

fn when(at: Option<&AtModifier>, offset: Option<&Offset>) -> Result<When, QueryError> {
    let at = match at {
        None => None,
        Some(AtModifier::Start) => Some(At::Start),
        Some(AtModifier::End) => Some(At::End),
        Some(AtModifier::At(time)) => {
            Some(At::Time(match time.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(since) => milliseconds(since)?,
                Err(before) => -milliseconds(before.duration())?,
            }))
        }
    };
    let offset_ms = match offset {
        None => 0,
        Some(Offset::Pos(duration)) => milliseconds(*duration)?,
        Some(Offset::Neg(duration)) => -milliseconds(*duration)?,
    };
    Ok(When { at, offset_ms })
}

fn milliseconds(duration: Duration) -> Result<i64, QueryError> {
    i64::try_from(duration.as_millis())
        .ok()
        .filter(|ms| *ms <= TIME_MAX_MS)
        .ok_or_else(|| QueryError::parse("a time or duration is too large"))
}

#[cfg(test)]
mod tests;
