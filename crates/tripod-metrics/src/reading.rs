//! The value of a series that somebody else keeps.

/// What an observer answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reading {
    /// A count, for a counter.
    Count(u64),
    /// A number, for a counter of fractions or a gauge.
    Value(f64),
}
