//! The slow work, away from the lock that ticks are appended under: rows become blocks, blocks
//! become files and larger blocks, and old ones go.
//!
//! The order of the steps keeps what is on the medium whole at any moment. A file appears by a
//! rename when all of it has been written and synced. Blocks that were merged are removed after the
//! merged one is there for good; until then it hides them. Coarser tiers are written before the
//! finer rows they came from expire, and what a crash takes of them is derived again on opening.

use std::path::PathBuf;
use std::sync::Arc;

use super::block::Block;
use super::config::millis;
use super::disk::Lock;
use super::downsample::Downsampler;
use super::open::Finding;
use super::row::{Row, Rows};
use super::span::Span;
use super::{Store, lock, read, write};
use crate::codec::block::Descriptor;

/// What [`Store::maintain`] works with from one call to the next.
#[derive(Debug)]
pub(super) struct Pipeline {
    /// For every tier but the finest.
    pub(super) downsamplers: Vec<Downsampler>,
    /// For every tier, the number of its next block.
    pub(super) sequences: Vec<u64>,
    pub(super) flushed_ms: Option<i64>,
    /// Held on the directory; `None` if it could not be written.
    pub(super) dir_lock: Option<Lock>,
}

/// What a call of [`Store::maintain`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintained {
    /// Blocks written to files, merged ones included.
    pub blocks_written: usize,
    /// The sum of their lengths.
    pub bytes_written: u64,
    /// Blocks that were merged into others.
    pub blocks_merged: usize,
    /// Blocks removed because they were too old.
    pub blocks_expired: usize,
    /// Blocks removed to keep to a limit, before their time.
    pub blocks_dropped: usize,
    /// Files found damaged by a query since the last call, and set aside.
    pub findings: Vec<Finding>,
}

/// Why [`Store::maintain`] could not write. Nothing is lost yet: points stay in memory and the next
/// call tries again; beyond `memory_bytes_max` the oldest are dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// A file cannot be written or read.
    #[error("{}: {source}; {blocks_waiting} blocks wait in memory", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
        /// How many blocks are not in a file.
        blocks_waiting: usize,
    },
    /// The directory could not be written when it was opened, and belongs to somebody else by now.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

impl Store {
    /// Does what is due at `now_ms`: seals rows into blocks, writes, merges and removes files.
    ///
    /// To be called often, say every second, by a thread of the caller; it does nothing until the
    /// flush interval has passed or rows fill half of the memory limit. Then it takes about 100 ns
    /// for each point. Ticks and queries go on meanwhile.
    ///
    /// # Errors
    /// [`FlushError`] if files cannot be written; also counted in [`Store::stats`]. Whatever else
    /// was due is done.
    pub fn maintain(&self, now_ms: i64) -> Result<Maintained, FlushError> {
        self.run(now_ms, false)
    }

    /// Does all of [`Store::maintain`] at once, due or not: before the program ends.
    ///
    /// # Errors
    /// As [`Store::maintain`].
    pub fn flush(&self, now_ms: i64) -> Result<Maintained, FlushError> {
        self.run(now_ms, true)
    }

    fn run(&self, now_ms: i64, all: bool) -> Result<Maintained, FlushError> {
        let mut pipeline = lock(&self.pipeline);
        let mut done = Maintained::default();
        if !all && !self.is_due(&pipeline, now_ms) {
            return Ok(done);
        }
        pipeline.flushed_ms = Some(now_ms);
        let locked = self.take_lock(&mut pipeline);
        let may_write = locked.is_ok();
        if may_write {
            self.set_damaged_aside(&mut done);
        }
        self.seal(&mut pipeline, now_ms, all);
        let written = locked
            .and_then(|()| self.write_waiting(&mut done))
            .and_then(|()| self.merge_files(&mut done));
        let waiting_bytes =
            pipeline.downsamplers.iter().map(|downsampler| downsampler.waiting_bytes()).sum();
        self.expire(now_ms, waiting_bytes, may_write, &mut done);
        lock(&self.catalog).purge();
        let mut counts = lock(&self.counts);
        counts.flush_failures += u64::from(written.is_err());
        counts.waiting_bytes = waiting_bytes;
        counts.add(&done);
        written.map(|()| done)
    }

