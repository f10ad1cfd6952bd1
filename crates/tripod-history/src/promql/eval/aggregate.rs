//! Aggregations: many series to one for each group, or to a choice of them.

mod top;

use std::collections::HashMap;

use super::super::error::QueryError;
use super::super::math::quantile;
use super::super::plan::{Aggregate, Grouping, Operation};
use super::super::series::{Builder, Matrix, Places, kept, with};
use super::steps::{Present, Steps};
use super::{Evaluation, Grid};
use crate::labels::{Labels, NAME_LABEL};
use crate::source::Point;

use self::top::Top;

/// What makes one value of the values of a group, at the given place in the grid. It may reorder
/// them.
type Reduce<'a> = Box<dyn Fn(usize, &mut [f64]) -> f64 + 'a>;

/// An operation with its parameter at each moment.
enum Prepared<'a> {
    /// One value for each group.
    Reduce(Reduce<'a>),
    /// Some series of each group, as they are.
    Choose { counts: Vec<f64>, largest: bool },
    /// How often each value occurs in each group, told apart by a label.
    CountValues(&'a str),
}

impl Evaluation<'_> {
    pub(super) fn aggregate(
        &mut self,
        aggregate: &Aggregate,
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        let prepared = self.prepare(&aggregate.operation, grid)?;
        let matrix = self.vector(&aggregate.of, grid)?;
        match prepared {
            Prepared::Reduce(reduce) => reduced(&matrix, &aggregate.grouping, grid, reduce),
            Prepared::Choose { counts, largest } => {
                chosen(&matrix, &aggregate.grouping, grid, &counts, largest)
            }
            Prepared::CountValues(label) => {
                super::call::check_label("count_values", "value", label)?;
                counted(&matrix, &aggregate.grouping, grid, label)
            }
        }
    }

    fn prepare<'a>(
        &mut self,
        operation: &'a Operation,
        grid: Grid,
    ) -> Result<Prepared<'a>, QueryError> {
        let reduce = |reduce: fn(&[f64]) -> f64| {
            Prepared::Reduce(Box::new(move |_, values: &mut [f64]| reduce(values)))
        };
        Ok(match operation {
            Operation::Sum => reduce(sum),
            Operation::Average => reduce(mean),
            Operation::Minimum => reduce(|values| extreme(values, |value, least| value < least)),
            Operation::Maximum => reduce(|values| extreme(values, |value, most| value > most)),
            Operation::Count => reduce(|values| values.len() as f64),
            Operation::Group => reduce(|_| 1.0),
            Operation::Deviation => reduce(|values| variance(values).sqrt()),
            Operation::Variance => reduce(variance),
            Operation::Quantile(q) => {
                let q = self.scalar(q, grid)?;
                Prepared::Reduce(Box::new(move |step, values| quantile(q[step], values)))
            }
            Operation::Top(count) => {
                Prepared::Choose { counts: self.scalar(count, grid)?, largest: true }
            }
            Operation::Bottom(count) => {
                Prepared::Choose { counts: self.scalar(count, grid)?, largest: false }
            }
            Operation::CountValues(label) => Prepared::CountValues(label),
        })
    }
}

impl Grouping {
    /// What the series of a group share.
    fn shared(&self, labels: &Labels) -> Labels {
        match self {
            Self::By(names) if names.is_empty() => Labels::default(),
            Self::By(names) => kept(labels, |name| names.iter().any(|own| own == name)),
            Self::Without(names) => {
                kept(labels, |name| name != NAME_LABEL && names.iter().all(|own| own != name))
            }
        }
    }
}

/// To which group each series belongs, and the labels of the groups in the order they are met.
fn groups(matrix: &Matrix, grouping: &Grouping) -> (Vec<usize>, Vec<Labels>) {
    let mut by_labels: HashMap<Labels, usize> = HashMap::new();
    let mut labels_of = Vec::new();
    let group_of = matrix.iter().map(|series| {
        *by_labels.entry(grouping.shared(&series.labels)).or_insert_with_key(|labels| {
            labels_of.push(labels.clone());
            labels_of.len() - 1
        })
    });
    (group_of.collect(), labels_of)
}

