//! How much a query may do.

/// How much a query may do, and the few numbers of its language that a server sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a point is seen after it was taken, in milliseconds. Default: 300,000 (5 min).
    pub lookback_ms: i64,
    /// The most points held at once, in all series and intermediate results; 16 bytes each. Default:
    /// 50,000,000, as Prometheus has it; a process that does something else besides wants less.
    pub samples_max: usize,
    /// The most steps of a range query. Default: 11,000.
    pub steps_max: usize,
    /// The step of a subquery that names none, in milliseconds. Default: 60,000.
    pub subquery_step_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lookback_ms: 300_000,
            samples_max: 50_000_000,
            steps_max: 11_000,
            subquery_step_ms: 60_000,
        }
    }
}
