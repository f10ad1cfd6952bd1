//! When to look at the commands again: the sooner the closer a growing one is to its reservation.
//!
//! That a command did not grow since the last look says little: where commands take all
//! processors, most of them stand still for a few milliseconds only because it is another's turn.
//! So what is reckoned with fades over a tenth of a second, and only one that has stood still for
//! a quarter of a second of looks is left alone for long.

use std::time::Duration;

/// The longest and shortest time between two looks; the shortest is what the timer can do.
pub(super) const LOOK_EVERY_MAX: Duration = Duration::from_millis(100);
pub(super) const LOOK_EVERY_MIN: Duration = Duration::from_millis(1);
/// The longest time for a command that may be growing.
const LOOK_AT_GROWING_EVERY_MAX: Duration = Duration::from_millis(50);
/// The growth that is reckoned with: at most about what one processor can touch, at least enough
/// for one that begins to grow, and in between four times what was seen.
const GROWTH_BYTES_PER_SECOND_MAX: u64 = 4 << 30;
const GROWTH_BYTES_PER_SECOND_MIN: u64 = 256 << 20;
const GROWTH_SAFETY: u64 = 4;
/// In this time, what was seen of a command's growth falls to less than a half.
const FADES_IN: Duration = Duration::from_millis(100);
/// A command that did not grow for this long is taken to stand still.
const STILL_AFTER: Duration = Duration::from_millis(250);

/// How fast a command grows, by what was seen of it while it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// The fastest growth seen, faded by its age.
    bytes_per_second: u64,
    still_for: Duration,
}

impl Pace {
    /// That of a command which begins, or goes on after a pause: expected to grow, and fast.
    pub(super) const FRESH: Self =
        Self { bytes_per_second: GROWTH_BYTES_PER_SECOND_MAX, still_for: Duration::ZERO };

    /// Takes into account that the command grew by `grown_bytes` in the time `over`.
    pub(super) fn observe(&mut self, grown_bytes: u64, over: Duration) {
        let over_nanos = over.as_nanos().max(1);
        let seen = saturate(u128::from(grown_bytes) * 1_000_000_000 / over_nanos);
        let fades_in_nanos = FADES_IN.as_nanos();
        let before = u128::from(self.bytes_per_second);
        let faded = saturate(before * fades_in_nanos / (fades_in_nanos + over_nanos));
        self.bytes_per_second = seen.min(GROWTH_BYTES_PER_SECOND_MAX).max(faded);
        self.still_for = if grown_bytes > 0 { Duration::ZERO } else { self.still_for + over };
    }

    /// When to look again at a command that has `slack_bytes` left of its reservation: before it
    /// can have used them up.
    pub(super) fn next_look(self, slack_bytes: u64) -> Duration {
        if self.still_for >= STILL_AFTER {
            return LOOK_EVERY_MAX;
        }
        let expected_growth = self
            .bytes_per_second
            .saturating_mul(GROWTH_SAFETY)
            .clamp(GROWTH_BYTES_PER_SECOND_MIN, GROWTH_BYTES_PER_SECOND_MAX);
        let nanos = u128::from(slack_bytes) * 1_000_000_000 / u128::from(expected_growth);
        let until_full = Duration::from_nanos(saturate(nanos));
        until_full.clamp(LOOK_EVERY_MIN, LOOK_AT_GROWING_EVERY_MAX)
    }
}

fn saturate(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const TICK: Duration = Duration::from_millis(10);

    /// The pace of a command that was fresh and grew by these, each in one tick.
    fn after(growth: impl IntoIterator<Item = u64>) -> Pace {
        let mut pace = Pace::FRESH;
        for grown_bytes in growth {
            pace.observe(grown_bytes, TICK);
        }
        pace
    }

    /// As above, the time of its start long past.
    fn steadily(grown_bytes: u64) -> Pace {
        after(std::iter::repeat_n(grown_bytes, 100))
    }

    #[test]
    fn the_less_slack_a_fresh_command_has_the_sooner_it_is_looked_at() {
        assert_eq!(Pace::FRESH.next_look(u64::MAX), LOOK_AT_GROWING_EVERY_MAX);
        assert_eq!(Pace::FRESH.next_look(128 * MIB), Duration::from_nanos(31_250_000));
        assert_eq!(Pace::FRESH.next_look(0), LOOK_EVERY_MIN);
    }

    #[test]
    fn the_slower_it_grows_the_later_but_a_burst_is_always_reckoned_with() {
        // 100 MiB/s, times four for safety.
        assert_eq!(steadily(MIB).next_look(4 * MIB), TICK);
        // 4 KiB each: at the least rate that is expected.
        assert_eq!(steadily(4096).next_look(4 * MIB), Duration::from_nanos(15_625_000));
        assert_eq!(steadily(1 << 40).next_look(40 * MIB), Duration::from_nanos(9_765_625));
    }

    #[test]
    fn a_command_that_stands_still_is_looked_at_rarely() {
        assert_eq!(steadily(0).next_look(0), LOOK_EVERY_MAX);
    }

    // The bug of 2026-11: no command had grown in 1.4 ms, so the next look came after 100.
    #[test]
    fn one_that_waits_for_its_turn_is_not_taken_to_stand_still() {
        let fast = std::iter::repeat_n(10 * MIB, 100);
        let grew = steadily(10 * MIB);
        let waits = after(fast.clone().chain([0]));
        assert_eq!(grew.next_look(40 * MIB), TICK);
        assert!(waits.next_look(40 * MIB) < TICK * 5 / 4, "{waits:?}");
        // Nor after several turns of others, though it is hurried less.
        let waits = after(fast.chain([0; 20]));
        let wait = waits.next_look(4 * MIB);
        assert!(wait > TICK / 5 && wait < TICK, "{wait:?} {waits:?}");
    }

    #[test]
    fn it_counts_as_still_after_a_quarter_of_a_second_however_often_it_is_looked_at() {
        for ticks in [1, 5, 25] {
            let mut pace = steadily(MIB);
            let tick = TICK * 25 / ticks;
            for _ in 1..ticks {
                pace.observe(0, tick);
            }
            assert!(pace.next_look(MIB) < TICK, "{pace:?}");
            pace.observe(0, tick);
            assert_eq!(pace.next_look(MIB), LOOK_EVERY_MAX);
            pace.observe(1, tick);
            assert!(pace.next_look(MIB) < TICK, "{pace:?}");
        }
    }

    #[test]
    fn a_growth_seen_in_no_time_is_no_division_by_zero() {
        let mut pace = steadily(0);
        pace.observe(u64::MAX, Duration::ZERO);
        assert_eq!(pace.next_look(0), LOOK_EVERY_MIN);
    }
}
