//! The files of a store: how a block gets into one, and how files go.
//!
//! Every file operation is done without a lock that ticks or queries need; what changed is then
//! published under it.

use std::collections::HashSet;
use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::block::{Block, ReadError};
use super::maintain::{FlushError, Maintained, Pipeline};
use super::open::{Finding, LOCK_NAME, set_aside};
use super::{Store, lock, merge, read, write};

impl Store {
    /// Makes up for a lock that could not be had when the directory was opened.
    pub(super) fn take_lock(&self, pipeline: &mut Pipeline) -> Result<(), FlushError> {
        let Some(dir) = self.dir.as_ref().filter(|_| pipeline.dir_lock.is_none()) else {
            return Ok(());
        };
        let path = dir.join(LOCK_NAME);
        let locked = match self.disk.create_dir(dir) {
            Ok(()) => self.disk.lock(&path),
            Err(error) => Err(TryLockError::Error(error)),
        };
        let blocks_waiting = self.waiting().len();
        pipeline.dir_lock = Some(locked.map_err(|error| match error {
            TryLockError::WouldBlock => FlushError::InUse { path: dir.clone() },
            TryLockError::Error(source) => FlushError::Io { path, source, blocks_waiting },
        })?);
        Ok(())
    }

    /// Writes every block that is in memory, if there is a directory.
    pub(super) fn write_waiting(&self, done: &mut Maintained) -> Result<(), FlushError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let waiting = self.waiting();
        for (number, block) in waiting.iter().enumerate() {
            let left = waiting.len() - number;
            self.write_block(dir, block, done).map_err(|source| FlushError::Io {
                path: dir.join(block.file_name()),
                source,
                blocks_waiting: left,
            })?;
        }
        Ok(())
    }

    fn waiting(&self) -> Vec<Arc<Block>> {
        let shelves = read(&self.shelves);
        shelves.blocks().filter(|block| block.memory_bytes() > 0).cloned().collect()
    }

    /// Puts a block into its file, whole or not at all.
    fn write_block(&self, dir: &Path, block: &Block, done: &mut Maintained) -> io::Result<()> {
        let Some(bytes) = block.memory() else { return Ok(()) };
        let path = dir.join(block.file_name());
        let temporary = path.with_extension("tmp");
        let written = self
            .disk
            .write(&temporary, &bytes)
            .and_then(|()| self.disk.rename(&temporary, &path))
            .and_then(|()| self.disk.sync_dir(dir));
        if let Err(error) = written {
            // Of a full disk every byte counts; what stays is removed on the next opening.
            let _ = self.disk.remove(&temporary);
            return Err(error);
        }
        block.moved_to(&path);
        done.blocks_written += 1;
        done.bytes_written += bytes.len() as u64;
        Ok(())
    }

    /// Merges small blocks on every shelf, as long as there are enough of them.
    pub(super) fn merge_files(&self, done: &mut Maintained) -> Result<(), FlushError> {
        for tier in 0..self.config.tiers.len() {
            loop {
                let group = {
                    let shelves = read(&self.shelves);
                    merge::group(&shelves.tiers[tier].blocks, self.config.merge_rows)
                };
                let Some(group) = group else { break };
                if !self.merge_group(tier, &group, done)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Merges some blocks; false if one of them is damaged.
    fn merge_group(
        &self,
        tier: usize,
        group: &[Arc<Block>],
        done: &mut Maintained,
    ) -> Result<bool, FlushError> {
        let mut merged = match merge::merge(&*self.disk, group) {
            Ok(merged) => merged,
            Err(ReadError::Damaged) => return Ok(false),
            Err(ReadError::Io(path, source)) => {
                return Err(FlushError::Io { path, source, blocks_waiting: 0 });
            }
        };
        let before = read(&self.shelves).tiers[tier].blocks.first().cloned();
        before.iter().for_each(|before| merged.share_series(before));
        if let Some(dir) = &self.dir {
            // If that fails, the small blocks stay.
            self.write_block(dir, &merged, done).map_err(|source| FlushError::Io {
                path: dir.join(merged.file_name()),
                source,
                blocks_waiting: 0,
            })?;
        }
        self.remove(group, Some((tier, Arc::new(merged))));
        done.blocks_merged += group.len();
        Ok(true)
    }

    /// Takes blocks off their shelves, puts another one there, and then removes their files.
    fn remove(&self, blocks: &[Arc<Block>], instead: Option<(usize, Arc<Block>)>) {
        let gone: HashSet<_> = blocks.iter().map(Arc::as_ptr).collect();
        {
            let mut shelves = write(&self.shelves);
            for shelf in &mut shelves.tiers {
                shelf.blocks.retain(|block| !gone.contains(&Arc::as_ptr(block)));
            }
            if let Some((tier, block)) = instead {
                shelves.tiers[tier].insert(block);
            }
        }
        let failures = blocks
            .iter()
            .filter_map(|block| block.file())
            .filter(|path| self.disk.remove(path).is_err())
            .count();
        lock(&self.counts).remove_failures += failures as u64;
    }

    /// Removes blocks by age, and the oldest beyond the limits. `waiting_bytes` are taken in memory
    /// by rows without a block. Files stay unless they may be written: they could be another's.
    pub(super) fn expire(
        &self,
        now_ms: i64,
        waiting_bytes: usize,
        may_write: bool,
        done: &mut Maintained,
    ) {
        let (mut old, mut rest) = (Vec::new(), Vec::new());
        for shelf in &read(&self.shelves).tiers {
            let oldest_ms = now_ms.saturating_sub(shelf.keep_ms);
            let mine = shelf.blocks.iter().filter(|block| may_write || block.memory_bytes() > 0);
            for block in mine {
                let list = if block.span().to_ms < oldest_ms { &mut old } else { &mut rest };
                list.push(Arc::clone(block));
            }
        }
        let excess = self.excess(rest, waiting_bytes);
        done.blocks_expired += old.len();
        done.blocks_dropped += excess.len();
        self.remove(&[old, excess].concat(), None);
    }

    /// The oldest blocks, so many that the others keep to the limits.
    fn excess(&self, mut blocks: Vec<Arc<Block>>, waiting_bytes: usize) -> Vec<Arc<Block>> {
        blocks.sort_by_key(|block| block.span().to_ms);
        let total: usize = blocks.iter().map(|block| block.memory_bytes()).sum();
        let mut memory_over = (total + waiting_bytes).saturating_sub(self.config.memory_bytes_max);
        let total: u64 = blocks.iter().map(|block| block.bytes).sum();
        let disk_over = total.saturating_sub(self.config.disk_bytes_max);
        let mut disk_over = if self.dir.is_some() { disk_over } else { 0 };
        blocks.retain(|block| {
            let memory = block.memory_bytes();
            let excess = disk_over > 0 || (memory > 0 && memory_over > 0);
            if excess {
                memory_over = memory_over.saturating_sub(memory);
                disk_over = disk_over.saturating_sub(block.bytes);
            }
            excess
        });
        blocks
    }

    /// Sets aside the files that queries found damaged.
    pub(super) fn set_damaged_aside(&self, done: &mut Maintained) {
        let damaged: Vec<_> = {
            let mut shelves = write(&self.shelves);
            let damaged = shelves.blocks().filter(|block| block.is_damaged()).cloned().collect();
            for shelf in &mut shelves.tiers {
                shelf.blocks.retain(|block| !block.is_damaged());
            }
            damaged
        };
        for block in damaged {
            let why = "it is not as it was when it was opened".to_owned();
            done.findings.push(match block.file() {
                Some(path) => set_aside(&*self.disk, &path, why),
                None => Finding { path: block.file_name().into(), set_aside: None, why },
            });
        }
    }
}