    fn is_due(&self, pipeline: &Pipeline, now_ms: i64) -> bool {
        let passed = match pipeline.flushed_ms {
            // A clock that went back says nothing about how long it has been.
            Some(flushed) if flushed <= now_ms => {
                now_ms.saturating_sub(flushed) >= millis(self.config.flush_interval)
            }
            _ => true,
        };
        let recording = lock(&self.recording);
        passed
            || recording.row_count() >= self.config.merge_rows
            || recording.bytes() >= self.config.memory_bytes_max / 2
    }

    /// Makes blocks of the newest rows, and of what coarser tiers have got by them.
    fn seal(&self, pipeline: &mut Pipeline, now_ms: i64, all: bool) {
        let (rows, mark) = lock(&self.recording).sealed(all);
        let blocks = self.blocks_of(pipeline, 0, &rows);
        {
            let mut shelves = write(&self.shelves);
            let gone = lock(&self.recording).forget(mark);
            blocks.into_iter().for_each(|block| shelves.tiers[0].insert(block));
            drop(shelves);
            drop(gone);
        }
        let mut finer = rows;
        for tier in 1..self.config.tiers.len() {
            pipeline.downsamplers[tier - 1].feed(&finer);
            finer = if all || self.is_tier_due(tier, &pipeline.downsamplers[tier - 1], now_ms) {
                pipeline.downsamplers[tier - 1].drain()
            } else {
                Rows::default()
            };
            let blocks = self.blocks_of(pipeline, tier, &finer);
            let mut shelves = write(&self.shelves);
            blocks.into_iter().for_each(|block| shelves.tiers[tier].insert(block));
        }
    }

    /// Whether rows of a tier have waited so long that those they come from may expire, or are so
    /// many that there is nothing to wait for.
    fn is_tier_due(&self, tier: usize, downsampler: &Downsampler, now_ms: i64) -> bool {
        let keep_ms = millis(self.config.tiers[tier - 1].keep);
        let Some(since_ms) = downsampler.waiting_since() else { return false };
        now_ms.saturating_sub(since_ms) >= keep_ms / 4
            || now_ms < since_ms
            || downsampler.waiting_rows() >= self.config.merge_rows
            || downsampler.waiting_bytes() >= self.config.memory_bytes_max / 8
    }

    fn blocks_of(&self, pipeline: &mut Pipeline, tier: usize, rows: &Rows) -> Vec<Arc<Block>> {
        let like = read(&self.shelves).tiers[tier].blocks.last().cloned();
        let mut blocks = Vec::new();
        for ascending in rows.ascending() {
            let descriptor = self.describe(tier, pipeline.sequences[tier], ascending);
            let Some(mut block) = Block::from_rows(ascending, &rows.table, descriptor) else {
                continue;
            };
            pipeline.sequences[tier] += 1;
            like.iter().for_each(|like| block.share_series(like));
            blocks.push(Arc::new(block));
        }
        blocks
    }

    fn describe(&self, tier: usize, sequence: u64, ascending: &[Arc<Row>]) -> Descriptor {
        let step_ms = millis(self.config.tiers[tier].step);
        let first_ms = ascending.first().map_or(0, |row| row.time_ms);
        let last_ms = ascending.last().map_or(0, |row| row.time_ms);
        let covers = match tier {
            0 => Span::new(first_ms, last_ms),
            _ => Downsampler::covers(step_ms, first_ms, last_ms),
        };
        Descriptor {
            step_ms: step_ms as u64,
            sequence_first: sequence,
            sequence_last: sequence,
            covers,
        }
    }
}