fn reduced(
    matrix: &Matrix,
    grouping: &Grouping,
    grid: Grid,
    reduce: impl Fn(usize, &mut [f64]) -> f64,
) -> Result<Matrix, QueryError> {
    let (group_of, labels_of) = groups(matrix, grouping);
    let mut builder = Builder::default();
    let places: Vec<usize> = labels_of.into_iter().map(|labels| builder.place(labels)).collect();
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); places.len()];
    let mut steps = Steps::new(matrix);
    for (step, time_ms) in grid.times().enumerate() {
        for present in steps.at(time_ms) {
            values[group_of[present.series]].push(present.value);
        }
        for (values, place) in values.iter_mut().zip(&places) {
            if !values.is_empty() {
                let value = reduce(step, values);
                builder.push(*place, Point { time_ms, value })?;
                values.clear();
            }
        }
    }
    Ok(builder.finish())
}

fn chosen(
    matrix: &Matrix,
    grouping: &Grouping,
    grid: Grid,
    counts: &[f64],
    largest: bool,
) -> Result<Matrix, QueryError> {
    let (group_of, labels_of) = groups(matrix, grouping);
    let mut builder = Builder::default();
    let mut places = Places::new(matrix);
    let mut steps = Steps::new(matrix);
    for (step, time_ms) in grid.times().enumerate() {
        let present = steps.at(time_ms);
        let Some(count) = whole(counts[step])? else { continue };
        let mut tops: Vec<Top> = labels_of.iter().map(|_| Top::new(count, largest)).collect();
        for present in present {
            tops[group_of[present.series]].offer(*present);
        }
        for Present { series, value } in tops.into_iter().flat_map(Top::finish) {
            let place = places.of(series, &mut builder);
            builder.push(place, Point { time_ms, value })?;
        }
    }
    Ok(builder.finish())
}

/// The count that a parameter means; none below 1.
fn whole(count: f64) -> Result<Option<usize>, QueryError> {
    // 2^63 is the first integer above; NaN is in no range.
    if !(-(2f64.powi(63))..2f64.powi(63)).contains(&count) {
        let message = format!("scalar value {count} overflows int64");
        return Err(QueryError::argument("topk or bottomk", message));
    }
    Ok((count >= 1.0).then_some(count as usize))
}

fn counted(
    matrix: &Matrix,
    grouping: &Grouping,
    grid: Grid,
    label: &str,
) -> Result<Matrix, QueryError> {
    let grouping = match grouping {
        Grouping::By(names) => {
            Grouping::By(names.iter().cloned().chain([label.to_owned()]).collect())
        }
        without @ Grouping::Without(_) => without.clone(),
    };
    let mut builder = Builder::default();
    let mut steps = Steps::new(matrix);
    for time_ms in grid.times() {
        let mut counts: HashMap<usize, f64> = HashMap::new();
        for present in steps.at(time_ms) {
            let value = crate::promql::plain_number(present.value);
            let labels = with(&matrix[present.series].labels, label, &value);
            *counts.entry(builder.place(grouping.shared(&labels))).or_default() += 1.0;
        }
        for (place, value) in counts {
            builder.push(place, Point { time_ms, value })?;
        }
    }
    Ok(builder.finish())
}

/// Without compensation, as Prometheus 2.42 sums over series.
fn sum(values: &[f64]) -> f64 {
    values[1..].iter().fold(values[0], |sum, value| sum + value)
}

/// A running mean, which neither overflows nor turns an infinity into NaN.
fn mean(values: &[f64]) -> f64 {
    let mut mean = values[0];
    for (place, value) in values.iter().enumerate().skip(1) {
        let stays = mean.is_infinite()
            && (value.is_finite() || value.is_infinite() && (mean > 0.0) == (*value > 0.0));
        if !stays {
            let count = (place + 1) as f64;
            mean += value / count - mean / count;
        }
    }
    mean
}

/// The variance by Welford's method.
fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut squares) = (values[0], 0.0);
    for (place, value) in values.iter().enumerate().skip(1) {
        let delta = value - mean;
        mean += delta / (place + 1) as f64;
        squares += delta * (value - mean);
    }
    squares / values.len() as f64
}

/// The value that beats all others; NaN is beaten by any.
fn extreme(values: &[f64], beats: impl Fn(f64, f64) -> bool) -> f64 {
    values[1..].iter().fold(values[0], |best, value| {
        if best.is_nan() || beats(*value, best) { *value } else { best }
    })
}
