//! `histogram_quantile`: from the buckets of each histogram to one value.

use std::collections::HashMap;

use super::super::error::QueryError;
use super::super::histogram::{Bucket, bucket_quantile};
use super::super::plan::{Scalar, Vector};
use super::super::series::{Builder, Matrix, kept};
use super::steps::Steps;
use super::{Evaluation, Grid};
use crate::labels::{Labels, NAME_LABEL};
use crate::source::Point;

const BOUND_LABEL: &str = "le";

/// Of which histogram a series is a bucket, and its bound.
type Membership = Option<(usize, f64)>;

impl Evaluation<'_> {
    pub(super) fn histogram_quantile(
        &mut self,
        quantile: &Scalar,
        of: &Vector,
        grid: Grid,
    ) -> Result<Matrix, QueryError> {
        let quantile = self.scalar(quantile, grid)?;
        let matrix = self.vector(of, grid)?;
        let (memberships, histograms) = histograms(&matrix);
        let mut builder = Builder::default();
        let mut steps = Steps::new(&matrix);
        for (step, time_ms) in grid.times().enumerate() {
            let mut buckets: Vec<Vec<Bucket>> = vec![Vec::new(); histograms.len()];
            for present in steps.at(time_ms) {
                if let Some((histogram, upper)) = memberships[present.series] {
                    buckets[histogram].push(Bucket { upper, count: present.value });
                }
            }
            for (buckets, labels) in buckets.into_iter().zip(&histograms) {
                if !buckets.is_empty() {
                    let place = builder.place(labels.clone());
                    let value = bucket_quantile(quantile[step], buckets);
                    builder.push(place, Point { time_ms, value })?;
                }
            }
        }
        Ok(builder.finish())
    }
}

/// Sorts series into histograms, and gives the labels of each for the result. Series without a
/// bound are left out.
fn histograms(matrix: &Matrix) -> (Vec<Membership>, Vec<Labels>) {
    let mut by_labels: HashMap<Labels, usize> = HashMap::new();
    let mut histograms = Vec::new();
    let memberships = matrix.iter().map(|series| {
        let upper = series.labels.get(BOUND_LABEL)?.parse().ok()?;
        let labels = kept(&series.labels, |name| name != BOUND_LABEL);
        let histogram = *by_labels.entry(labels).or_insert_with_key(|labels| {
            histograms.push(kept(labels, |name| name != NAME_LABEL));
            histograms.len() - 1
        });
        Some((histogram, upper))
    });
    (memberships.collect(), histograms)
}
