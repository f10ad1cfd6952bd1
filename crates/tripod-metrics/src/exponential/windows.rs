//! Sliding windows over a distribution that itself only grows.
//!
//! What came in a span of time is the difference of two states, so one recording serves every
//! window, and a window costs nothing while values are recorded. The differences are kept in *spans*:
//! those of the shortest window are a fifth of it long; what falls out of a window is gathered into
//! the longer spans of the next. So a window holds the values of its own length and of at most
//! two fifths more: a span that is being filled, and what the lengths do not divide evenly.
//!
//! Pure: it is told the time, and what the series holds. If it is not told for long, what came
//! meanwhile counts as of the moment when it is.

use std::collections::VecDeque;
use std::time::Duration;

use super::distribution::{Distribution, Packed};

/// Spans of a window, of those that the next shorter one has not.
const SPANS: u64 = 5;

/// A window is at most this long, 35,000 years, so that no time overflows.
const LONGEST_MS: u64 = 1 << 50;

/// The recent past of one series.
#[derive(Debug)]
pub(crate) struct Windows {
    /// The state at the end of the newest span.
    last: Packed,
    last_ms: u64,
    /// By window, ascending.
    levels: Vec<Level>,
}

/// What one window has and the next shorter one has not.
#[derive(Debug)]
struct Level {
    span_ms: u64,
    spans_max: usize,
    /// Newest first.
    spans: VecDeque<Packed>,
    /// What has come from the shorter window and is not a whole span yet.
    filling: Packed,
    filling_ms: u64,
}

impl Windows {
    /// `windows` ascend and are at least a second each.
    pub(crate) fn new(windows: &[Duration], now_ms: u64) -> Self {
        let mut levels: Vec<Level> = Vec::new();
        let mut covered_ms = 0;
        for window in windows {
            let ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).min(LONGEST_MS);
            // Spans of a level are made of whole spans of the level before.
            let part_ms = levels.last().map_or(1, |level| level.span_ms);
            let length_ms = ms.saturating_sub(covered_ms).max(1);
            let span_ms = (length_ms / SPANS / part_ms).max(1) * part_ms;
            let spans_max = length_ms.div_ceil(span_ms) as usize;
            covered_ms += span_ms * spans_max as u64;
            let filling = Distribution::default().pack();
            levels.push(Level {
                span_ms,
                spans_max,
                spans: VecDeque::new(),
                filling,
                filling_ms: 0,
            });
        }
        Self { last: Distribution::default().pack(), last_ms: now_ms, levels }
    }

    /// Says what the series held before its windows began.
    pub(crate) fn begin_at(&mut self, state: &Distribution) {
        self.last = state.pack();
    }

    /// Ends spans that are over at `now_ms`. `read` gives the state of the series; it is called only
    /// if there is a span to end.
    pub(crate) fn advance(&mut self, now_ms: u64, read: impl FnOnce() -> Distribution) {
        let Some(span_ms) = self.levels.first().map(|level| level.span_ms) else {
            return;
        };
        // After a clock went back the newest span begins anew, or the windows would stand still until
        // the clock has caught up.
        self.last_ms = self.last_ms.min(now_ms);
        let spans = (now_ms - self.last_ms) / span_ms;
        if spans == 0 {
            return;
        }
        self.last_ms += spans * span_ms;
        let state = read();
        let newest = state.since(&self.last.unpack());
        self.last = state.pack();
        self.pass(0, spans - 1);
        self.push(0, newest);
    }

    /// Adds a span to the level of this place; what falls out of it goes to the next.
    fn push(&mut self, place: usize, span: Distribution) {
        let mut arriving = Some((span, 0));
        for level in &mut self.levels[place..] {
            let Some((span, span_ms)) = arriving.take() else { return };
            arriving = level.push(span, span_ms);
        }
    }

    /// Adds that many spans without a value to the level of this place, in few steps however many
    /// they are.
    fn pass(&mut self, place: usize, spans: u64) {
        let level = &self.levels[place];
        let (span_ms, own) = (level.span_ms, spans.min(level.spans_max as u64));
        for _ in 0..own {
            self.push(place, Distribution::default());
        }
        // By now no span of the level has a value, so nothing more falls out of it but time.
        let Some(next) = self.levels.get_mut(place + 1) else { return };
        next.filling_ms = next.filling_ms.saturating_add((spans - own) * span_ms);
        let whole = next.filling_ms / next.span_ms;
        next.filling_ms %= next.span_ms;
        if whole > 0 {
            let filled = std::mem::replace(&mut next.filling, Distribution::default().pack());
            self.push(place + 1, filled.unpack());
            self.pass(place + 1, whole - 1);
        }
    }

    /// What came within the window of this place among the windows, up to now. `state` is what the
    /// series holds now.
    pub(crate) fn within(&self, window: usize, state: &Distribution) -> Distribution {
        self.within_each(state).nth(window).unwrap_or_default()
    }

    /// The same for each window, the shortest first: every one has all that the one before has.
    pub(crate) fn within_each(
        &self,
        state: &Distribution,
    ) -> impl Iterator<Item = Distribution> + use<'_> {
        let newest = state.since(&self.last.unpack());
        self.levels.iter().scan(newest, |total, level| {
            level.spans.iter().for_each(|span| total.add(&span.unpack()));
            total.add(&level.filling.unpack());
            Some(total.clone())
        })
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn heap_bytes(&self) -> usize {
        let level = |level: &Level| {
            let spans: usize = level.spans.iter().map(Packed::heap_bytes).sum();
            let places = level.spans.capacity() * size_of::<Packed>();
            size_of::<Level>() + spans + places + level.filling.heap_bytes()
        };
        self.last.heap_bytes() + self.levels.iter().map(level).sum::<usize>()
    }
}

