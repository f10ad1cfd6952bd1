//! Calls of functions.
//!
//! The parser has checked the number of arguments and, with a few exceptions, their types; what it
//! lets through is refused here.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::parser::{Call, Expr};
use regex::Regex;

use super::super::date::DatePart;
use super::super::error::QueryError;
use super::super::math;
use super::super::over_time::RangeFunction;
use super::super::plan::{LabelJoin, LabelReplace, Range, Scalar, Selector, Vector};
use super::{Lower, text};
use crate::labels::{Labels, NAME_LABEL};

impl Lower {
    pub(super) fn scalar_call(self, call: &Call) -> Result<Scalar, QueryError> {
        match call.func.name {
            "time" => Ok(Scalar::Time),
            "pi" => Ok(Scalar::Number(std::f64::consts::PI)),
            "scalar" => Ok(Scalar::Of(self.vector_argument(call, 0)?)),
            other => Err(unknown(other)),
        }
    }

    pub(super) fn vector_call(self, call: &Call) -> Result<Vector, QueryError> {
        let name = call.func.name;
        if let Some(function) = RangeFunction::named(name) {
            return self.over_time(call, function);
        }
        if let Some(function) = map_function(name) {
            return Ok(Vector::Map { function, of: self.vector_argument(call, 0)? });
        }
        if let Some(part) = date_part(name) {
            let given = !call.args.is_empty();
            let of = given.then(|| self.vector_argument(call, 0)).transpose()?;
            return Ok(Vector::Date { part, of });
        }
        let of = |place| self.vector_argument(call, place);
        Ok(match name {
            "vector" => Vector::Of(Box::new(self.scalar_argument(call, 0)?)),
            "timestamp" => Vector::Timestamp(of(0)?),
            "sort" => Vector::Sort { of: of(0)?, descending: false },
            "sort_desc" => Vector::Sort { of: of(0)?, descending: true },
            "absent" => self.absent(call)?,
            "absent_over_time" => self.absent_over_time(call)?,
            "clamp" | "clamp_min" | "clamp_max" => self.clamp(call)?,
            "round" => {
                let given = call.args.len() > 1;
                let to = given.then(|| self.scalar_argument(call, 1)).transpose()?;
                Vector::Round { of: of(0)?, to: to.unwrap_or(Scalar::Number(1.0)) }
            }
            "histogram_quantile" => {
                Vector::HistogramQuantile { quantile: self.scalar_argument(call, 0)?, of: of(1)? }
            }
            "label_replace" => Vector::LabelReplace { of: of(0)?, replace: label_replace(call)? },
            "label_join" => Vector::LabelJoin { of: of(0)?, join: label_join(call)? },
            other => return Err(unknown(other)),
        })
    }

    fn over_time(self, call: &Call, function: RangeFunction) -> Result<Vector, QueryError> {
        let place = usize::from(function == RangeFunction::Quantile);
        let range = self.range(argument(call, place)?)?;
        let others = (0..call.args.len()).filter(|other| *other != place);
        let scalars = others.map(|other| self.scalar_argument(call, other));
        Ok(Vector::OverTime { function, range, scalars: scalars.collect::<Result<_, _>>()? })
    }

    fn clamp(self, call: &Call) -> Result<Vector, QueryError> {
        let of = self.vector_argument(call, 0)?;
        let (least, greatest) = match call.func.name {
            "clamp_min" => (Some(1), None),
            "clamp_max" => (None, Some(1)),
            _ => (Some(1), Some(2)),
        };
        let bound =
            |place: Option<usize>| place.map(|place| self.scalar_argument(call, place)).transpose();
        Ok(Vector::Clamp { of, least: bound(least)?, greatest: bound(greatest)? })
    }

    fn absent(self, call: &Call) -> Result<Vector, QueryError> {
        let of = self.vector_argument(call, 0)?;
        let labels = match &*of {
            Vector::Select(selector) => expected_labels(selector),
            _ => Labels::default(),
        };
        Ok(Vector::Absent { of, labels })
    }

    fn absent_over_time(self, call: &Call) -> Result<Vector, QueryError> {
        let range = self.range(argument(call, 0)?)?;
        let labels = match &range {
            Range::Select { selector, .. } => expected_labels(selector),
            Range::Subquery { .. } => Labels::default(),
        };
        Ok(Vector::AbsentOverTime { range, labels })
    }

    fn vector_argument(self, call: &Call, place: usize) -> Result<Box<Vector>, QueryError> {
        self.vector(argument(call, place)?).map(Box::new)
    }

    fn scalar_argument(self, call: &Call, place: usize) -> Result<Scalar, QueryError> {
        self.scalar(argument(call, place)?)
    }
}

fn argument(call: &Call, place: usize) -> Result<&Expr, QueryError> {
    let missing = || QueryError::parse(format!("{} lacks an argument", call.func.name));
    call.args.args.get(place).map(|expr| &**expr).ok_or_else(missing)
}

fn unknown(name: &str) -> QueryError {
    QueryError::parse(format!("unknown function with name {name:?}"))
}

/// The labels that a selector says outright, for the series that `absent` makes up.
///
/// A second condition on a label takes it away again, as in Prometheus.
fn expected_labels(selector: &Selector) -> Labels {
    let (mut labels, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for matcher in selector.matchers.iter().filter(|matcher| matcher.name() != NAME_LABEL) {
        match matcher.equal_value() {
            Some(value) if seen.insert(matcher.name()) => labels.insert(matcher.name(), value),
            _ => labels.remove(matcher.name()),
        };
    }
    Labels::new(labels)
}

fn map_function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sqrt" => f64::sqrt,
        "sgn" => math::sign,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "deg" => math::to_degrees,
        "rad" => math::to_radians,
        _ => return None,
    })
}

fn date_part(name: &str) -> Option<DatePart> {
    Some(match name {
        "minute" => DatePart::Minute,
        "hour" => DatePart::Hour,
        "day_of_week" => DatePart::DayOfWeek,
        "day_of_month" => DatePart::DayOfMonth,
        "day_of_year" => DatePart::DayOfYear,
        "days_in_month" => DatePart::DaysInMonth,
        "month" => DatePart::Month,
        "year" => DatePart::Year,
        _ => return None,
    })
}

fn label_replace(call: &Call) -> Result<LabelReplace, QueryError> {
    let pattern = text(argument(call, 4)?)?;
    Ok(LabelReplace {
        to: text(argument(call, 1)?)?,
        replacement: text(argument(call, 2)?)?,
        from: text(argument(call, 3)?)?,
        regex: Regex::new(&format!("^(?:{pattern})$")).ok(),
        pattern,
    })
}

fn label_join(call: &Call) -> Result<LabelJoin, QueryError> {
    let from = (3..call.args.len()).map(|place| text(argument(call, place)?));
    Ok(LabelJoin {
        to: text(argument(call, 1)?)?,
        separator: text(argument(call, 2)?)?,
        from: from.collect::<Result<_, _>>()?,
    })
}
