//! Promises that are checked by measuring.

/// A figure and the limit that it is held to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    what: String,
    figure: f64,
    limit: f64,
}

impl Bar {
    /// A figure, such as a ratio of two medians, that is to be no more than `limit`.
    pub(crate) fn at_most(what: impl Into<String>, figure: f64, limit: f64) -> Self {
        Self { what: what.into(), figure, limit }
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn figure(&self) -> f64 {
        self.figure
    }

    pub(crate) fn limit(&self) -> f64 {
        self.limit
    }

    /// Whether the figure holds. The limit itself does; what is not a number does not.
    pub(crate) fn is_met(&self) -> bool {
        self.figure <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_itself_is_met_and_nothing_above_it() {
        for (figure, met) in [(0.2, true), (1.5, true), (1.500_001, false), (f64::NAN, false)] {
            assert_eq!(Bar::at_most("x", figure, 1.5).is_met(), met, "{figure}");
        }
    }
}
