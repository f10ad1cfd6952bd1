//! How many of the idle spans of a shelf nobody has needed, whichever they are.
//!
//! Traffic goes through many spans in turn, so after a burst each of them may be in use now and then
//! while most are idle at every moment. Their own ages say little then; how few were idle at the worst
//! moment says how many can go.

/// Looks in a row at which a span has to be unneeded to go. With the one that passes before it is on
/// a shelf, and the one in which it was needed last, they are less than a time to live.
pub(super) const LOOKS: usize = 5;

/// The fewest spans that were idle between two looks, over the last looks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lows {
    /// Since the last look.
    current: u32,
    before: [u32; LOOKS],
}

impl Lows {
    /// Notes how many are idle now.
    pub(super) fn note(&mut self, idle: u64) {
        self.current = self.current.min(u32::try_from(idle).unwrap_or(u32::MAX));
    }

    /// Ends an interval that is as long as `looks`; `idle` begin the next.
    pub(super) fn look(&mut self, looks: u64, idle: u64) {
        let looks = usize::try_from(looks).unwrap_or(LOOKS).min(LOOKS);
        self.before.rotate_left(looks);
        self.before[LOOKS - looks..].fill(self.current);
        self.current = u32::try_from(idle).unwrap_or(u32::MAX);
    }

    /// How many were idle throughout the last looks.
    pub(super) fn unneeded(&self) -> u32 {
        self.before.into_iter().min().unwrap_or(0)
    }

    /// Forgets some that have left.
    pub(super) fn forget(&mut self, spans: u32) {
        for low in self.before.iter_mut().chain([&mut self.current]) {
            *low = low.saturating_sub(spans);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_idle_at_the_worst_moment_of_each_of_the_last_looks_is_unneeded() {
        let mut lows = Lows::default();
        lows.look(1, 10);
        for look in 1..=LOOKS {
            assert_eq!(lows.unneeded(), 0, "look {look}");
            for idle in [10, 3 + look as u64, 9] {
                lows.note(idle);
            }
            lows.look(1, 9);
        }
        assert_eq!(lows.unneeded(), 4);
    }

    #[test]
    fn what_has_left_is_counted_no_more() {
        let mut lows = Lows::default();
        lows.look(1, 10);
        lows.look(LOOKS as u64, 10);
        assert_eq!(lows.unneeded(), 10);
        lows.forget(7);
        assert_eq!(lows.unneeded(), 3);
        lows.forget(7);
        assert_eq!(lows.unneeded(), 0);
    }
}
