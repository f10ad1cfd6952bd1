//! Functions of instant vectors that need more than a value at a time.

use std::rc::Rc;

use super::super::date::DatePart;
use super::super::error::QueryError;
use super::super::math::{greatest, least, round_to};
use super::super::plan::{LabelJoin, LabelReplace, Scalar, Vector};
use super::super::series::{Builder, Matrix, Series, with, without_name};
use super::{Evaluation, Grid};
use crate::labels::Labels;
use crate::source::Point;

impl Evaluation<'_> {
    pub(super) fn clamp(
        &mut self,
        of: &Vector,
        low: Option<&Scalar>,
        high: Option<&Scalar>,
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        let low = low.map(|scalar| self.scalar(scalar, grid)).transpose()?;
        let high = high.map(|scalar| self.scalar(scalar, grid)).transpose()?;
        self.map(of, grid, |step, value| {
            let low = low.as_ref().map(|values| values[step]);
            let high = high.as_ref().map(|values| values[step]);
            if matches!((low, high), (Some(low), Some(high)) if high < low) {
                return None;
            }
            let value = high.map_or(value, |high| least(high, value));
            Some(low.map_or(value, |low| greatest(low, value)))
        })
    }

    pub(super) fn round(
        &mut self,
        of: &Vector,
        to: &Scalar,
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        let to = self.scalar(to, grid)?;
        self.map(of, grid, |step, value| Some(round_to(value, to[step])))
    }

    pub(super) fn date(
        &mut self,
        part: DatePart,
        of: Option<&Vector>,
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        match of {
            Some(of) => self.map(of, grid, |_, value| Some(part.of(value))),
            None => {
                let values = grid.times().map(|time_ms| part.of((time_ms / 1000) as f64));
                Ok(vec![self.constant(values.collect(), grid)])
            }
        }
    }

    /// When the points were taken if they come right from the source, else the moment itself.
    pub(super) fn timestamp(&mut self, of: &Vector, grid: Grid) -> Result<Matrix, QueryError> {
        let Vector::Select(selector) = of else {
            let now_s = |step| (grid.start_ms + step as i64 * grid.step_ms) as f64 / 1000.0;
            return self.map(of, grid, |step, _| Some(now_s(step)));
        };
        let mut builder = Builder::default();
        for Series { labels, points } in self.select_timestamps(selector, grid)? {
            builder.merge(without_name(&labels), points)?;
        }
        Ok(builder.finish())
    }

    pub(super) fn absent(
        &mut self,
        of: &Vector,
        labels: &Labels,
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        let mut present = vec![false; grid.steps()];
        for point in self.vector(of, grid)?.iter().flat_map(|series| &series.points) {
            present[grid.step_of(point.time_ms)] = true;
        }
        Ok(self.ones_where_absent(&present, labels, grid))
    }

    pub(super) fn ones_where_absent(
        &self,
        present: &[bool],
        labels: &Labels,
        grid: Grid,
    ) -> Matrix {
        let absent = grid.times().zip(present).filter(|(_, present)| !**present);
        let points: Vec<_> = absent.map(|(time_ms, _)| Point { time_ms, value: 1.0 }).collect();
        if points.is_empty() {
            return Matrix::new();
        }
        vec![Series { labels: Rc::new(labels.clone()), points }]
    }

    /// Orders series by value, NaN last. Only the order of an instant query is seen.
    pub(super) fn sort(
        &mut self,
        of: &Vector,
        descending: bool,
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        let mut matrix = self.vector(of, grid)?;
        if grid.is_moment() {
            let value = |series: &Series| series.points[0].value;
            matrix.sort_by(|a, b| {
                let (a, b) = (value(a), value(b));
                let ascending = a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal);
                let order = if descending { ascending.reverse() } else { ascending };
                a.is_nan().cmp(&b.is_nan()).then(order)
            });
        }
        Ok(matrix)
    }

    pub(super) fn label_replace(
        &mut self,
        of: &Vector,
        replace: &LabelReplace,
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        const FUNCTION: &str = "label_replace";
        let matrix = self.vector(of, grid)?;
        let Some(regex) = &replace.regex else {
            let message = format!("invalid regular expression {:?}", replace.pattern);
            return Err(QueryError::argument(FUNCTION, message));
        };
        check_label(FUNCTION, "destination", &replace.to)?;
        relabeled(matrix, |labels| {
            let found = regex.captures(labels.get(&replace.from).unwrap_or_default());
            found.map_or_else(
                || labels.clone(),
                |captures| {
                    let mut value = String::new();
                    captures.expand(&replace.replacement, &mut value);
                    with(labels, &replace.to, &value)
                },
            )
        })
    }

    pub(super) fn label_join(
        &mut self,
        of: &Vector,
        join: &LabelJoin,
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        const FUNCTION: &str = "label_join";
        let matrix = self.vector(of, grid)?;
        check_label(FUNCTION, "destination", &join.to)?;
        join.from.iter().try_for_each(|from| check_label(FUNCTION, "source", from))?;
        relabeled(matrix, |labels| {
            let values = join.from.iter().map(|from| labels.get(from).unwrap_or_default());
            with(labels, &join.to, &values.collect::<Vec<_>>().join(&join.separator))
        })
    }
}

fn relabeled(matrix: Matrix, relabel: impl Fn(&Labels) -> Labels) -> Result<Matrix, QueryError> {
    let mut builder = Builder::default();
    for Series { labels, points } in matrix {
        builder.merge(relabel(&labels), points)?;
    }
    Ok(builder.finish())
}

/// Refuses what is no name of a label.
pub(super) fn check_label(
    function: &'static str,
    which: &str,
    name: &str,
) -> Result<(), QueryError> {
    if crate::promql::is_label_name(name) {
        return Ok(());
    }
    Err(QueryError::argument(function, format!("invalid {which} label name {name:?}")))
}
