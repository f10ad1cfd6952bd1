//! Points from the source: the last one before a moment, those in a window, and subqueries.

use std::rc::Rc;

use super::super::error::QueryError;
use super::super::over_time::{RangeFunction, Window};
use super::super::plan::{Range, Scalar, Selector, Vector, When};
use super::super::series::{Matrix, Series, refuse_same_labels, without_name};
use super::{Evaluation, Grid};
use crate::labels::Labels;
use crate::source::{Point, SeriesPoints, is_stale};

/// Series with the points from which windows are cut, stale markers taken out.
struct Windows {
    series: Matrix,
    range_ms: i64,
    when: When,
}

impl Evaluation<'_> {
    /// At each moment the last point of each series, unless that is too old or a stale marker.
    pub(super) fn select(&mut self, selector: &Selector, grid: Grid) -> Result<Matrix, QueryError> {
        self.each_last(selector, grid, |point| point.value)
    }

    /// As [`select`](Self::select), but the time of the point, in seconds, instead of its value.
    pub(super) fn select_timestamps(
        &mut self,
        selector: &Selector,
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        self.each_last(selector, grid, |point| point.time_ms as f64 / 1000.0)
    }

    fn each_last(
        &mut self,
        selector: &Selector,
        grid: Grid,
        value: impl Fn(&Point) -> f64,
    ) -> Result<Matrix, QueryError> {
        let lookback_ms = self.limits.lookback_ms;
        let hint_ms = if grid.is_moment() { 0 } else { grid.step_ms.min(lookback_ms) };
        let mut matrix = Matrix::new();
        for SeriesPoints { labels, points: raw } in
            self.read(selector, lookback_ms, hint_ms, grid)?
        {
            self.check_stop()?;
            let (mut points, mut past) = (Vec::new(), 0);
            for time_ms in grid.times() {
                let moment_ms = self.moment_of(selector.when, time_ms);
                past += raw[past..].iter().take_while(|point| point.time_ms <= moment_ms).count();
                let last = past.checked_sub(1).map(|place| &raw[place]);
                let seen = last.filter(|last| {
                    last.time_ms >= moment_ms - lookback_ms && !is_stale(last.value)
                });
                points.extend(seen.map(|point| Point { time_ms, value: value(point) }));
            }
            self.hold(points.len())?;
            matrix.push(Series { labels: Rc::new(labels), points });
        }
        matrix.retain(|series| !series.points.is_empty());
        Ok(matrix)
    }

    /// What the source has for a selector, from `back_ms` before the first moment to the last.
    fn read(
        &mut self,
        selector: &Selector,
        back_ms: i64,
        hint_ms: i64,
        grid: Grid,
    ) -> Result<Vec<SeriesPoints>, QueryError> {
        if grid.steps() == 0 {
            return Ok(Vec::new());
        }
        let first_ms = self.moment_of(selector.when, grid.start_ms) - back_ms;
        let last_ms = self.moment_of(selector.when, grid.end_ms);
        let read = self.source.select(&selector.matchers, first_ms, last_ms, hint_ms)?;
        self.hold(read.iter().map(|series| series.points.len()).sum())?;
        Ok(read)
    }

    /// The points in the window that ends at the only moment of the grid.
    pub(super) fn points_of(&mut self, range: &Range, grid: Grid) -> Result<Matrix, QueryError> {
        let Windows { mut series, range_ms, when } = self.windows(range, grid)?;
        let end_ms = self.moment_of(when, grid.end_ms);
        for series in &mut series {
            series.points.retain(|point| (end_ms - range_ms..=end_ms).contains(&point.time_ms));
        }
        series.retain(|series| !series.points.is_empty());
        Ok(series)
    }

    pub(super) fn over_time(
        &mut self,
        function: RangeFunction,
        range: &Range,
        scalars: &[Scalar],
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        let scalars: Vec<Vec<f64>> =
            scalars.iter().map(|scalar| self.scalar(scalar, grid)).collect::<Result<_, _>>()?;
        let windows = self.windows(range, grid)?;
        // With `@` the window is the same at every moment, so its value is computed once.
        let fixed = windows.when.at.is_some() && function != RangeFunction::PredictLinear;
        let (mut matrix, mut arguments) = (Matrix::new(), Vec::with_capacity(scalars.len()));
        for series in &windows.series {
            let (mut points, mut before) = (Vec::new(), None);
            self.each_window(&windows, series, grid, |step, window| {
                arguments.clear();
                arguments.extend(scalars.iter().map(|values| values[step]));
                let value = match &before {
                    Some((same, value)) if *same == arguments => *value,
                    _ => function.apply(window, &arguments)?,
                };
                if fixed {
                    before = Some((arguments.clone(), value));
                }
                points.extend(value.map(|value| Point { time_ms: window.now_ms, value }));
                Ok(())
            })?;
            self.hold(points.len())?;
            if !points.is_empty() {
                let labels = match function {
                    RangeFunction::Last => Rc::clone(&series.labels),
                    _ => Rc::new(without_name(&series.labels)),
                };
                matrix.push(Series { labels, points });
            }
        }
        // As Prometheus has it: here the labels have to differ even if no moment is shared.
        refuse_same_labels(&matrix)?;
        Ok(matrix)
    }

    /// 1 at each moment at which no series has a point in its window.
    pub(super) fn absent_over_time(
        &mut self,
        range: &Range,
        labels: &Labels,
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        let windows = self.windows(range, grid)?;
        let mut present = vec![false; grid.steps()];
        for series in &windows.series {
            self.each_window(&windows, series, grid, |step, _| {
                present[step] = true;
                Ok(())
            })?;
        }
        Ok(self.ones_where_absent(&present, labels, grid))
    }

    /// Calls back for each moment at which the window has a point.
    fn each_window(
        &self,
        windows: &Windows,
        series: &Series,
        grid: Grid,
        mut visit: impl FnMut(usize, Window<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let points = &series.points;
        let (mut begin, mut end) = (0, 0);
        for (step, now_ms) in grid.times().enumerate() {
            self.check_stop()?;
            let end_ms = self.moment_of(windows.when, now_ms);
            let start_ms = end_ms - windows.range_ms;
            end += points[end..].iter().take_while(|point| point.time_ms <= end_ms).count();
            begin += points[begin..end].iter().take_while(|point| point.time_ms < start_ms).count();
            if begin < end {
                visit(step, Window { points: &points[begin..end], start_ms, end_ms, now_ms })?;
            }
        }
        Ok(())
    }

    fn windows(&mut self, range: &Range, grid: Grid) -> Result<Windows, QueryError> {
        match range {
            Range::Select { selector, range_ms } => {
                // A quarter of the window, so that a coarser resolution still has points in it.
                let hint_ms = if grid.is_moment() { 0 } else { grid.step_ms.min(*range_ms) / 4 };
                let read = self.read(selector, *range_ms, hint_ms, grid)?;
                let fresh = read.into_iter().map(|SeriesPoints { labels, mut points }| {
                    points.retain(|point| !is_stale(point.value));
                    Series { labels: Rc::new(labels), points }
                });
                let series = fresh.collect();
                Ok(Windows { series, range_ms: *range_ms, when: selector.when })
            }
            Range::Subquery { of, range_ms, step_ms, when } => {
                let series = self.subquery(of, *range_ms, *step_ms, *when, grid)?;
                Ok(Windows { series, range_ms: *range_ms, when: *when })
            }
        }
    }

    /// The values of a vector on a grid of its own: multiples of its step since 1970.
    fn subquery(
        &mut self,
        of: &Vector,
        range_ms: i64,
        step_ms: Option<i64>,
        when: When,
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        let step_ms = step_ms.unwrap_or(self.limits.subquery_step_ms).max(1);
        let from_ms = self.moment_of(when, grid.start_ms) - range_ms;
        let inner = Grid {
            // Rounded up, also before 1970.
            start_ms: -(-from_ms).div_euclid(step_ms) * step_ms,
            end_ms: self.moment_of(when, grid.end_ms),
            step_ms,
        };
        self.check_size(inner)?;
        if inner.steps() == 0 { Ok(Matrix::new()) } else { self.vector(of, inner) }
    }
}
