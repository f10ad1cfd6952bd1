//! What a thread remembers of label values, so that looking them up again takes no lock.
//!
//! A cache has room for 512 label sets. An entry is right for as long as its family is of the
//! generation in which it was found; a family enters a new one when a series of it is about to be
//! removed. Values are compared in full, never only by hash.
//!
//! In families that remove idle series, a thread says in its [`Busy`] flag that it is about to write
//! to a series that it remembers. The one who removes first starts a new generation and then looks
//! at the flags; so either the thread sees the new generation, or it is seen and waited for. Both
//! sides put a `SeqCst` fence between their store and their load.

mod key;
mod thread;

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use self::key::{Key, Remembered};
use super::values::OwnedCell;

/// Sets of label sets whose hashes end alike.
const SETS: usize = 128;
/// Label sets of a set; with 16 bytes for each, a set is a cache line.
const WAYS: usize = 4;

/// Whether a thread is writing to a series that it remembers.
#[derive(Debug, Default)]
struct Busy(AtomicBool);

/// The flags of all threads that have a cache.
static BUSY: Mutex<Vec<Weak<Busy>>> = Mutex::new(Vec::new());

fn flags() -> MutexGuard<'static, Vec<Weak<Busy>>> {
    BUSY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which family, in which state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family<'a> {
    pub(super) id: u64,
    pub(super) generation: &'a AtomicU64,
    /// Whether idle series are removed.
    pub(super) removes: bool,
}

/// The memory of one thread.
struct Cache {
    seed: u64,
    sets: Box<[[Place; WAYS]]>,
    busy: Arc<Busy>,
}

/// One label set, or room for one.
#[derive(Default)]
struct Place {
    hash: u64,
    entry: Option<Box<Entry>>,
}

struct Entry {
    family: u64,
    generation: u64,
    values: Remembered,
    cell: OwnedCell,
}

/// Runs `write` on the cell of these values if this thread remembers it.
///
/// Hands `write` back where it does not.
#[inline]
pub(super) fn with_remembered<F: FnOnce(&OwnedCell)>(
    family: Family<'_>,
    values: &[&str],
    write: F,
) -> Result<(), F> {
    let mut write = Some(write);
    thread::with_cache(|cache| {
        let key = Key::new(cache.seed ^ family.id, values);
        let Some(entry) = cache.find(family.id, &key, values) else { return };
        if family.removes {
            cache.busy.0.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
        let is_right = family.generation.load(Ordering::Acquire) == entry.generation;
        // Where a removal must not come in between; a test that never stops here would miss it.
        #[cfg(all(test, not(loom)))]
        if family.removes {
            std::thread::yield_now();
        }
        // It is there: this is the only place that takes it.
        if is_right && let Some(write) = write.take() {
            write(&entry.cell);
        }
        if family.removes {
            cache.busy.0.store(false, Ordering::Release);
        }
    });
    write.map_or(Ok(()), Err)
}

/// Remembers a cell that was found while the family was of `generation`.
pub(super) fn remember(family: u64, generation: u64, values: &[&str], cell: OwnedCell) {
    // What is forgotten is dropped when the cache is not borrowed any more.
    let _forgotten = thread::with_own_cache(|cache| {
        let key = Key::new(cache.seed ^ family, values);
        let set = &mut cache.sets[key.hash() as usize % SETS];
        let is_same = |place: &Place| place.leads_to(family, &key, values).is_some();
        let place = set.iter().position(|place| place.entry.is_none() || is_same(place));
        // The newest stands first, so the last is the one that was found longest ago.
        set[..=place.unwrap_or(WAYS - 1)].rotate_right(1);
        let entry = Entry { family, generation, values: key.remember(values), cell };
        std::mem::replace(&mut set[0], Place { hash: key.hash(), entry: Some(Box::new(entry)) })
    });
}

/// Whether no thread writes to a series that it found in an earlier generation.
///
/// To be asked after the new generation was begun. Tries for a moment; false if a thread is off the
/// processor in the midst of it.
pub(super) fn is_nobody_busy() -> bool {
    const TRIES: u32 = 100;
    // Pairs with the fence of `with_remembered`.
    fence(Ordering::SeqCst);
    let flags: Vec<Arc<Busy>> = {
        let mut busy = flags();
        busy.retain(|flag| flag.strong_count() > 0);
        busy.iter().filter_map(Weak::upgrade).collect()
    };
    flags.iter().all(|flag| {
        // One look at an idle flag is enough: what the thread begins later sees the generation.
        (0..TRIES).any(|_| {
            let is_idle = !flag.0.load(Ordering::Acquire);
            if !is_idle {
                std::thread::yield_now();
            }
            is_idle
        })
    })
}

impl Cache {
    fn new() -> Self {
        let busy = Arc::new(Busy::default());
        flags().push(Arc::downgrade(&busy));
        let sets = std::iter::repeat_with(Default::default).take(SETS).collect();
        // Who chooses label values is not to choose which of them push each other out.
        let seed = foldhash::fast::RandomState::default().hash_one(0_u64);
        Self { seed, sets, busy }
    }

    #[inline]
    fn find(&self, family: u64, key: &Key, values: &[&str]) -> Option<&Entry> {
        let set = &self.sets[key.hash() as usize % SETS];
        set.iter().find_map(|place| place.leads_to(family, key, values))
    }
}

impl Place {
    #[inline]
    fn leads_to(&self, family: u64, key: &Key, values: &[&str]) -> Option<&Entry> {
        let entry = self.entry.as_ref().filter(|_| self.hash == key.hash())?;
        (entry.family == family && key.is(&entry.values, values)).then_some(entry)
    }
}
