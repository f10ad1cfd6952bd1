//! The handles that a thread remembers, so that a macro of the facade takes no lock.
//!
//! Keys are compared in full, not only by hash. Only its own thread touches a cache, so forgetting
//! old entries, too, happens when the thread next records something.

use std::cell::RefCell;

use hashbrown::HashTable;
use metrics::Key;

use super::Kind;
use super::handle::Handle;

/// The most entries of a thread for one recorder.
const ENTRIES_MAX: usize = 4096;

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
    /// The moment of the last look-up.
    used: u64,
    handle: Handle,
}

/// What a thread remembers of one recorder.
#[derive(Debug)]
struct Cache {
    recorder: u64,
    entries: HashTable<Entry>,
    /// The moment at which old entries were last forgotten.
    swept: u64,
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
        if cache.swept != asked.moment {
            forgotten = cache.sweep(asked.moment);
        }
        cache.find(asked)
    };
    CACHES.try_with(find).ok().flatten()
}

/// Remembers a handle for the next look-up.
pub(super) fn remember(asked: Asked<'_>, handle: Handle) {
    let Asked { recorder, key, moment, .. } = asked;
    let remember = |caches: &RefCell<Vec<Cache>>| {
        let mut caches = caches.try_borrow_mut().ok()?;
        let mut forgotten = Vec::new();
        let place = match caches.iter().position(|cache| cache.recorder == recorder) {
            Some(place) => place,
            None => {
                if caches.len() == RECORDERS_MAX {
                    forgotten.push(caches.remove(0));
                }
                caches.push(Cache { recorder, entries: HashTable::new(), swept: moment });
                caches.len() - 1
            }
        };
        let cache = &mut caches[place];
        if cache.entries.len() >= ENTRIES_MAX {
            let entries = std::mem::take(&mut cache.entries);
            forgotten.push(Cache { recorder, entries, swept: moment });
        }
        let entry = Entry { key: key.to_retained(), used: moment, handle };
        cache.entries.insert_unique(hash(key), entry, |entry| hash(&entry.key));
        Some(forgotten)
    };
    drop(CACHES.try_with(remember));
}

impl Cache {
    #[inline]
    fn find(&mut self, Asked { kind, key, moment, .. }: Asked<'_>) -> Option<Handle> {
        let is_it = |entry: &Entry| entry.handle.kind() == kind && entry.key == *key;
        let entry = self.entries.find_mut(hash(key), is_it)?;
        entry.used = moment;
        Some(entry.handle.clone())
    }

    /// Takes out what was not used since the moment before this one.
    #[cold]
    fn sweep(&mut self, moment: u64) -> Vec<Entry> {
        self.swept = moment;
        self.entries.extract_if(|entry| moment.saturating_sub(entry.used) > 1).collect()
    }
}

/// The hash of the facade, which does not depend on the order of labels; it is weak in its high
/// bits, a part of which the table looks at.
#[inline]
fn hash(key: &Key) -> u64 {
    let product = u128::from(key.get_hash()) * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}
