//! A store of time series: what was appended comes back, from memory and from files.
//!
//! What it guarantees:
//! - a point is given back bit by bit, at its own time, or not at all: what is damaged is told by its
//!   checksum, set aside and reported;
//! - after a crash what is missing is at most what was appended since the last flush, and every file
//!   is whole;
//! - appending waits for no file and no compression, and goes on in memory when nothing can be written;
//! - files and memory keep to their limits.
//!
//! Where it stops: it has no thread and no clock. Its owner appends ticks and calls
//! [`Store::maintain`]. Why it is built as it is, with figures: `docs/design/history.md`.
//!
//! Locks, in the order in which they are taken: `pipeline` (for the whole of a `maintain`),
//! `shelves`, `recording`, then `catalog` or `counts`. Files are read and written under `pipeline`
//! only.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

mod block;
mod column;
mod config;
mod disk;
mod downsample;
mod files;
mod maintain;
mod merge;
mod open;
mod recording;
mod row;
mod select;
mod shelves;
mod span;
mod stats;

use column::Catalog;
pub use column::{ColumnId, ColumnKind};
pub use config::{ConfigError, StoreConfig, Tier};
use disk::{Disk, RealDisk};
use maintain::Pipeline;
pub use maintain::{FlushError, Maintained};
use open::Opened;
pub use open::{Finding, OpenError};
pub use recording::AppendError;
use recording::Recording;
use shelves::Shelves;
pub(crate) use span::Span;
use stats::Counts;
pub use stats::StoreStats;

use crate::labels::Labels;

/// A store of time series, to be shared between threads by reference or [`Arc`].
///
/// # Examples
/// ```
/// # use tripod_history::{ColumnKind, Labels, Source, Store, StoreConfig};
/// let store = Store::in_memory(StoreConfig::default())?;
/// let requests = Labels::new([("__name__", "requests_total")]);
/// let column = store.column(&requests, ColumnKind::Cumulative);
/// for second in 1..=90 {
///     store.append(second * 1000, &[(column, second as f64 * 7.0)])?;
/// }
/// store.maintain(90_000)?;
/// let series = store.select(&[], 31_000, 60_000, 0)?;
/// assert_eq!((series[0].points.len(), series[0].points[0].value), (30, 217.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Store {
    config: StoreConfig,
    dir: Option<PathBuf>,
    disk: Arc<dyn Disk>,
    recording: Mutex<Recording>,
    shelves: RwLock<Shelves>,
    pipeline: Mutex<Pipeline>,
    catalog: Mutex<Catalog>,
    counts: Mutex<Counts>,
}

impl Store {
    /// Makes a store without files.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration makes no sense.
    pub fn in_memory(config: StoreConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let shelves = open::empty_shelves(&config);
        let opened = Opened {
            downsamplers: open::downsamplers(&shelves),
            sequences: vec![1; shelves.tiers.len()],
            shelves,
            catalog: Catalog::default(),
            dir_lock: None,
            findings: Vec::new(),
            damaged: 0,
        };
        Ok(Self::new(config, None, Arc::new(RealDisk), opened, None))
    }

    /// Opens the history in a directory, which is made if there is none, and reports what is wrong
    /// with it. Reads and checks every file once.
    ///
    /// A directory that cannot be written is a finding and no error: its history is served, and
    /// ticks are kept in memory. So is a damaged file: it is renamed to `*.damaged`.
    ///
    /// # Errors
    /// [`OpenError`] if the configuration makes no sense, the directory is in use by another process
    /// or cannot be read, or a newer version of the format is found in it.
    pub fn open(
        dir: &Path,
        config: StoreConfig,
        now_ms: i64,
    ) -> Result<(Self, Vec<Finding>), OpenError> {
        Self::open_on(Arc::new(RealDisk), dir, config, now_ms)
    }

    fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: StoreConfig,
        now_ms: i64,
    ) -> Result<(Self, Vec<Finding>), OpenError> {
        config.check()?;
        let mut opened = open::open(dir, &config, &*disk)?;
        let findings = std::mem::take(&mut opened.findings);
        let store = Self::new(config, Some(dir.to_owned()), disk, opened, Some(now_ms));
        Ok((store, findings))
    }

    fn new(
        config: StoreConfig,
        dir: Option<PathBuf>,
        disk: Arc<dyn Disk>,
        opened: Opened,
        flushed_ms: Option<i64>,
    ) -> Self {
        let Opened { shelves, catalog, downsamplers, sequences, dir_lock, damaged, .. } = opened;
        let pipeline = Pipeline { downsamplers, sequences, flushed_ms, dir_lock };
        Self {
            config,
            dir,
            disk,
            recording: Mutex::default(),
            shelves: RwLock::new(shelves),
            pipeline: Mutex::new(pipeline),
            catalog: Mutex::new(catalog),
            counts: Mutex::new(Counts { blocks_damaged: damaged, ..Counts::default() }),
        }
    }

    /// Registers a series, or finds the one that is registered with these labels; its kind then
    /// stays what it was. What an earlier run has stored under the labels is the same series.
    pub fn column(&self, labels: &Labels, kind: ColumnKind) -> ColumnId {
        let mut recording = lock(&self.recording);
        let labels = lock(&self.catalog).intern(labels.clone());
        recording.column(labels, kind)
    }

    /// Appends one tick: values of some or all series at the same time. Of several values for a
    /// series the last counts; a series that is left out has no point there.
    ///
    /// Takes a few nanoseconds for each value, and a lock that is held by nobody for longer than
    /// that takes. Values for a retired series are left out and counted.
    ///
    /// Time has to go on from tick to tick. A tick that is up to a minute behind is refused and
    /// counted; after a larger jump back recording goes on there, and hides what was recorded
    /// before for the same time.
    ///
    /// # Errors
    /// [`AppendError`] says why the tick is not in the store.
    pub fn append(&self, time_ms: i64, points: &[(ColumnId, f64)]) -> Result<(), AppendError> {
        lock(&self.recording).append(time_ms, points, self.config.memory_bytes_max)
    }

    /// Ends a series: a stale marker follows its last point, and `column` means nothing any more.
    ///
    /// The marker stands at `time_ms`, or 1 ms after the newest tick if that is later. Series that
    /// are retired between two ticks share the marker's time of the first of them. Does nothing if
    /// the series was retired before. Its history stays, and it can be registered again.
    pub fn retire(&self, column: ColumnId, time_ms: i64) {
        lock(&self.recording).retire(column, time_ms);
    }
}

/// A panic while a lock was held leaves nothing half done that matters more than going on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
