//! What a store tells of itself.

use super::maintain::Maintained;
use super::{Store, lock, read};

/// Counts since the store was made, and sizes now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Ticks taken.
    pub ticks: u64,
    /// Points taken.
    pub samples: u64,
    /// Ticks refused: not after the one before, or over the memory limit.
    pub ticks_dropped: u64,
    /// Points left out because their series was retired.
    pub samples_of_retired: u64,
    /// How often the clock went back by more than a minute.
    pub clock_jumps: u64,
    /// Series registered now.
    pub columns: usize,
    /// Blocks now.
    pub blocks: usize,
    /// How much their files take now.
    pub disk_bytes: u64,
    /// How much points in memory take now.
    pub memory_bytes: usize,
    /// Files written, those of merged blocks included.
    pub blocks_written: u64,
    /// Blocks removed because of their age.
    pub blocks_expired: u64,
    /// Blocks removed to keep to a limit, before their time.
    pub blocks_dropped: u64,
    /// Files found damaged or unreadable.
    pub blocks_damaged: u64,
    /// Calls of `maintain` or `flush` that could not write.
    pub flush_failures: u64,
    /// Files that could not be removed; they come back when the directory is opened again.
    pub remove_failures: u64,
}

/// What is counted outside of the recording.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) blocks_written: u64,
    pub(super) blocks_expired: u64,
    pub(super) blocks_dropped: u64,
    pub(super) blocks_damaged: u64,
    pub(super) flush_failures: u64,
    pub(super) remove_failures: u64,
    /// How much the rows take that coarser tiers have not made blocks of.
    pub(super) waiting_bytes: usize,
}

impl Counts {
    pub(super) fn add(&mut self, done: &Maintained) {
        self.blocks_written += done.blocks_written as u64;
        self.blocks_expired += done.blocks_expired as u64;
        self.blocks_dropped += done.blocks_dropped as u64;
        self.blocks_damaged += done.findings.len() as u64;
    }
}

impl Store {
    /// Returns counts and sizes.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let shelves = read(&self.shelves);
        let recording = lock(&self.recording);
        let (seen, counts) = (recording.counts, *lock(&self.counts));
        let in_files = shelves.blocks().filter(|block| block.memory_bytes() == 0);
        let in_memory: usize = shelves.blocks().map(|block| block.memory_bytes()).sum();
        StoreStats {
            ticks: seen.ticks,
            samples: seen.samples,
            ticks_dropped: seen.ticks_dropped,
            samples_of_retired: seen.samples_of_retired,
            clock_jumps: seen.clock_jumps,
            columns: recording.columns(),
            blocks: shelves.blocks().count(),
            disk_bytes: in_files.map(|block| block.bytes).sum(),
            memory_bytes: recording.bytes() + in_memory + counts.waiting_bytes,
            blocks_written: counts.blocks_written,
            blocks_expired: counts.blocks_expired,
            blocks_dropped: counts.blocks_dropped,
            blocks_damaged: counts.blocks_damaged,
            flush_failures: counts.flush_failures,
            remove_failures: counts.remove_failures,
        }
    }
}
