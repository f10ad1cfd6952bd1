//! Stretches of time, and what is left of them.

/// A stretch of time, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
}

impl Span {
    pub(crate) fn new(from_ms: i64, to_ms: i64) -> Self {
        Self { from_ms, to_ms }
    }

    pub(crate) fn contains(&self, time_ms: i64) -> bool {
        self.from_ms <= time_ms && time_ms <= self.to_ms
    }

    fn and(&self, other: Span) -> Option<Span> {
        let both = Span::new(self.from_ms.max(other.from_ms), self.to_ms.min(other.to_ms));
        (both.from_ms <= both.to_ms).then_some(both)
    }
}

/// The stretches of a queried time for which nothing has been found yet.
#[derive(Debug, Clone)]
pub(super) struct Open(Vec<Span>);

impl Open {
    pub(super) fn new(whole: Span) -> Self {
        Self(if whole.from_ms <= whole.to_ms { vec![whole] } else { Vec::new() })
    }

    /// Takes out what `covers` has in common with the rest, and returns it, ascending.
    pub(super) fn take(&mut self, covers: Span) -> Vec<Span> {
        if !self.0.iter().any(|span| span.and(covers).is_some()) {
            return Vec::new();
        }
        let taken = self.0.iter().filter_map(|span| span.and(covers)).collect();
        let rest = self.0.iter().flat_map(|span| {
            let before = (span.from_ms < covers.from_ms)
                .then(|| Span::new(span.from_ms, span.to_ms.min(covers.from_ms - 1)));
            let after = (span.to_ms > covers.to_ms)
                .then(|| Span::new(span.from_ms.max(covers.to_ms + 1), span.to_ms));
            [before, after].into_iter().flatten()
        });
        self.0 = rest.collect();
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_moment_is_taken_by_the_first_that_covers_it(
            covers in prop::collection::vec((0_i64..60, 0_i64..60), 0..9),
        ) {
            let mut open = Open::new(Span::new(10, 50));
            let mut owner = [None; 60];
            for (number, (a, b)) in covers.iter().enumerate() {
                let covers = Span::new(*a.min(b), *a.max(b));
                for time in 10..=50 {
                    if covers.contains(time) && owner[time as usize].is_none() {
                        owner[time as usize] = Some(number);
                    }
                }
                let taken = open.take(covers);
                for time in 0..60 {
                    let times = taken.iter().filter(|span| span.contains(time)).count();
                    prop_assert_eq!(times, usize::from(owner[time as usize] == Some(number)));
                }
            }
        }
    }
}
