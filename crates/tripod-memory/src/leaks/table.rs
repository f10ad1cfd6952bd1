//! The notes of a debug build.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{LeakReport, LeakSite, Site};

/// Buffers are noted behind this many locks, by their address.
const PARTS: usize = 16;

/// Buffers by the address of their slot, reservations by a number.
#[derive(Debug, Default)]
pub(super) struct Table {
    buffers: [Mutex<Notes<usize>>; PARTS],
    reservations: Mutex<Notes<u64>>,
    next_reservation: AtomicU64,
}

type Notes<K> = HashMap<K, (Site, u64)>;

fn lock<K>(notes: &Mutex<Notes<K>>) -> MutexGuard<'_, Notes<K>> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Without memory for the note there is none: nothing ends a process for that.
fn insert<K: Hash + Eq>(notes: &mut Notes<K>, key: K, note: (Site, u64)) {
    if notes.try_reserve(1).is_ok() {
        notes.insert(key, note);
    }
}

/// Gives memory back with the notes, so that they are not taken for memory of the pools.
fn remove<K: Hash + Eq>(notes: &mut Notes<K>, key: K) {
    notes.remove(&key);
    if notes.capacity() > 64 && notes.len() < notes.capacity() / 8 {
        let mut fewer = HashMap::new();
        // `shrink_to` cannot be refused memory.
        if fewer.try_reserve(notes.len() * 2).is_ok() {
            fewer.extend(notes.drain());
            *notes = fewer;
        }
    }
}

impl Table {
    fn part(&self, slot: usize) -> MutexGuard<'_, Notes<usize>> {
        // Slots are at least 16 bytes apart, often pages.
        lock(&self.buffers[(slot >> 4 ^ slot >> 12 ^ slot >> 21) % PARTS])
    }

    pub(super) fn add_buffer(&self, slot: usize, bytes: u64, site: Site) {
        insert(&mut self.part(slot), slot, (site, bytes));
    }

    pub(super) fn remove_buffer(&self, slot: usize) {
        remove(&mut self.part(slot), slot);
    }

    pub(super) fn add_reservation(&self, bytes: u64, site: Site) -> u64 {
        let id = self.next_reservation.fetch_add(1, Ordering::Relaxed);
        insert(&mut lock(&self.reservations), id, (site, bytes));
        id
    }

    pub(super) fn set_reservation(&self, id: u64, bytes: u64) {
        if let Some((_, noted)) = lock(&self.reservations).get_mut(&id) {
            *noted = bytes;
        }
    }

    pub(super) fn remove_reservation(&self, id: u64) {
        remove(&mut lock(&self.reservations), id);
    }

    pub(super) fn report(&self) -> LeakReport {
        let mut sites = BTreeMap::new();
        for part in &self.buffers {
            for &(site, bytes) in lock(part).values() {
                let site = entry(&mut sites, site);
                site.buffers += 1;
                site.buffer_bytes += bytes;
            }
        }
        for &(site, bytes) in lock(&self.reservations).values() {
            let site = entry(&mut sites, site);
            site.reservations += 1;
            site.reserved_bytes += bytes;
        }
        let mut sites: Vec<LeakSite> = sites.into_values().collect();
        // Stable, so of the same size in the order of the source.
        sites.sort_by_key(|site| std::cmp::Reverse(site.buffer_bytes + site.reserved_bytes));
        let sum = |of: fn(&LeakSite) -> u64| sites.iter().map(of).sum();
        LeakReport {
            buffers: sum(|site| site.buffers),
            buffer_bytes: sum(|site| site.buffer_bytes),
            reserved_bytes: sum(|site| site.reserved_bytes),
            sites,
            is_traced: true,
        }
    }
}

type Key = (&'static str, u32, u32);

fn entry<'a>(
    sites: &'a mut BTreeMap<Key, LeakSite>,
    location: &'static Location<'static>,
) -> &'a mut LeakSite {
    let key = (location.file(), location.line(), location.column());
    sites.entry(key).or_insert(LeakSite {
        location,
        buffers: 0,
        buffer_bytes: 0,
        reservations: 0,
        reserved_bytes: 0,
    })
}
