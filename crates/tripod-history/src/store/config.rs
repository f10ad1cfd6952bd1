//! What a store is told when it is made.

use std::time::Duration;

/// One resolution of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// How far apart its points are. Of the finest tier it only says what to expect: every tick
    /// that is appended is kept there.
    pub step: Duration,
    /// How long points stay, by age; they may stay longer by the length of the block they are in.
    pub keep: Duration,
}

/// How a store keeps its points; [`Default`] says what each field is if nothing is said.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use tripod_history::{Store, StoreConfig};
/// let mut config = StoreConfig::default();
/// config.disk_bytes_max = 32 << 20;
/// config.flush_interval = Duration::from_secs(10);
/// let store = Store::in_memory(config)?;
/// # Ok::<(), tripod_history::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreConfig {
    /// Resolutions, the finest first. Default: 1 s for 15 min, 15 s for 24 h, 5 min for 30 d.
    pub tiers: Vec<Tier>,
    /// How often what was appended becomes a block, and in a directory a file: after a crash at
    /// most this much is missing. Default: 60 s.
    pub flush_interval: Duration,
    /// From how many rows on small blocks are merged into a large one. Default: 480.
    pub merge_rows: usize,
    /// How much the files may take; the oldest go first. Default: 256 MiB.
    pub disk_bytes_max: u64,
    /// How much memory points may take that are not in a file; the oldest go first, and if they are
    /// not in a block yet, ticks are refused. Default: 64 MiB.
    pub memory_bytes_max: usize,
    /// How many points one query may read. Default: 20,000,000.
    pub select_points_max: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let tier =
            |step, keep| Tier { step: Duration::from_secs(step), keep: Duration::from_secs(keep) };
        Self {
            tiers: vec![tier(1, 15 * 60), tier(15, 24 * 3600), tier(300, 30 * 24 * 3600)],
            flush_interval: Duration::from_secs(60),
            merge_rows: 480,
            disk_bytes_max: 256 << 20,
            memory_bytes_max: 64 << 20,
            select_points_max: 20_000_000,
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Nothing could be kept.
    #[error("a history needs at least one tier")]
    NoTiers,
    /// A step is too small, or not larger than the one before.
    #[error(
        "the step of tier {tier} is {step:?}; it must be at least 1 ms and more than the one before"
    )]
    Step {
        /// Which, from 0.
        tier: usize,
        /// Its step.
        step: Duration,
    },
    /// A tier forgets before the next one can be made of it.
    #[error("tier {tier} keeps points for {keep:?}, which is less than {needed:?}")]
    Keep {
        /// Which, from 0.
        tier: usize,
        /// How long it keeps points.
        keep: Duration,
        /// How long it has to: four steps of the next tier, or four flush intervals if that is more.
        needed: Duration,
    },
    /// A number that must not be zero is.
    #[error("{0} must be more than 0")]
    Zero(&'static str),
}

impl StoreConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.tiers.is_empty() {
            return Err(ConfigError::NoTiers);
        }
        if self.flush_interval.is_zero() {
            return Err(ConfigError::Zero("flush_interval"));
        }
        if self.merge_rows == 0 {
            return Err(ConfigError::Zero("merge_rows"));
        }
        let mut before = Duration::ZERO;
        for (number, tier) in self.tiers.iter().enumerate() {
            if tier.step <= before || tier.step < Duration::from_millis(1) {
                return Err(ConfigError::Step { tier: number, step: tier.step });
            }
            before = tier.step;
            let next = self.tiers.get(number + 1).map_or(Duration::ZERO, |next| next.step);
            let needed = 4 * next.max(self.flush_interval);
            if number + 1 < self.tiers.len() && tier.keep < needed {
                return Err(ConfigError::Keep { tier: number, keep: tier.keep, needed });
            }
        }
        Ok(())
    }
}

/// Whole milliseconds, for arithmetic on times.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
