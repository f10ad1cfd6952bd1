//! How long the objects of a stack have been idle, told from its height alone.
//!
//! A stack whose height has not been below `h` since some moment holds, at its bottom, `h` objects that
//! have not moved since then. So no object needs a stamp, and pushing and popping read no clock: popping
//! keeps the lowest height since the last look, and a look keeps a few *marks*, pairs of a height and
//! the moment since when it holds.
//!
//! A stamp in each object was the alternative; it costs memory in each and a walk over those that have
//! none yet, with the lock held.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many marks fit into one TTL. More of them make the time of expiry finer.
const MARKS_PER_TTL: u32 = 16;

/// `height` objects, those at the bottom, have been idle since `since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    height: usize,
    since: Instant,
}

/// The ages of one stack's objects.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    /// The lowest height since the last look.
    low: usize,
    /// Ascending in height and in time.
    marks: VecDeque<Mark>,
}

impl Ages {
    /// Is told that the stack has been popped and now has `height` objects.
    #[inline]
    pub(crate) fn popped_to(&mut self, height: usize) {
        self.low = self.low.min(height);
    }

    /// Looks at a stack of `height` objects and answers how many at its bottom have expired.
    pub(crate) fn look(&mut self, now: Instant, ttl: Duration, height: usize) -> usize {
        self.clip(self.low);
        self.low = height;
        if self.is_mark_due(now, ttl, height) {
            self.marks.push_back(Mark { height, since: now });
        }
        let expired = |mark: &&Mark| now.saturating_duration_since(mark.since) >= ttl;
        self.marks.iter().take_while(expired).last().map_or(0, |mark| mark.height)
    }

    /// Is told that one object has been taken off the bottom.
    pub(crate) fn removed_from_bottom(&mut self) {
        self.low = self.low.saturating_sub(1);
        for mark in &mut self.marks {
            mark.height = mark.height.saturating_sub(1);
        }
        self.marks.retain(|mark| mark.height > 0);
    }

    /// Whether the objects above the last mark get one of their own now, or wait for the next look.
    fn is_mark_due(&self, now: Instant, ttl: Duration, height: usize) -> bool {
        let Some(last) = self.marks.back() else { return height > 0 };
        let distance = now.saturating_duration_since(last.since);
        height > last.height && distance >= ttl / MARKS_PER_TTL
    }

    /// Lowers all marks to `height`; of several that are then alike, the oldest says it all.
    fn clip(&mut self, height: usize) {
        while self.marks.back().is_some_and(|mark| mark.height >= height) {
            let Some(lowered) = self.marks.pop_back() else { break };
            let is_told_by_older = self.marks.back().is_some_and(|older| older.height >= height);
            if height > 0 && !is_told_by_older {
                self.marks.push_back(Mark { height, ..lowered });
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(16);

    /// A stack of which each object knows since when it lies there, and the ages beside it.
    #[derive(Default)]
    struct Stack {
        idle_since: VecDeque<Instant>,
        ages: Ages,
    }

    impl Stack {
        fn push(&mut self, now: Instant, count: usize) {
            self.idle_since.extend(std::iter::repeat_n(now, count));
        }

        fn pop(&mut self, count: usize) {
            for _ in 0..count {
                if self.idle_since.pop_back().is_some() {
                    self.ages.popped_to(self.idle_since.len());
                }
            }
        }

        /// Removes what has expired; asserts that each was idle for the TTL, and how long at most.
        fn collect(&mut self, now: Instant) -> usize {
            let expired = self.ages.look(now, TTL, self.idle_since.len());
            for _ in 0..expired {
                let since = self.idle_since.pop_front().expect("what expires is there");
                assert!(now - since >= TTL, "dropped after {:?}", now - since);
                self.ages.removed_from_bottom();
            }
            assert!(self.ages.marks.len() <= MARKS_PER_TTL as usize + 1);
            expired
        }
    }

    fn at(start: Instant, secs: u64) -> Instant {
        start + Duration::from_secs(secs)
    }

    #[test]
    fn what_lies_still_expires_and_what_moved_does_not() {
        let start = Instant::now();
        let mut stack = Stack::default();
        stack.push(start, 10);
        assert_eq!(stack.collect(start), 0);
        stack.pop(4);
        stack.push(at(start, 8), 4);
        assert_eq!(stack.collect(at(start, 8)), 0);
        assert_eq!(stack.collect(at(start, 15)), 0);
        assert_eq!(stack.collect(at(start, 16)), 6);
        assert_eq!(stack.collect(at(start, 23)), 0);
        assert_eq!(stack.collect(at(start, 24)), 4);
    }

    #[test]
    fn a_pop_between_two_looks_is_remembered_even_if_the_stack_is_as_high_again() {
        let start = Instant::now();
        let mut stack = Stack::default();
        stack.push(start, 3);
        stack.collect(start);
        stack.pop(3);
        stack.push(at(start, 15), 3);
        assert_eq!(stack.collect(at(start, 16)), 0);
        assert_eq!(stack.collect(at(start, 32)), 3);
    }

    #[test]
    fn a_clock_that_goes_back_expires_nothing() {
        let start = Instant::now();
        let mut stack = Stack::default();
        stack.push(start, 2);
        stack.collect(at(start, 100));
        assert_eq!(stack.ages.look(start, TTL, 2), 0);
        assert_eq!(stack.ages.look(at(start, 115), TTL, 2), 0);
        assert_eq!(stack.ages.look(at(start, 116), TTL, 2), 2);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..Default::default()
        })]

        /// Nothing early is asserted by `collect`; here also that nothing is late.
        #[test]
        fn objects_expire_on_time_whatever_is_pushed_and_popped(
            steps in proptest::collection::vec((0_usize..6, 0_usize..6, 0_u64..4), 1..200),
        ) {
            let start = Instant::now();
            let mut stack = Stack::default();
            let mut secs = 0;
            for (pushed, popped, pause) in steps {
                stack.push(at(start, secs), pushed);
                stack.pop(popped);
                secs += pause;
                stack.collect(at(start, secs));
                // One distance of marks late, and one distance of looks before and after it.
                let late_max = TTL + TTL / MARKS_PER_TTL + Duration::from_secs(3 * 3);
                for &since in &stack.idle_since {
                    proptest::prop_assert!(at(start, secs) - since <= late_max);
                }
            }
        }
    }
}
