//! The handles that a thread remembers, so that a macro of the facade takes no lock.
//!
//! Keys are compared in full, not only by hash. Only its own thread touches a cache, so forgetting
//! old entries, too, happens when the thread next records something.

use std::cell::RefCell;

use hashbrown::HashTable;
use metrics::Key;

use super::Kind;
use super::handle::Handle;

/// The most entries of a thread for one recorder: some 200 bytes each.
const ENTRIES_MAX: usize = 16_384;

/// The most recorders that a thread remembers anything of; one is the rule.
const RECORDERS_MAX: usize = 8;

/// A look-up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) recorder: u64,
    pub(super) kind: Kind,
    pub(super) key: &'a Key,
    /// A number that grows with time.
    pub(super) moment: u64,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    /// The round of the last look-up.
    used: u64,
    handle: Handle,
}

/// What a thread remembers of one recorder.
#[derive(Debug)]
struct Cache {
    recorder: u64,
    entries: HashTable<Entry>,
    /// The moment of the last look-up.
    moment: u64,
    /// How often old entries were forgotten.
    round: u64,
}

thread_local! {
    static CACHES: RefCell<Vec<Cache>> = const { RefCell::new(Vec::new()) };
}

/// The handle that this thread remembers; none when it is ending.
#[inline]
pub(super) fn find(asked: Asked<'_>) -> Option<Handle> {
    // What is forgotten is dropped outside of the borrow: the last share of a collector, with the
    // observers of the user, may be in there.
    let mut forgotten = Vec::new();
    let find = |caches: &RefCell<Vec<Cache>>| {
        let mut caches = caches.try_borrow_mut().ok()?;
        let cache = caches.iter_mut().find(|cache| cache.recorder == asked.recorder)?;
        if cache.moment != asked.moment {
            cache.moment = asked.moment;
            forgotten = cache.sweep();
        }
        cache.find(asked.kind, asked.key)
    };
    CACHES.try_with(find).ok().flatten()
}

/// Remembers a handle for the next look-up.
pub(super) fn remember(asked: Asked<'_>, handle: Handle) {
    let Asked { recorder, key, moment, .. } = asked;
    let remember = |caches: &RefCell<Vec<Cache>>| {
        let mut caches = caches.try_borrow_mut().ok()?;
        let known = caches.iter().position(|cache| cache.recorder == recorder);
        let is_crowded = known.is_none() && caches.len() == RECORDERS_MAX;
        let displaced = is_crowded.then(|| caches.remove(0));
        let place = known.unwrap_or_else(|| {
            caches.push(Cache { recorder, entries: HashTable::new(), moment, round: 0 });
            caches.len() - 1
        });
        Some((displaced, caches[place].insert(key.to_retained(), handle)))
    };
    // What is forgotten is dropped here, outside of the borrow.
    drop(CACHES.try_with(remember));
}

impl Cache {
    #[inline]
    fn find(&mut self, kind: Kind, key: &Key) -> Option<Handle> {
        let is_it = |entry: &Entry| entry.handle.kind() == kind && entry.key == *key;
        let entry = self.entries.find_mut(hash(key), is_it)?;
        entry.used = self.round;
        Some(entry.handle.clone())
    }

    /// Returns what is forgotten to make room.
    fn insert(&mut self, key: Key, handle: Handle) -> Vec<Entry> {
        let mut forgotten = Vec::new();
        if self.entries.len() >= ENTRIES_MAX {
            forgotten = self.sweep();
            if self.entries.len() > ENTRIES_MAX / 2 {
                // Most are in use. To look through them again and again would be worse.
                forgotten.extend(std::mem::take(&mut self.entries));
            }
        }
        let entry = Entry { key, used: self.round, handle };
        self.entries.insert_unique(hash(&entry.key), entry, |entry| hash(&entry.key));
        forgotten
    }

    /// Takes out what was not used since the last time.
    #[cold]
    fn sweep(&mut self) -> Vec<Entry> {
        let ended = self.round;
        self.round += 1;
        self.entries.extract_if(|entry| entry.used < ended).collect()
    }
}

/// The hash of the facade, which does not depend on the order of labels; it is weak in its high
/// bits, a part of which the table looks at.
#[inline]
fn hash(key: &Key) -> u64 {
    let product = u128::from(key.get_hash()) * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}
