//! Series while a query is worked on, and what is done to their labels.
//!
//! A matrix holds points on the grid of an evaluation. Of one labelset there is one series, with one
//! point at most at each moment; [`Builder`] sees to that, and it keeps the order in which series
//! were met.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use super::error::QueryError;
use crate::labels::{Labels, NAME_LABEL};
use crate::source::Point;

/// A series of a matrix.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) labels: Rc<Labels>,
    /// Ascending in time.
    pub(super) points: Vec<Point>,
}

pub(super) type Matrix = Vec<Series>;

/// How many points a matrix has.
pub(super) fn points_count(matrix: &Matrix) -> usize {
    matrix.iter().map(|series| series.points.len()).sum()
}

/// Puts a matrix together from points or from whole series.
#[derive(Debug, Default)]
pub(super) struct Builder {
    matrix: Matrix,
    by_labels: HashMap<Rc<Labels>, usize>,
}

impl Builder {
    /// The place of a series in the matrix, for [`push`](Self::push).
    pub(super) fn place(&mut self, labels: Labels) -> usize {
        self.place_shared(Rc::new(labels))
    }

    /// As [`place`](Self::place), without a copy of the labels.
    fn place_shared(&mut self, labels: Rc<Labels>) -> usize {
        match self.by_labels.entry(labels) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let place = self.matrix.len();
                self.matrix.push(Series { labels: Rc::clone(entry.key()), points: Vec::new() });
                entry.insert(place);
                place
            }
        }
    }

    /// Adds a point, later than those that the series has.
    ///
    /// # Errors
    /// [`QueryError::SameLabels`] if the series has a point then.
    pub(super) fn push(&mut self, place: usize, point: Point) -> Result<(), QueryError> {
        let series = &mut self.matrix[place];
        if series.points.last().is_some_and(|last| last.time_ms == point.time_ms) {
            return Err(QueryError::SameLabels((*series.labels).clone()));
        }
        series.points.push(point);
        Ok(())
    }

    /// Adds points, which may lie between those that the series has.
    ///
    /// # Errors
    /// [`QueryError::SameLabels`] if the series has a point at one of the same moments.
    pub(super) fn merge(&mut self, labels: Labels, points: Vec<Point>) -> Result<(), QueryError> {
        let place = self.place(labels);
        let series = &mut self.matrix[place];
        if series.points.is_empty() {
            series.points = points;
            return Ok(());
        }
        series.points.extend(points);
        series.points.sort_by_key(|point| point.time_ms);
        if series.points.windows(2).any(|pair| pair[0].time_ms == pair[1].time_ms) {
            return Err(QueryError::SameLabels((*series.labels).clone()));
        }
        Ok(())
    }

    /// The matrix, without series that got no point.
    pub(super) fn finish(self) -> Matrix {
        self.matrix.into_iter().filter(|series| !series.points.is_empty()).collect()
    }
}

/// Where the series of one matrix go in another that is being built, with their labels unchanged.
#[derive(Debug)]
pub(super) struct Places<'a> {
    matrix: &'a Matrix,
    known: Vec<Option<usize>>,
}

impl<'a> Places<'a> {
    pub(super) fn new(matrix: &'a Matrix) -> Self {
        Self { matrix, known: vec![None; matrix.len()] }
    }

    /// The place of a series, in the order in which they are asked for. Labels are hashed once for
    /// each series, not for each point.
    pub(super) fn of(&mut self, series: usize, builder: &mut Builder) -> usize {
        *self.known[series]
            .get_or_insert_with(|| builder.place_shared(Rc::clone(&self.matrix[series].labels)))
    }
}

/// Refuses a matrix in which two series have the same labels, even if they share no moment.
pub(super) fn refuse_same_labels(matrix: &Matrix) -> Result<(), QueryError> {
    let mut seen = std::collections::HashSet::with_capacity(matrix.len());
    for series in matrix {
        if !seen.insert(&*series.labels) {
            return Err(QueryError::SameLabels((*series.labels).clone()));
        }
    }
    Ok(())
}

/// All labels but the name of the metric.
pub(super) fn without_name(labels: &Labels) -> Labels {
    kept(labels, |name| name != NAME_LABEL)
}

/// The labels of which `keep` says so.
pub(super) fn kept(labels: &Labels, keep: impl Fn(&str) -> bool) -> Labels {
    Labels::new(labels.iter().filter(|(name, _)| keep(name)))
}

/// All labels, with one set; to "" means removed.
pub(super) fn with(labels: &Labels, name: &str, value: &str) -> Labels {
    Labels::new(labels.iter().chain([(name, value)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time_ms: i64) -> Point {
        Point { time_ms, value: 1.0 }
    }

    #[test]
    fn one_labelset_is_one_series_with_one_point_at_a_time() {
        let mut builder = Builder::default();
        let labels = Labels::new([("a", "1")]);
        builder.merge(labels.clone(), vec![at(1), at(3)]).expect("a new series");
        builder.merge(labels.clone(), vec![at(2)]).expect("a free moment");
        assert!(builder.merge(labels.clone(), vec![at(3)]).is_err());
        let place = builder.place(labels);
        assert!(builder.push(place, at(3)).is_err());
        builder.place(Labels::default());
        assert_eq!(builder.finish().len(), 1, "a series without points is none");
    }

    #[test]
    fn setting_a_label_to_nothing_removes_it() {
        let labels = Labels::new([("a", "1"), ("b", "2")]);
        assert_eq!(with(&labels, "a", ""), Labels::new([("b", "2")]));
        assert_eq!(with(&labels, "a", "3").get("a"), Some("3"));
    }
}
