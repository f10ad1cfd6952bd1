//! A matrix seen moment by moment.

use super::super::series::Matrix;

/// A value that a series has at the moment looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present {
    /// The place of the series in the matrix.
    pub(super) series: usize,
    pub(super) value: f64,
}

/// Goes through a matrix in the order of time.
#[derive(Debug)]
pub(super) struct Steps<'a> {
    matrix: &'a Matrix,
    /// For each series, how many points are past.
    past: Vec<usize>,
    present: Vec<Present>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(matrix: &'a Matrix) -> Self {
        Self { matrix, past: vec![0; matrix.len()], present: Vec::with_capacity(matrix.len()) }
    }

    /// The values at a moment, in the order of the series. Moments have to be asked for in order,
    /// each that has a point.
    pub(super) fn at(&mut self, time_ms: i64) -> &[Present] {
        self.present.clear();
        for (place, (series, past)) in self.matrix.iter().zip(&mut self.past).enumerate() {
            if let Some(point) = series.points.get(*past).filter(|point| point.time_ms == time_ms) {
                *past += 1;
                self.present.push(Present { series: place, value: point.value });
            }
        }
        &self.present
    }
}
