//! The simplest source: all points in memory.

use tripod_history::{Matcher, SelectError, SeriesPoints, Source};

pub(crate) struct Memory(Vec<SeriesPoints>);

impl Memory {
    pub(crate) fn new(mut series: Vec<SeriesPoints>) -> Self {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Self(series)
    }
}

impl Source for Memory {
    fn select(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        _step_ms: i64,
    ) -> Result<Vec<SeriesPoints>, SelectError> {
        let meant =
            self.0.iter().filter(|series| matchers.iter().all(|m| m.matches(&series.labels)));
        let cut = meant.map(|series| SeriesPoints {
            labels: series.labels.clone(),
            points: series
                .points
                .iter()
                .filter(|point| (start_ms..=end_ms).contains(&point.time_ms))
                .copied()
                .collect(),
        });
        Ok(cut.filter(|series| !series.points.is_empty()).collect())
    }
}
