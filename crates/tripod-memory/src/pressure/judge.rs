//! Turns numbers into a level that does not flicker.
//!
//! A state machine without a clock: up at once, down only after it has been calm for a while. The
//! thresholds stand in the table of [`PressureLevel`].

use std::time::{Duration, Instant};

use super::{Pressure, PressureLevel, Readings};

/// How long it must be calm before the level falls.
const CALM: Duration = Duration::from_secs(2);

/// From where on a level holds.
struct Bounds {
    /// Shares in use, of the budget and of the cgroup.
    moderate_share: f64,
    critical_share: f64,
    /// Averages in per cent.
    moderate_some: f64,
    critical_some: f64,
    critical_full: f64,
}

/// To enter a level.
const ENTER: Bounds = Bounds {
    moderate_share: 0.80,
    critical_share: 0.95,
    moderate_some: 10.0,
    critical_some: 40.0,
    critical_full: 10.0,
};

/// To stay in it.
const STAY: Bounds = Bounds {
    moderate_share: 0.70,
    critical_share: 0.90,
    moderate_some: 5.0,
    critical_some: 20.0,
    critical_full: 5.0,
};

/// Judges one reading after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Judge {
    level: PressureLevel,
    /// Since when the level has been above what the readings ask for.
    calm_since: Option<Instant>,
}

impl Judge {
    /// Judges what is the case at `now`. A limit of `u64::MAX` is none.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        used_bytes: u64,
        limit_bytes: u64,
        waiting: usize,
        readings: &Readings,
    ) -> Pressure {
        let budget_limit = Some(limit_bytes).filter(|&limit| limit != u64::MAX);
        let budget = share(used_bytes, budget_limit);
        let group = share(readings.cgroup_used_bytes.unwrap_or(0), readings.cgroup_limit_bytes);
        let level_by = |bounds: &Bounds| bounds.level(budget.max(group), waiting, readings);
        self.move_to(now, level_by(&ENTER), level_by(&STAY));
        Pressure { level: self.level, used_bytes, limit_bytes, waiting, readings: *readings }
    }

    /// Rises to `enter` at once, and falls to `stay` once that has been below for long enough.
    fn move_to(&mut self, now: Instant, enter: PressureLevel, stay: PressureLevel) {
        if enter >= self.level || stay >= self.level {
            self.level = self.level.max(enter);
            self.calm_since = None;
            return;
        }
        let since = *self.calm_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= CALM {
            self.level = stay;
            self.calm_since = None;
        }
    }
}

impl Bounds {
    fn level(&self, share: f64, waiting: usize, readings: &Readings) -> PressureLevel {
        let some = readings.psi_some_avg10.unwrap_or(0.0);
        let full = readings.psi_full_avg10.unwrap_or(0.0);
        let is_critical = share >= self.critical_share
            || some >= self.critical_some
            || full >= self.critical_full;
        let is_moderate = share >= self.moderate_share || some >= self.moderate_some || waiting > 0;
        match (is_critical, is_moderate) {
            (true, _) => PressureLevel::Critical,
            (false, true) => PressureLevel::Moderate,
            (false, false) => PressureLevel::None,
        }
    }
}

