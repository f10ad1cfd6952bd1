//! Walks a plan and computes it for every moment of a grid.
//!
//! What it guarantees: a node is computed once for the whole grid, series by series where it can be;
//! at no time are more points held than the limit; a [`Stop`] is looked at for each node and each
//! series. Where it stops: it parses nothing, and knows of a source only what it asks of it.

mod aggregate;
mod call;
mod histogram;
mod join;
mod select;
mod steps;

use std::rc::Rc;

use super::error::QueryError;
use super::limits::Limits;
use super::plan::{At, Plan, Scalar, Vector, When, WithScalar};
use super::series::{Builder, Matrix, Series, points_count, refuse_same_labels, without_name};
use super::stop::Stop;
use crate::labels::Labels;
use crate::source::{Point, Source};

/// The moments for which a node is computed: from start to end, both included, a step apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    /// At least 1.
    pub(super) step_ms: i64,
}

impl Grid {
    /// The grid of one moment.
    pub(super) fn moment(time_ms: i64) -> Self {
        Self { start_ms: time_ms, end_ms: time_ms, step_ms: 1 }
    }

    /// How many moments there are; none if the end is before the start.
    pub(super) fn steps(self) -> usize {
        let span = self.end_ms - self.start_ms;
        if span < 0 { 0 } else { usize::try_from(span / self.step_ms + 1).unwrap_or(usize::MAX) }
    }

    fn times(self) -> impl Iterator<Item = i64> {
        (0..self.steps()).map(move |step| self.start_ms + step as i64 * self.step_ms)
    }

    /// The place of a moment of the grid.
    fn step_of(self, time_ms: i64) -> usize {
        ((time_ms - self.start_ms) / self.step_ms) as usize
    }

    fn is_moment(self) -> bool {
        self.start_ms == self.end_ms
    }
}

