//! What a thread remembers of label values, so that looking them up again takes no lock.
//!
//! A cache has room for a few hundred label sets. An entry is right for as long as its family is of
//! the generation in which it was found; a family enters a new one when a series of it is about to
//! be removed. Values are compared in full, never only by hash.
//!
//! In families that remove idle series, a thread says in its [`Busy`] flag that it is about to write
//! to a series that it remembers. The one who removes first starts a new generation and then looks
//! at the flags; so either the thread sees the new generation, or it is seen and waited for. Both
//! sides put a `SeqCst` fence between their store and their load.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::fast::RandomState;

use super::values::OwnedCell;

/// Sets of two entries each.
const SETS: usize = 128;

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

struct Cache {
    hasher: RandomState,
    sets: Box<[[Option<Entry>; 2]]>,
    busy: Arc<Busy>,
}

struct Entry {
    family: u64,
    generation: u64,
    hash: u64,
    /// Each value behind its length.
    values: Box<[u8]>,
    cell: OwnedCell,
}

thread_local! {
    static CACHE: RefCell<Option<Cache>> = const { RefCell::new(None) };
}

/// Runs `write` on the cell of these values if this thread remembers it.
///
/// Hands `write` back where it does not.
#[inline]
pub(super) fn with_remembered<R, F: FnOnce(&OwnedCell) -> R>(
    family: Family<'_>,
    values: &[&str],
    write: F,
) -> Result<R, F> {
    let mut write = Some(write);
    let found = CACHE.try_with(|cache| {
        let cache = cache.try_borrow().ok()?;
        let cache = cache.as_ref()?;
        let hash = hash(&cache.hasher, family.id, values);
        let set = &cache.sets[hash as usize % SETS];
        let entry = set.iter().flatten().find(|entry| entry.is_of(family.id, hash, values))?;
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
        let written = is_right.then(|| write.take().map(|write| write(&entry.cell))).flatten();
        if family.removes {
            cache.busy.0.store(false, Ordering::Release);
        }
        written
    });
    match found {
        Ok(Some(written)) => Ok(written),
        _ => Err(write.expect("it is called only where there is an answer")),
    }
}

/// Remembers a cell that was found while the family was of `generation`.
pub(super) fn remember(family: u64, generation: u64, values: &[&str], cell: OwnedCell) {
    // What is forgotten is dropped outside of the borrow.
    let _forgotten = CACHE.try_with(|cache| {
        let mut cache = cache.try_borrow_mut().ok()?;
        let cache = cache.get_or_insert_with(Cache::new);
        let hash = hash(&cache.hasher, family, values);
        let set = &mut cache.sets[hash as usize % SETS];
        let is_same = |entry: &Option<Entry>| {
            entry.as_ref().is_some_and(|entry| entry.is_of(family, hash, values))
        };
        let place = set.iter().position(|entry| entry.is_none() || is_same(entry)).unwrap_or(1);
        let entry = Entry { family, generation, hash, values: flat(values), cell };
        let forgotten = set[place].replace(entry);
        // The newest first: the other one is the next to be forgotten.
        set.swap(0, place);
        forgotten
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
        let sets = std::iter::repeat_with(|| [const { None }; 2]).take(SETS).collect();
        Self { hasher: RandomState::default(), sets, busy }
    }
}

impl Entry {
    #[inline]
    fn is_of(&self, family: u64, hash: u64, values: &[&str]) -> bool {
        self.hash == hash && self.family == family && is_flat(&self.values, values)
    }
}

#[inline]
fn hash(hasher: &RandomState, family: u64, values: &[&str]) -> u64 {
    use std::hash::Hasher;
    let mut state = hasher.build_hasher();
    state.write_u64(family);
    for value in values {
        state.write(value.as_bytes());
        // A length behind each value keeps ("ab", "c") and ("a", "bc") apart most of the time; the
        // comparison does so always.
        state.write_u64(value.len() as u64);
    }
    state.finish()
}

fn flat(values: &[&str]) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(values.iter().map(|value| 8 + value.len()).sum());
    for value in values {
        bytes.extend((value.len() as u64).to_le_bytes());
        bytes.extend(value.as_bytes());
    }
    bytes.into()
}

/// Whether `bytes` is what [`flat`] makes of `values`.
#[inline]
fn is_flat(bytes: &[u8], values: &[&str]) -> bool {
    let mut rest = bytes;
    for value in values {
        let Some((length, tail)) = rest.split_first_chunk::<8>() else { return false };
        if u64::from_le_bytes(*length) != value.len() as u64 {
            return false;
        }
        let Some((own, tail)) = tail.split_at_checked(value.len()) else { return false };
        if own != value.as_bytes() {
            return false;
        }
        rest = tail;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_one_by_one() {
        let sets: [&[&str]; 6] = [&[], &[""], &["a", "bc"], &["ab", "c"], &["abc", ""], &["a"]];
        for a in sets {
            for b in sets {
                assert_eq!(is_flat(&flat(a), b), a == b, "{a:?} {b:?}");
            }
        }
    }
}