/// The share of a limit that is in use. Without one there is none; all of nothing is in use.
fn share(used: u64, limit: Option<u64>) -> f64 {
    match limit {
        None => 0.0,
        Some(0) => 1.0,
        Some(limit) => used as f64 / limit as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::PressureLevel::{Critical, Moderate, None as Enough};
    use super::*;

    /// A judge with a clock that it is told the time by.
    struct Bench {
        judge: Judge,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { judge: Judge::default(), now: Instant::now() }
        }

        /// Goes on by a second; the budget has 1000 bytes.
        #[track_caller]
        fn check(&mut self, used: u64, waiting: usize, readings: Readings, level: PressureLevel) {
            self.now += Duration::from_secs(1);
            let pressure = self.judge.judge(self.now, used, 1000, waiting, &readings);
            assert_eq!(pressure.level, level);
        }

        #[track_caller]
        fn check_used(&mut self, used: u64, level: PressureLevel) {
            self.check(used, 0, Readings::default(), level);
        }
    }

    fn first(used: u64, limit: u64, waiting: usize, readings: Readings) -> PressureLevel {
        Judge::default().judge(Instant::now(), used, limit, waiting, &readings).level
    }

    #[test]
    fn each_signal_alone_raises_the_level_at_its_threshold() {
        let quiet = Readings::default();
        for (used, level) in [(799, Enough), (800, Moderate), (949, Moderate), (950, Critical)] {
            assert_eq!(first(used, 1000, 0, quiet), level, "budget {used}");
            let readings =
                Readings { cgroup_used_bytes: Some(used), cgroup_limit_bytes: Some(1000), ..quiet };
            assert_eq!(first(0, 1000, 0, readings), level, "cgroup {used}");
        }
        for (some, level) in [(9.9, Enough), (10.0, Moderate), (39.9, Moderate), (40.0, Critical)] {
            let readings = Readings { psi_some_avg10: Some(some), ..quiet };
            assert_eq!(first(0, 1000, 0, readings), level, "some {some}");
        }
        for (full, level) in [(9.9, Enough), (10.0, Critical)] {
            let readings = Readings { psi_full_avg10: Some(full), ..quiet };
            assert_eq!(first(0, 1000, 0, readings), level, "full {full}");
        }
        assert_eq!(first(0, 1000, 1, quiet), Moderate);
    }

    #[test]
    fn without_a_limit_nothing_is_short_and_of_nothing_everything_is() {
        let quiet = Readings::default();
        assert_eq!(first(u64::MAX, u64::MAX, 0, quiet), Enough);
        assert_eq!(first(0, 0, 0, quiet), Critical);
        let unlimited = Readings { cgroup_used_bytes: Some(u64::MAX), ..quiet };
        assert_eq!(first(0, 1000, 0, unlimited), Enough);
    }

    #[test]
    fn a_level_is_left_below_its_lower_threshold_after_two_calm_seconds() {
        let mut bench = Bench::new();
        bench.check_used(950, Critical);
        bench.check_used(900, Critical);
        for _ in 0..10 {
            bench.check_used(901, Critical);
        }
        bench.check_used(899, Critical);
        bench.check_used(899, Critical);
        bench.check_used(899, Moderate);
        for _ in 0..10 {
            bench.check_used(701, Moderate);
        }
        bench.check_used(699, Moderate);
        bench.check_used(699, Moderate);
        bench.check_used(699, Enough);
        bench.check_used(799, Enough);
    }

    #[test]
    fn the_calm_must_be_unbroken() {
        let mut bench = Bench::new();
        bench.check_used(1000, Critical);
        for _ in 0..10 {
            bench.check_used(0, Critical);
            bench.check_used(0, Critical);
            bench.check_used(920, Critical);
        }
        bench.check_used(0, Critical);
        bench.check_used(0, Critical);
        bench.check_used(0, Enough);
    }

    #[test]
    fn who_waits_in_line_keeps_the_level_and_falls_no_deeper_than_that() {
        let mut bench = Bench::new();
        let quiet = Readings::default();
        bench.check(960, 3, quiet, Critical);
        bench.check(100, 3, quiet, Critical);
        bench.check(100, 3, quiet, Critical);
        bench.check(100, 1, quiet, Moderate);
        bench.check(100, 1, quiet, Moderate);
        bench.check(100, 0, quiet, Moderate);
        bench.check(100, 0, quiet, Moderate);
        bench.check(100, 0, quiet, Enough);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_end_the_calm_early() {
        let mut judge = Judge::default();
        let start = Instant::now() + Duration::from_secs(100);
        let mut level_at = |now, used| judge.judge(now, used, 1000, 0, &Readings::default()).level;
        assert_eq!(level_at(start, 1000), Critical);
        assert_eq!(level_at(start, 0), Critical);
        assert_eq!(level_at(start - Duration::from_secs(50), 0), Critical);
        assert_eq!(level_at(start + CALM, 0), Enough);
    }
}
