//! Finding again what is in a directory.
//!
//! Every byte of every file is checked. A file that is damaged is renamed, so that nothing reads it
//! again and a person can look at it; the rest is served. What coarser tiers lack, because they are
//! written less often, is derived again from the finer ones.

use std::fmt;
use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::{Block, ReadError};
use super::column::{Catalog, Column};
use super::config::{ConfigError, StoreConfig};
use super::disk::{Disk, Lock};
use super::downsample::Downsampler;
use super::shelves::{Shelf, Shelves};
use crate::codec::BlockError;
use crate::codec::block::{Parsed, VERSION};

pub(super) const LOCK_NAME: &str = "lock";
/// Longer than any file gets.
const WHOLE: std::ops::Range<u64> = 0..u64::MAX;

/// Something that was wrong with a file. The store does without it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The file, as it was called.
    pub path: PathBuf,
    /// What it is called now; `None` if it was left as it is.
    pub set_aside: Option<PathBuf>,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)?;
        match &self.set_aside {
            Some(path) => write!(f, "; set aside as {}", path.display()),
            None => Ok(()),
        }
    }
}

/// Why [`Store::open`](super::Store::open) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process, or another store of this one, has it.
    #[error("the history in {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A newer version of the program has written there.
    #[error(
        "{} has format version {version}, and this program knows up to {VERSION}: \
         use a newer one, or another directory", path.display()
    )]
    Newer {
        /// The first such file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// The directory cannot be read.
    #[error("the history in {} cannot be opened: {source}", path.display())]
    Io {
        /// The directory or the file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What was found in a directory.
pub(super) struct Opened {
    pub(super) shelves: Shelves,
    pub(super) catalog: Catalog,
    pub(super) downsamplers: Vec<Downsampler>,
    pub(super) sequences: Vec<u64>,
    pub(super) dir_lock: Option<Lock>,
    pub(super) findings: Vec<Finding>,
    /// Files set aside or left out.
    pub(super) damaged: u64,
}

/// Opens a directory, which is made if there is none.
pub(super) fn open(dir: &Path, config: &StoreConfig, disk: &dyn Disk) -> Result<Opened, OpenError> {
    let mut findings = Vec::new();
    let dir_lock = lock_dir(dir, disk, &mut findings)?;
    let mut catalog = Catalog::default();
    let mut shelves = empty_shelves(config);
    let unlocked = findings.len();
    for path in list(dir, disk)? {
        match path.extension().and_then(|extension| extension.to_str()) {
            // Only a write that did not come to its end leaves one.
            Some("tmp") if dir_lock.is_some() => drop(disk.remove(&path)),
            Some("block") => match load(&path, disk, &mut catalog) {
                Ok(block) => shelve(&mut shelves, block),
                Err(LoadError::Newer(version)) => return Err(OpenError::Newer { path, version }),
                Err(LoadError::Damaged(why)) if dir_lock.is_some() => {
                    findings.push(set_aside(disk, &path, why));
                }
                Err(LoadError::Damaged(why) | LoadError::Unreadable(why)) => {
                    findings.push(Finding { path, set_aside: None, why });
                }
            },
            _ => {}
        }
    }
    remove_merged(&mut shelves, dir_lock.as_ref().map(|_| disk));
    shelves.tiers.iter_mut().for_each(share_series);
    let damaged = (findings.len() - unlocked) as u64;
    // Without the lock another process may write blocks meanwhile, with the numbers that come next.
    let ahead = if dir_lock.is_some() { 0 } else { 1 << 32 };
    let sequences = shelves.tiers.iter().map(|shelf| next_sequence(shelf) + ahead).collect();
    let downsamplers = derive_again(&shelves, config, disk);
    Ok(Opened { shelves, catalog, downsamplers, sequences, dir_lock, findings, damaged })
}

pub(super) fn empty_shelves(config: &StoreConfig) -> Shelves {
    let shelf = |tier: &super::Tier| Shelf {
        step_ms: super::config::millis(tier.step),
        keep_ms: super::config::millis(tier.keep),
        blocks: Vec::new(),
    };
    Shelves { tiers: config.tiers.iter().map(shelf).collect() }
}

pub(super) fn downsamplers(shelves: &Shelves) -> Vec<Downsampler> {
    shelves.tiers.iter().skip(1).map(|shelf| Downsampler::new(shelf.step_ms)).collect()
}

/// Locks the directory. One that cannot be written is no error: its history can be read.
fn lock_dir(
    dir: &Path,
    disk: &dyn Disk,
    findings: &mut Vec<Finding>,
) -> Result<Option<Lock>, OpenError> {
    let locked = match disk.create_dir(dir) {
        Ok(()) => disk.lock(&dir.join(LOCK_NAME)),
        Err(error) => Err(TryLockError::Error(error)),
    };
    match locked {
        Ok(lock) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: dir.to_owned() }),
        Err(TryLockError::Error(error)) if is_unwritable(&error) => {
            let why = format!("{error}; points are kept in memory only until it can be written");
            findings.push(Finding { path: dir.to_owned(), set_aside: None, why });
            Ok(None)
        }
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path: dir.to_owned(), source }),
    }
}