/// A query under way.
pub(super) struct Evaluation<'a> {
    source: &'a dyn Source,
    limits: &'a Limits,
    stop: Option<&'a Stop>,
    /// The grid of the whole query, for `start()` and `end()`.
    query: Grid,
    /// How many points are held now.
    held: usize,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(
        source: &'a dyn Source,
        limits: &'a Limits,
        stop: Option<&'a Stop>,
        query: Grid,
    ) -> Self {
        Self { source, limits, stop, query, held: 0 }
    }

    /// Computes a plan that is no text, for the whole query.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub(super) fn run(&mut self, plan: &Plan) -> Result<Matrix, QueryError> {
        self.check_size(self.query)?;
        match plan {
            Plan::Scalar(scalar) => {
                let values = self.scalar(scalar, self.query)?;
                Ok(vec![self.constant(values, self.query)])
            }
            Plan::Vector(vector) => self.vector(vector, self.query),
            Plan::Range(range) => self.points_of(range, self.query),
            Plan::Text(_) => Ok(Matrix::new()),
        }
    }

    /// The number at each moment.
    fn scalar(&mut self, plan: &Scalar, grid: Grid) -> Result<Vec<f64>, QueryError> {
        self.check_stop()?;
        Ok(match plan {
            Scalar::Number(number) => vec![*number; grid.steps()],
            Scalar::Time => grid.times().map(|time_ms| time_ms as f64 / 1000.0).collect(),
            Scalar::Of(vector) => {
                let matrix = self.vector(vector, grid)?;
                only_values(&matrix, grid)
            }
            Scalar::Negate(of) => self.scalar(of, grid)?.into_iter().map(|value| -value).collect(),
            Scalar::Binary { operator, lhs, rhs } => {
                let (lhs, rhs) = (self.scalar(lhs, grid)?, self.scalar(rhs, grid)?);
                lhs.into_iter().zip(rhs).map(|(lhs, rhs)| operator.apply(lhs, rhs)).collect()
            }
        })
    }

    /// The values at each moment.
    fn vector(&mut self, plan: &Vector, grid: Grid) -> Result<Matrix, QueryError> {
        self.check_stop()?;
        let held = self.held;
        let matrix = self.node(plan, grid)?;
        // What the node worked on is gone; its result stays.
        self.held = held;
        self.hold(points_count(&matrix))?;
        Ok(matrix)
    }

    fn node(&mut self, plan: &Vector, grid: Grid) -> Result<Matrix, QueryError> {
        match plan {
            Vector::Select(selector) => self.select(selector, grid),
            Vector::Of(scalar) => {
                let values = self.scalar(scalar, grid)?;
                Ok(vec![self.constant(values, grid)])
            }
            Vector::Negate(of) => self.negate(of, grid),
            Vector::Map { function, of } => self.map(of, grid, |_, value| Some(function(value))),
            Vector::Clamp { of, least, greatest } => {
                self.clamp(of, least.as_ref(), greatest.as_ref(), grid)
            }
            Vector::Round { of, to } => self.round(of, to, grid),
            Vector::Date { part, of } => self.date(*part, of.as_deref(), grid),
            Vector::Timestamp(of) => self.timestamp(of, grid),
            Vector::Absent { of, labels } => self.absent(of, labels, grid),
            Vector::Sort { of, descending } => self.sort(of, *descending, grid),
            Vector::LabelReplace { of, replace } => self.label_replace(of, replace, grid),
            Vector::LabelJoin { of, join } => self.label_join(of, join, grid),
            Vector::HistogramQuantile { quantile, of } => {
                self.histogram_quantile(quantile, of, grid)
            }
            Vector::OverTime { function, range, scalars } => {
                self.over_time(*function, range, scalars, grid)
            }
            Vector::AbsentOverTime { range, labels } => self.absent_over_time(range, labels, grid),
            Vector::Aggregate(aggregate) => self.aggregate(aggregate, grid),
            Vector::WithScalar(with_scalar) => self.with_scalar(with_scalar, grid),
            Vector::Join(join) => self.join(join, grid),
            Vector::Set { operator, lhs, rhs, matching } => {
                self.set(*operator, lhs, rhs, matching, grid)
            }
        }
    }

    /// Gives each value another one, or none, and takes the name of the metric away.
    ///
    /// The function gets the place of the moment in the grid besides the value.
    fn map(
        &mut self,
        of: &Vector,
        grid: Grid,
        function: impl Fn(usize, f64) -> Option<f64>,
    ) -> Result<Matrix, QueryError> {
        let mut builder = Builder::default();
        for Series { labels, points } in self.vector(of, grid)? {
            let changed = |point: &Point| {
                let value = function(grid.step_of(point.time_ms), point.value)?;
                Some(Point { value, ..*point })
            };
            builder.merge(without_name(&labels), points.iter().filter_map(changed).collect())?;
        }
        Ok(builder.finish())
    }

    fn negate(&mut self, of: &Vector, grid: Grid) -> Result<Matrix, QueryError> {
        let mut matrix = self.vector(of, grid)?;
        for series in &mut matrix {
            series.labels = Rc::new(without_name(&series.labels));
            series.points.iter_mut().for_each(|point| point.value = -point.value);
        }
        // As Prometheus has it: here the labels have to differ even if no moment is shared.
        refuse_same_labels(&matrix)?;
        Ok(matrix)
    }

    fn with_scalar(&mut self, plan: &WithScalar, grid: Grid) -> Result<Matrix, QueryError> {
        let WithScalar { operator, returns_bool, scalar_is_left, .. } = *plan;
        let vector = self.vector(&plan.vector, grid)?;
        let scalars = self.scalar(&plan.scalar, grid)?;
        let changed = |point: &Point| {
            let scalar = scalars[grid.step_of(point.time_ms)];
            let (lhs, rhs) =
                if scalar_is_left { (scalar, point.value) } else { (point.value, scalar) };
            // A comparison that filters keeps the vector's value, on whichever side it is.
            let value = join::combine(operator, returns_bool, lhs, rhs, point.value)?;
            Some(Point { value, ..*point })
        };
        let mut builder = Builder::default();
        for Series { labels, points } in vector {
            let drops_name = operator.drops_name() || returns_bool;
            let labels = if drops_name { without_name(&labels) } else { (*labels).clone() };
            builder.merge(labels, points.iter().filter_map(changed).collect())?;
        }
        Ok(builder.finish())
    }

    /// A series without labels.
    fn constant(&self, values: Vec<f64>, grid: Grid) -> Series {
        let points = grid.times().zip(values).map(|(time_ms, value)| Point { time_ms, value });
        Series { labels: Rc::new(Labels::default()), points: points.collect() }
    }

    /// The moment that a selector means at a moment of the grid.
    fn moment_of(&self, when: When, time_ms: i64) -> i64 {
        let base = match when.at {
            None => time_ms,
            Some(At::Start) => self.query.start_ms,
            Some(At::End) => self.query.end_ms,
            Some(At::Time(at_ms)) => at_ms,
        };
        base - when.offset_ms
    }

    fn check_stop(&self) -> Result<(), QueryError> {
        self.stop.map_or(Ok(()), Stop::check)
    }

    /// Refuses a grid of which a single series would be too much.
    fn check_size(&self, grid: Grid) -> Result<(), QueryError> {
        if grid.steps() > self.limits.samples_max {
            return Err(QueryError::TooManySamples { limit: self.limits.samples_max });
        }
        Ok(())
    }

    /// Counts points as held until the node ends.
    fn hold(&mut self, points: usize) -> Result<(), QueryError> {
        self.held += points;
        if self.held > self.limits.samples_max {
            return Err(QueryError::TooManySamples { limit: self.limits.samples_max });
        }
        Ok(())
    }
}

/// At each moment the value of the one series that has one; NaN if none has, or several.
fn only_values(matrix: &Matrix, grid: Grid) -> Vec<f64> {
    let mut found: Vec<(usize, f64)> = vec![(0, f64::NAN); grid.steps()];
    for point in matrix.iter().flat_map(|series| &series.points) {
        let (count, value) = &mut found[grid.step_of(point.time_ms)];
        *count += 1;
        *value = point.value;
    }
    found.into_iter().map(|(count, value)| if count == 1 { value } else { f64::NAN }).collect()
}
