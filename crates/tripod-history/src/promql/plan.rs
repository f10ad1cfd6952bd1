//! A query whose types, names and numbers are settled: what the evaluator walks.
//!
//! The parser's tree knows one kind of expression, of which any may stand anywhere. Here a place for
//! a vector holds a vector, so that the evaluator has no case that "cannot happen".

use regex::Regex;

use super::date::DatePart;
use super::over_time::RangeFunction;
use crate::labels::Labels;
use crate::matcher::Matcher;

/// A whole query.
#[derive(Debug)]
pub(super) enum Plan {
    Scalar(Scalar),
    Vector(Vector),
    Range(Range),
    Text(String),
}

/// A moment named by `@`.
#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    Start,
    End,
    Time(i64),
}

/// How a selector's moment differs from that of the evaluation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct When {
    pub(super) at: Option<At>,
    pub(super) offset_ms: i64,
}

#[derive(Debug)]
pub(super) struct Selector {
    pub(super) matchers: Vec<Matcher>,
    pub(super) when: When,
}

/// What has several points for each series.
#[derive(Debug)]
pub(super) enum Range {
    Select { selector: Selector, range_ms: i64 },
    Subquery { of: Box<Vector>, range_ms: i64, step_ms: Option<i64>, when: When },
}

/// What has one number.
#[derive(Debug)]
pub(super) enum Scalar {
    Number(f64),
    Time,
    Of(Box<Vector>),
    Negate(Box<Scalar>),
    Binary { operator: Operator, lhs: Box<Scalar>, rhs: Box<Scalar> },
}

/// What has one value for each series.
#[derive(Debug)]
pub(super) enum Vector {
    Select(Selector),
    Of(Box<Scalar>),
    Negate(Box<Vector>),
    Map { function: fn(f64) -> f64, of: Box<Vector> },
    Clamp { of: Box<Vector>, least: Option<Scalar>, greatest: Option<Scalar> },
    Round { of: Box<Vector>, to: Scalar },
    Date { part: DatePart, of: Option<Box<Vector>> },
    Timestamp(Box<Vector>),
    Absent { of: Box<Vector>, labels: Labels },
    Sort { of: Box<Vector>, descending: bool },
    LabelReplace { of: Box<Vector>, replace: LabelReplace },
    LabelJoin { of: Box<Vector>, join: LabelJoin },
    HistogramQuantile { quantile: Scalar, of: Box<Vector> },
    OverTime { function: RangeFunction, range: Range, scalars: Vec<Scalar> },
    AbsentOverTime { range: Range, labels: Labels },
    Aggregate(Aggregate),
    WithScalar(WithScalar),
    Join(Join),
    Set { operator: SetOperator, lhs: Box<Vector>, rhs: Box<Vector>, matching: Matching },
}

#[derive(Debug)]
pub(super) struct LabelReplace {
    pub(super) to: String,
    pub(super) replacement: String,
    pub(super) from: String,
    /// As it is written, and compiled; a pattern that is none fails when the query runs.
    pub(super) pattern: String,
    pub(super) regex: Option<Regex>,
}

#[derive(Debug)]
pub(super) struct LabelJoin {
    pub(super) to: String,
    pub(super) separator: String,
    pub(super) from: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Aggregate {
    pub(super) operation: Operation,
    pub(super) of: Box<Vector>,
    pub(super) grouping: Grouping,
}

/// Which aggregation, with its parameter.
#[derive(Debug)]
pub(super) enum Operation {
    Sum,
    Average,
    Minimum,
    Maximum,
    Count,
    Group,
    Deviation,
    Variance,
    Top(Scalar),
    Bottom(Scalar),
    Quantile(Scalar),
    CountValues(String),
}

/// By which labels series belong together.
#[derive(Debug, Clone)]
pub(super) enum Grouping {
    By(Vec<String>),
    Without(Vec<String>),
}

/// An operator between numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
    Compare(Comparison),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetOperator {
    And,
    Or,
    Unless,
}

impl Operator {
    /// What the operator makes of two numbers; a comparison makes 1 or 0.
    pub(super) fn apply(self, lhs: f64, rhs: f64) -> f64 {
        match self {
            Self::Add => lhs + rhs,
            Self::Subtract => lhs - rhs,
            Self::Multiply => lhs * rhs,
            Self::Divide => lhs / rhs,
            Self::Modulo => lhs % rhs,
            Self::Power => lhs.powf(rhs),
            Self::Atan2 => lhs.atan2(rhs),
            Self::Compare(comparison) => f64::from(u8::from(comparison.holds(lhs, rhs))),
        }
    }

    /// Whether the result is another metric than its operands. Prometheus 2.42 says so of all
    /// arithmetic but `atan2`.
    pub(super) fn drops_name(self) -> bool {
        !matches!(self, Self::Atan2 | Self::Compare(_))
    }
}

impl Comparison {
    pub(super) fn holds(self, lhs: f64, rhs: f64) -> bool {
        match self {
            Self::Equal => lhs == rhs,
            Self::NotEqual => lhs != rhs,
            Self::Less => lhs < rhs,
            Self::LessOrEqual => lhs <= rhs,
            Self::Greater => lhs > rhs,
            Self::GreaterOrEqual => lhs >= rhs,
        }
    }
}

/// Which labels two series have to share to be combined.
#[derive(Debug, Clone)]
pub(super) enum Matching {
    On(Vec<String>),
    Ignoring(Vec<String>),
}

/// An operator between a vector and a scalar.
#[derive(Debug)]
pub(super) struct WithScalar {
    pub(super) operator: Operator,
    /// A comparison makes 1 or 0 of each value, instead of keeping or dropping it.
    pub(super) returns_bool: bool,
    pub(super) vector: Box<Vector>,
    pub(super) scalar: Box<Scalar>,
    pub(super) scalar_is_left: bool,
}

/// An operator between two vectors.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) operator: Operator,
    pub(super) returns_bool: bool,
    pub(super) lhs: Box<Vector>,
    pub(super) rhs: Box<Vector>,
    pub(super) matching: Matching,
    pub(super) cardinality: Cardinality,
}

/// How many series of each side may belong together.
#[derive(Debug)]
pub(super) enum Cardinality {
    OneToOne,
    /// `group_left`, with the labels that come from the side that is one.
    ManyToOne(Vec<String>),
    /// `group_right`.
    OneToMany(Vec<String>),
}
