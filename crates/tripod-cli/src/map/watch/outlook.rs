//! When to look at the commands again: the sooner the closer a growing one is to its reservation.

use std::time::Duration;

/// The longest and shortest time between two looks; the shortest is what the timer can do.
pub(super) const LOOK_EVERY_MAX: Duration = Duration::from_millis(100);
const LOOK_EVERY_MIN: Duration = Duration::from_millis(1);
/// A command this young is expected to grow; it is looked at no later than after a fifth of that.
const YOUNG: Duration = Duration::from_millis(250);
/// The growth that is reckoned with: at most about what one processor can touch, at least enough
/// for one that begins to grow, and in between four times what was seen.
const GROWTH_BYTES_PER_SECOND_MAX: u64 = 4 << 30;
const GROWTH_BYTES_PER_SECOND_MIN: u64 = 256 << 20;
const GROWTH_SAFETY: u64 = 4;

/// What the time of the next look depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outlook {
    pub(super) age: Duration,
    /// How much it can grow within its reservation.
    pub(super) slack_bytes: u64,
    /// How fast it grew since the look before.
    pub(super) growth_bytes_per_second: u64,
}

impl Outlook {
    /// When to look again: before the command can have used up its reservation.
    fn next_look(self) -> Duration {
        let is_young = self.age < YOUNG;
        if !is_young && self.growth_bytes_per_second == 0 {
            return LOOK_EVERY_MAX;
        }
        let expected_growth = match is_young {
            true => GROWTH_BYTES_PER_SECOND_MAX,
            false => self
                .growth_bytes_per_second
                .saturating_mul(GROWTH_SAFETY)
                .clamp(GROWTH_BYTES_PER_SECOND_MIN, GROWTH_BYTES_PER_SECOND_MAX),
        };
        let nanos = u128::from(self.slack_bytes) * 1_000_000_000 / u128::from(expected_growth);
        let until_full = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let latest = if is_young { YOUNG / 5 } else { LOOK_EVERY_MAX };
        until_full.clamp(LOOK_EVERY_MIN, latest)
    }
}

/// The earliest of the times that the commands ask for; `None` when there are none.
pub(super) fn next_look(outlooks: impl Iterator<Item = Outlook>) -> Option<Duration> {
    outlooks.map(Outlook::next_look).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Duration = Duration::from_secs(10);
    const FAST: u64 = GROWTH_BYTES_PER_SECOND_MAX;

    fn after(age: Duration, slack_bytes: u64, growth_bytes_per_second: u64) -> Duration {
        Outlook { age, slack_bytes, growth_bytes_per_second }.next_look()
    }

    #[test]
    fn nothing_running_needs_no_look() {
        assert_eq!(next_look(std::iter::empty()), None);
    }

    #[test]
    fn a_command_that_stands_still_is_looked_at_rarely() {
        assert_eq!(after(OLD, 0, 0), LOOK_EVERY_MAX);
    }

    #[test]
    fn the_less_slack_a_growing_command_has_the_sooner_it_is_looked_at() {
        assert_eq!(after(OLD, u64::MAX, FAST), LOOK_EVERY_MAX);
        assert_eq!(after(OLD, 1 << 27, FAST), Duration::from_nanos(31_250_000));
        assert_eq!(after(OLD, 0, FAST), LOOK_EVERY_MIN);
    }

    #[test]
    fn the_slower_it_grows_the_later() {
        assert_eq!(after(OLD, 1 << 24, 1), Duration::from_nanos(62_500_000));
        assert_eq!(after(OLD, 1 << 24, 128 << 20), Duration::from_nanos(31_250_000));
    }

    #[test]
    fn a_young_command_is_expected_to_grow_and_the_most_urgent_one_decides() {
        assert_eq!(after(Duration::ZERO, u64::MAX, 0), YOUNG / 5);
        let outlook =
            |slack_bytes| Outlook { age: OLD, slack_bytes, growth_bytes_per_second: FAST };
        let outlooks = [outlook(u64::MAX), outlook(1 << 20), outlook(1 << 30)];
        assert_eq!(next_look(outlooks.into_iter()), Some(LOOK_EVERY_MIN));
    }
}