impl Level {
    /// Takes a span of the level before (`ms` long), or a whole one of its own (`ms` is 0); returns
    /// what falls out.
    fn push(&mut self, span: Distribution, ms: u64) -> Option<(Distribution, u64)> {
        if ms > 0 {
            let mut filling = self.filling.unpack();
            filling.add(&span);
            self.filling_ms += ms;
            if self.filling_ms < self.span_ms {
                self.filling = filling.pack();
                return None;
            }
            self.filling_ms = 0;
            self.filling = Distribution::default().pack();
            self.spans.push_front(filling.pack());
        } else {
            self.spans.push_front(span.pack());
        }
        if self.spans.len() <= self.spans_max {
            return None;
        }
        Some((self.spans.pop_back()?.unpack(), self.span_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1000;

    fn windows(seconds: &[u64]) -> Windows {
        let windows: Vec<Duration> =
            seconds.iter().map(|seconds| Duration::from_secs(*seconds)).collect();
        Windows::new(&windows, 0)
    }

    /// One value a second, in the bucket of that second.
    fn state(seconds: u64) -> Distribution {
        let positive = (0..seconds).map(|second| (second as i32, 1)).collect();
        Distribution { positive, ..Distribution::default() }
    }

    #[test]
    fn a_window_holds_its_own_length_and_at_most_two_fifths_more() {
        let mut windows = windows(&[8, 60, 300]);
        for second in 1..2_000 {
            windows.advance(second * SECOND, || state(second));
            for (place, length) in [8, 60, 300].into_iter().enumerate() {
                let within = windows.within(place, &state(second));
                let oldest = within.positive.first().map_or(second, |(at, _)| *at as u64);
                assert_eq!(within.count(), second - oldest, "no gaps at {second}");
                let age = second - oldest;
                assert!(age >= length.min(second), "{age} s of {length} s at {second}");
                assert!(age <= length + length * 2 / 5, "{age} s of {length} s at {second}");
            }
        }
    }

    #[test]
    fn what_is_older_than_every_window_is_forgotten_even_if_nobody_looked() {
        let mut windows = windows(&[8, 60]);
        windows.advance(SECOND * 3, || state(3));
        assert_eq!(windows.within(0, &state(3)).count(), 3);
        windows.advance(SECOND * 100_000, || state(3));
        assert_eq!(windows.within(1, &state(3)).count(), 0);
        // A clock that goes backwards ends nothing and loses nothing.
        windows.advance(SECOND * 50_000, || state(4));
        assert_eq!(windows.within(1, &state(4)).count(), 1);
        // It goes on from there.
        windows.advance(SECOND * 50_010, || state(4));
        windows.advance(SECOND * 50_022, || state(4));
        assert_eq!(windows.within(0, &state(4)).count(), 0);
        assert_eq!(windows.within(1, &state(4)).count(), 1);
    }

    #[test]
    fn time_that_passes_at_once_is_as_much_as_in_small_steps() {
        for gap in (1..700).step_by(23) {
            let (mut at_once, mut in_steps) = (windows(&[8, 60, 300]), windows(&[8, 60, 300]));
            for second in 1..400 {
                at_once.advance(second * SECOND, || state(second));
                in_steps.advance(second * SECOND, || state(second));
            }
            at_once.advance((399 + gap) * SECOND, || state(399));
            for second in 400..=399 + gap {
                in_steps.advance(second * SECOND, || state(399));
            }
            for place in 0..3 {
                let within = |windows: &Windows| windows.within(place, &state(399));
                assert_eq!(within(&at_once), within(&in_steps), "window {place} after {gap} s");
            }
        }
    }

    #[test]
    fn a_window_may_be_longer_than_time() {
        let mut windows = Windows::new(&[Duration::from_secs(10), Duration::MAX], 0);
        for now_ms in [9 * SECOND, 1000 * SECOND, u64::MAX / 2, u64::MAX] {
            windows.advance(now_ms, || state(3));
            assert_eq!(windows.within(1, &state(3)).count(), 3 * u64::from(now_ms < u64::MAX / 2));
        }
    }
}