fn is_unwritable(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
    )
}

fn list(dir: &Path, disk: &dyn Disk) -> Result<Vec<PathBuf>, OpenError> {
    match disk.list(dir) {
        Ok(mut names) => {
            names.sort();
            Ok(names.iter().map(|name| dir.join(name)).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(OpenError::Io { path: dir.to_owned(), source }),
    }
}

enum LoadError {
    Newer(u16),
    Damaged(String),
    Unreadable(String),
}

fn load(path: &Path, disk: &dyn Disk, catalog: &mut Catalog) -> Result<Block, LoadError> {
    let bytes = disk.read(path, WHOLE).map_err(|error| LoadError::Unreadable(error.to_string()))?;
    let parsed = Parsed::new(&bytes).map_err(|error| match error {
        BlockError::Newer { version } => LoadError::Newer(version),
        error => LoadError::Damaged(error.to_string()),
    })?;
    let columns = parsed
        .series
        .into_iter()
        .map(|(labels, kind)| Column { labels: catalog.intern(labels), kind });
    let (series, path) = (columns.collect(), path.to_owned());
    let len = bytes.len() as u64;
    Ok(Block::in_file(parsed.descriptor, parsed.times, series, parsed.extents, path, len))
}

/// Renames a file so that it is not read again; the finding says whether that was possible.
pub(super) fn set_aside(disk: &dyn Disk, path: &Path, why: String) -> Finding {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    let aside = PathBuf::from(name);
    let set_aside = disk.rename(path, &aside).ok().map(|()| aside);
    Finding { path: path.to_owned(), set_aside, why }
}

/// Puts a block to the coarsest tier that is not coarser; tiers may have been configured anew.
fn shelve(shelves: &mut Shelves, block: Block) {
    let step_ms = i64::try_from(block.descriptor.step_ms).unwrap_or(i64::MAX);
    let tier = shelves.tiers.iter().rposition(|shelf| shelf.step_ms <= step_ms).unwrap_or(0);
    shelves.tiers[tier].insert(Arc::new(block));
}

/// Removes blocks that a crash has left beside the one they were merged into, and if there is a disk
/// that may be written, their files.
fn remove_merged(shelves: &mut Shelves, disk: Option<&dyn Disk>) {
    for shelf in &mut shelves.tiers {
        let all = shelf.blocks.clone();
        shelf.blocks.retain(|block| {
            let merged = all.iter().any(|other| other.contains(block));
            if merged && let (Some(disk), Some(path)) = (disk, block.file()) {
                // If it stays, the next opening finds it again.
                let _ = disk.remove(&path);
            }
            !merged
        });
    }
}

/// Lets neighbouring blocks share their lists of series, which are mostly the same.
fn share_series(shelf: &mut Shelf) {
    for next in 1..shelf.blocks.len() {
        let (front, back) = shelf.blocks.split_at_mut(next);
        if let (Some(before), Some(block)) = (front.last(), Arc::get_mut(&mut back[0])) {
            block.share_series(before);
        }
    }
}

fn next_sequence(shelf: &Shelf) -> u64 {
    shelf.blocks.iter().map(|block| block.descriptor.sequence_last + 1).max().unwrap_or(1)
}

/// Feeds each tier what the finer one has and it has not.
fn derive_again(shelves: &Shelves, config: &StoreConfig, disk: &dyn Disk) -> Vec<Downsampler> {
    let mut downsamplers = downsamplers(shelves);
    for tier in 1..config.tiers.len() {
        let known = shelves.tiers[tier].blocks.last();
        let known_ms = known.map_or(i64::MIN, |block| block.descriptor.covers.to_ms);
        for block in newest_stretch(&shelves.tiers[tier - 1], known_ms) {
            match block.rows(disk, known_ms) {
                Ok(rows) => downsamplers[tier - 1].feed(&rows),
                // Damage is flagged, and dealt with by the next `maintain`.
                Err(ReadError::Damaged | ReadError::Io(..)) => {}
            }
        }
    }
    downsamplers
}

/// The last blocks between which time never went back, without those before `after_ms`.
fn newest_stretch(shelf: &Shelf, after_ms: i64) -> &[Arc<Block>] {
    let blocks = &shelf.blocks;
    let mut first = blocks.len();
    while first > 0
        && blocks[first - 1].span().to_ms > after_ms
        && blocks.get(first).is_none_or(|next| blocks[first - 1].span().to_ms < next.span().from_ms)
    {
        first -= 1;
    }
    &blocks[first..]
}
