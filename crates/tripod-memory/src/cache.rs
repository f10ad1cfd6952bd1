//! What one thread keeps of one manager: buffers ready to be handed out, bytes charged in advance,
//! and the thread's counts.
//!
//! # Who may touch what
//! The buffers and the credits belong to whom the [`Guard`] says: the thread, or a reclaimer. They
//! are relaxed atomics all the same, which cost what plain memory costs and leave nothing to be
//! unsafe about. The counts are written by the thread alone and read by everybody. `low` is written by
//! the thread, and reset by the collector without asking: a lost note of it makes a buffer go back to
//! the system early, no more.
//!
//! # The short way
//! The newest buffer of each class, and the bytes of the last reservation given back to each budget,
//! are in *places* that their thread passes without saying busy; see [`guard`](crate::guard). A pair of
//! acquire and release then takes some 45 instructions. A reclaimer empties a place with a swap, and
//! notes that it has.

use std::ptr::NonNull;

use crate::classes::{CLASSES_MAX, NO_CLASS, SureClasses};
use crate::depot::{BATCH_MAX, Batch};
use crate::guard::{CREDITS, Guard, MAGAZINES, Revoked};
use crate::heap::{self, Shared};
use crate::layout::ClassLayout;
use crate::ledger::{NodeId, ROOT};
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// The newest buffer of a magazine at the collector's last look, and how many were handed out by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeenNewest {
    address: usize,
    acquires: u64,
}

/// Budgets that a thread can have credit of at the same time.
#[cfg(not(loom))]
const CREDITS_MAX: usize = 16;
#[cfg(loom)]
const CREDITS_MAX: usize = 2;

/// What a magazine may hold to begin with, in bytes, but for the newest.
const FIRST_BYTES: usize = 128 << 10;

/// A magazine may hold twice as many when it has made so many exchanges since the collector's last
/// look: where they are rare, what they cost does not count, and what it holds does.
const GROWTH_EXCHANGES: u32 = 128;

/// What a depot may hold of a class that does not flow, in bytes.
const DEPOT_BYTES: usize = 256 << 10;

/// How many buffers of `size` bytes a magazine may hold at most: so many that an exchange is rare
/// where buffers flow from one thread to another all the time.
fn limit_max(size: usize) -> usize {
    match size {
        0 => 0,
        size if size <= 64 << 10 => 2 * BATCH_MAX,
        size if size <= 1 << 20 => BATCH_MAX,
        size if size <= 4 << 20 => BATCH_MAX / 2,
        _ => 2,
    }
}

/// How many it may hold to begin with: of large ones none, so that a thread keeps little.
fn limit_first(size: usize) -> usize {
    (FIRST_BYTES / size.max(1)).min(limit_max(size))
}

/// See the header.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Cache {
    pub(crate) guard: Guard,
    /// The thread's own copy, since it is at hand.
    sure: SureClasses,
    /// The places that a reclaimer has taken something from since the thread has last opened the short
    /// way.
    taken: [AtomicU64; Place::COUNT.div_ceil(64)],
    /// How many of the magazines are of a class. In the others nothing is found, and nothing is left.
    classes: usize,
    credits: [Credit; CREDITS_MAX],
    magazines: [Magazine; CLASSES_MAX + 1],
}

/// The buffers of one size class.
///
/// The one that came back last is in `newest`, the others are in `slots`, the newest last. To take a
/// buffer and to return it is then a load and a store of one place. In a stack alone each would also
/// wait for the count that the one before has just stored: 6 ns for a pair where this takes 3
/// (measured in 2026-11, on a processor that forwards a store to a load in 8 cycles).
#[derive(Debug)]
#[repr(align(64))]
struct Magazine {
    newest: AtomicPtr<u8>,
    /// How many are in `slots`.
    held: AtomicU32,
    /// How many may be.
    limit: AtomicU32,
    slots: Box<[AtomicPtr<u8>]>,
    acquires: AtomicU64,
    requested: AtomicU64,
    size: usize,
    /// The fewest that were held since the last look of the collector, at that look included.
    low: AtomicU32,
    /// Exchanges with the depot and the shelf since the last reset.
    exchanges: AtomicU32,
}

/// Bytes of one budget that are charged and not used. They come from what the thread has given back,
/// never in advance, so a budget's peak is what was asked of it.
#[derive(Debug)]
#[repr(align(32))]
struct Credit {
    node: AtomicU32,
    /// The most of either kind; 0 until the budget has a place here.
    max: AtomicU32,
    used: AtomicU64,
    /// For reservations, less what is in `last`.
    reserved: AtomicU64,
    /// What a reservation of the same size finds again. To add it to `reserved` each time would make
    /// each pair wait for the sums of the one before.
    last: AtomicU64,
}

/// What is passed the short way: the newest buffer of a class, or the last reservation of a credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(usize);

impl Place {
    const COUNT: usize = CLASSES_MAX + CREDITS_MAX;

    fn newest(class: usize) -> Self {
        Self(class)
    }

    fn last(node: NodeId) -> Self {
        Self(CLASSES_MAX + node % CREDITS_MAX)
    }
}

/// Of which charge a credit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Buffers,
    Reservations,
}

/// What came of an attempt in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt<T> {
    pub(crate) outcome: T,
    /// Whether the thread has to give up what is revoked.
    pub(crate) is_asked: bool,
}

/// What a thread has counted, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) acquires: u64,
    pub(crate) requested_bytes: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, more: Self) {
        self.acquires += more.acquires;
        self.requested_bytes += more.requested_bytes;
    }
}

impl Cache {
    /// None if there is no memory for it.
    pub(crate) fn new(layouts: &[ClassLayout], sure: SureClasses) -> Option<Shared<Self>> {
        let mut has_room = true;
        let mut slots = |class: usize| {
            let count = layouts.get(class).map_or(0, |layout| limit_max(layout.size_bytes));
            let slots = heap::slice(count, || AtomicPtr::new(std::ptr::null_mut()));
            has_room &= slots.is_some();
            slots.unwrap_or_default()
        };
        let magazine = |class| Magazine::new(layouts.get(class), slots(class));
        let magazines = std::array::from_fn(magazine);
        let cache = Self {
            guard: Guard::new(),
            sure,
            taken: std::array::from_fn(|_| AtomicU64::new(0)),
            classes: layouts.len(),
            credits: std::array::from_fn(|_| Credit::new()),
            magazines,
        };
        if has_room { Shared::new(cache) } else { None }
    }

    #[inline(always)]
    fn magazine(&self, class: usize) -> &Magazine {
        &self.magazines[class & NO_CLASS]
    }

    /// Takes the newest buffer for `len` bytes, with its class: the short way of
    /// [`acquire`](Self::acquire) where no credit is needed.
    ///
    /// `is_taken` is asked if the way is closed; see [`open`](Self::open).
    #[inline(always)]
    pub(crate) fn acquire_newest(
        &self,
        len: usize,
        is_taken: impl FnOnce(Place) -> bool,
    ) -> Option<(NonNull<u8>, usize)> {
        let class = self.sure.of(len)?;
        let magazine = self.magazine(class);
        let slot = magazine.pop_newest()?;
        if !self.guard.is_open(MAGAZINES) && is_taken(Place::newest(class)) {
            return None;
        }
        magazine.count(len);
        Some((slot, class))
    }

    /// Puts a buffer into the place for the newest: the short way of [`release`](Self::release) where
    /// no credit is gained. False if the place is not empty, or the way is closed.
    #[inline(always)]
    pub(crate) fn release_newest(&self, class: usize, slot: NonNull<u8>) -> bool {
        let newest = &self.magazine(class).newest;
        if !newest.load(Ordering::Relaxed).is_null() {
            return false;
        }
        set(newest, slot.as_ptr());
        self.guard.is_open(MAGAZINES) || take_back(newest)
    }

    /// Opens the short way, and answers whether a reclaimer has taken what was in `place` when the
    /// thread thought that it took it. The cache's thread alone, with the engine's lock held.
    pub(crate) fn open(&self, place: Option<Place>) -> bool {
        let taken = place.is_some_and(|Place(index)| {
            self.taken[index / 64].load(Ordering::Relaxed) >> (index % 64) & 1 != 0
        });
        self.taken.iter().for_each(|notes| notes.store(0, Ordering::Relaxed));
        self.guard.open();
        taken
    }

    /// Notes that something was taken out of a place. With the engine's lock held.
    fn note_taken(&self, Place(index): Place) {
        let notes = &self.taken[index / 64];
        notes.store(notes.load(Ordering::Relaxed) | 1 << (index % 64), Ordering::Relaxed);
    }

    /// Takes a buffer of `class` for `len` bytes that `node` is charged for.
    pub(crate) fn acquire(
        &self,
        class: usize,
        len: usize,
        node: NodeId,
    ) -> Attempt<Option<NonNull<u8>>> {
        let magazine = self.magazine(class);
        if len.wrapping_sub(1) >= magazine.size {
            return Attempt { outcome: None, is_asked: false };
        }
        if let Err(Revoked { is_asked }) = self.guard.enter(needed(node)) {
            return Attempt { outcome: None, is_asked };
        }
        let outcome = if node == ROOT {
            magazine.pop()
        } else if self.spend(Of::Buffers, node, magazine.size as u64) {
            let slot = magazine.pop();
            if slot.is_none() {
                self.refund(node, magazine.size as u64);
            }
            slot
        } else {
            None
        };
        if outcome.is_some() {
            magazine.count(len);
        }
        Attempt { outcome, is_asked: self.guard.leave() }
    }

    /// Takes a buffer that its budget has been charged for already.
    pub(crate) fn acquire_charged(&self, class: usize, len: usize) -> Attempt<Option<NonNull<u8>>> {
        self.acquire(class, len, ROOT)
    }

    /// Takes a buffer back whose bytes become credit of `node`; false if there is no place for it or
    /// for its bytes.
    pub(crate) fn release(&self, class: usize, slot: NonNull<u8>, node: NodeId) -> Attempt<bool> {
        if class == NO_CLASS {
            return Attempt { outcome: false, is_asked: false };
        }
        if let Err(Revoked { is_asked }) = self.guard.enter(needed(node)) {
            return Attempt { outcome: false, is_asked };
        }
        let magazine = self.magazine(class);
        let outcome = if node == ROOT {
            magazine.push(slot)
        } else {
            !magazine.is_full()
                && self.earn(Of::Buffers, node, magazine.size as u64)
                && (magazine.push(slot) || {
                    // The collector has lowered the limit since; the slow way discharges.
                    self.spend(Of::Buffers, node, magazine.size as u64);
                    false
                })
        };
        Attempt { outcome, is_asked: self.guard.leave() }
    }

    /// Takes the last reservation given back, if it was of as many bytes, at least one: the short way
    /// of [`reserve`](Self::reserve). `is_taken` as in [`acquire_newest`](Self::acquire_newest).
    #[inline(always)]
    pub(crate) fn reserve_last(
        &self,
        node: NodeId,
        bytes: u64,
        is_taken: impl FnOnce(Place) -> bool,
    ) -> bool {
        let credit = &self.credits[node % CREDITS_MAX];
        let is_found = bytes > 0
            && credit.last.load(Ordering::Relaxed) == bytes
            && credit.node.load(Ordering::Relaxed) == node as u32;
        if !is_found {
            return false;
        }
        set_u64(&credit.last, 0);
        self.guard.is_open(CREDITS) || !is_taken(Place::last(node))
    }

    /// Leaves a reservation for the next of the same size: the short way of
    /// [`unreserve`](Self::unreserve). False if there is no place for it, or the way is closed.
    #[inline(always)]
    pub(crate) fn unreserve_last(&self, node: NodeId, bytes: u64) -> bool {
        let credit = &self.credits[node % CREDITS_MAX];
        let max = u64::from(credit.max.load(Ordering::Relaxed));
        let has_place = bytes > 0
            && credit.last.load(Ordering::Relaxed) == 0
            && credit.node.load(Ordering::Relaxed) == node as u32
            // There is never more than the most.
            && bytes <= max.wrapping_sub(credit.reserved.load(Ordering::Relaxed));
        if !has_place {
            return false;
        }
        set_u64(&credit.last, bytes);
        self.guard.is_open(CREDITS) || take_bytes_back(&credit.last)
    }

    /// Takes `bytes` out of the credit for reservations; false if it has not so many, or if they are
    /// none: the engine counts reservations without bytes itself.
    #[inline(always)]
    pub(crate) fn reserve(&self, node: NodeId, bytes: u64) -> Attempt<bool> {
        if bytes == 0 {
            return Attempt { outcome: false, is_asked: false };
        }
        if let Err(Revoked { is_asked }) = self.guard.enter(CREDITS) {
            return Attempt { outcome: false, is_asked };
        }
        let outcome = self.spend(Of::Reservations, node, bytes);
        Attempt { outcome, is_asked: self.guard.leave() }
    }

    /// Adds `bytes` to the credit for reservations; false if there is no place for them, or if they
    /// are none.
    #[inline(always)]
    pub(crate) fn unreserve(&self, node: NodeId, bytes: u64) -> Attempt<bool> {
        if bytes == 0 {
            return Attempt { outcome: false, is_asked: false };
        }
        if let Err(Revoked { is_asked }) = self.guard.enter(CREDITS) {
            return Attempt { outcome: false, is_asked };
        }
        let outcome = self.earn(Of::Reservations, node, bytes);
        Attempt { outcome, is_asked: self.guard.leave() }
    }

    /// Runs `work` on the magazine of `class`, if it is the thread's own now.
    pub(crate) fn with_magazine<T>(
        &self,
        class: usize,
        work: impl FnOnce(MagazineAccess<'_>) -> T,
    ) -> Attempt<Option<T>> {
        if let Err(Revoked { is_asked }) = self.guard.enter(MAGAZINES) {
            return Attempt { outcome: None, is_asked };
        }
        let outcome = work(MagazineAccess { magazine: self.magazine(class) });
        Attempt { outcome: Some(outcome), is_asked: self.guard.leave() }
    }

    #[inline(always)]
    fn spend(&self, of: Of, node: NodeId, bytes: u64) -> bool {
        let credit = &self.credits[node % CREDITS_MAX];
        credit.add_last();
        let own = credit.of(of);
        let left = own.load(Ordering::Relaxed).checked_sub(bytes);
        match left {
            Some(left) if credit.node.load(Ordering::Relaxed) == node as u32 => {
                own.store(left, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }

    #[inline(always)]
    fn earn(&self, of: Of, node: NodeId, bytes: u64) -> bool {
        let credit = &self.credits[node % CREDITS_MAX];
        credit.add_last();
        let own = credit.of(of);
        let sum = own.load(Ordering::Relaxed).saturating_add(bytes);
        let has_place = credit.node.load(Ordering::Relaxed) == node as u32
            && sum <= u64::from(credit.max.load(Ordering::Relaxed));
        if has_place {
            own.store(sum, Ordering::Relaxed);
        }
        has_place
    }

    /// Gives `node` a place for up to `max` bytes of credit, unless another has credit there.
    pub(crate) fn open_credit(&self, node: NodeId, max: u32) -> Attempt<()> {
        if let Err(Revoked { is_asked }) = self.guard.enter(CREDITS) {
            return Attempt { outcome: (), is_asked };
        }
        let credit = &self.credits[node % CREDITS_MAX];
        credit.add_last();
        let others = credit.used.load(Ordering::Relaxed) | credit.reserved.load(Ordering::Relaxed);
        if credit.node.load(Ordering::Relaxed) == node as u32 || others == 0 {
            credit.node.store(node as u32, Ordering::Relaxed);
            credit.max.store(max, Ordering::Relaxed);
        }
        Attempt { outcome: (), is_asked: self.guard.leave() }
    }

    /// Undoes [`spend`](Self::spend).
    fn refund(&self, node: NodeId, bytes: u64) {
        let own = self.credits[node % CREDITS_MAX].of(Of::Buffers);
        own.store(own.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }

    /// Takes all buffers out. For whom the cache belongs to, with the engine's lock held.
    pub(crate) fn drain_magazines(&self, mut take: impl FnMut(usize, NonNull<u8>)) {
        for (class, magazine) in self.magazines[..self.classes].iter().enumerate() {
            self.take_newest(class).into_iter().for_each(|slot| take(class, slot));
            while let Some(slot) = magazine.pop_older() {
                take(class, slot);
            }
        }
    }

    /// Takes all credits out. For whom the cache belongs to, with the engine's lock held.
    pub(crate) fn drain_credits(&self, mut take: impl FnMut(Of, NodeId, u64)) {
        for credit in self.credits.iter() {
            let node = credit.node.load(Ordering::Relaxed) as NodeId;
            let last = credit.last.swap(0, Ordering::Relaxed);
            if last > 0 {
                self.note_taken(Place::last(node));
                take(Of::Reservations, node, last);
            }
            for of in [Of::Buffers, Of::Reservations] {
                let own = credit.of(of);
                let bytes = own.load(Ordering::Relaxed);
                if bytes > 0 {
                    own.store(0, Ordering::Relaxed);
                    take(of, node, bytes);
                }
            }
        }
    }

    /// Tells every credit at this moment: the node, and the bytes for buffers and for reservations.
    /// For readers.
    pub(crate) fn each_credit(&self, mut tell: impl FnMut(NodeId, u64, u64)) {
        for credit in self.credits.iter() {
            let bytes = |of| credit.of(of).load(Ordering::Relaxed);
            let node = credit.node.load(Ordering::Relaxed) as NodeId;
            let last = credit.last.load(Ordering::Relaxed);
            tell(node, bytes(Of::Buffers), bytes(Of::Reservations) + last);
        }
    }

    /// How many buffers of `class` are here. For readers.
    pub(crate) fn held(&self, class: usize) -> usize {
        let Magazine { newest, held, .. } = &self.magazines[class];
        let newest = !newest.load(Ordering::Relaxed).is_null();
        held.load(Ordering::Relaxed) as usize + usize::from(newest)
    }

    /// Counts a buffer that did not come out of the magazine. The cache's thread alone.
    pub(crate) fn count(&self, class: usize, len: usize) {
        self.magazines[class].count(len);
    }

    pub(crate) fn counts(&self, class: usize) -> Counts {
        let magazine = &self.magazines[class];
        Counts {
            acquires: magazine.acquires.load(Ordering::Relaxed),
            requested_bytes: magazine.requested.load(Ordering::Relaxed),
        }
    }

    /// How many buffers of `class` are exchanged at once, at this moment.
    pub(crate) fn batch(&self, class: usize) -> usize {
        self.magazine(class).batch()
    }

    /// The fewest buffers of `class` that were here since the last call, which left `seen` behind.
    /// For the collector.
    pub(crate) fn take_low(&self, class: usize, seen: &mut SeenNewest) -> usize {
        let Magazine { newest, held, low, acquires, .. } = &self.magazines[class];
        let held = held.load(Ordering::Relaxed);
        let lowest = low.load(Ordering::Relaxed).min(held);
        low.store(held, Ordering::Relaxed);
        let now = SeenNewest {
            address: newest.load(Ordering::Relaxed).addr(),
            acquires: acquires.load(Ordering::Relaxed),
        };
        // It comes and goes without a note in `low`, but not without a buffer that is counted.
        let is_rested = now.address != 0 && now == *seen;
        *seen = now;
        lowest as usize + usize::from(is_rested)
    }

    /// Ends a look at `class`. For the collector.
    pub(crate) fn looked(&self, class: usize, is_unneeded: bool) {
        self.magazines[class].look(is_unneeded);
    }

    /// Takes the `count` oldest buffers of `class` out. For whom the cache belongs to, with the engine's
    /// lock held.
    pub(crate) fn take_oldest(
        &self,
        class: usize,
        count: usize,
        mut take: impl FnMut(NonNull<u8>),
    ) {
        let older = self.magazines[class].take_older(count, &mut take);
        if older < count {
            self.take_newest(class).into_iter().for_each(take);
        }
    }

    /// Takes the newest buffer out, whose thread may be just about to. For whom the cache belongs to,
    /// with the engine's lock held.
    fn take_newest(&self, class: usize) -> Option<NonNull<u8>> {
        let newest = &self.magazines[class].newest;
        let slot = NonNull::new(newest.swap(std::ptr::null_mut(), Ordering::Acquire))?;
        self.note_taken(Place::newest(class));
        Some(slot)
    }
}

/// What work on `node` needs: the root's buffers need no credit.
#[inline(always)]
fn needed(node: NodeId) -> u32 {
    if node == ROOT { MAGAZINES } else { MAGAZINES | CREDITS }
}

/// A magazine in the hands of its thread.
#[derive(Debug)]
pub(crate) struct MagazineAccess<'a> {
    magazine: &'a Magazine,
}

impl MagazineAccess<'_> {
    /// Adds what is in `batch`, as far as there is room; the rest stays in it.
    pub(crate) fn fill(&self, batch: &mut Batch) {
        while let Some(slot) = batch.pop() {
            if !self.magazine.push_older(slot.as_ptr()) {
                batch.push(slot);
                break;
            }
        }
    }

    /// Makes room by taking out the oldest half, if the magazine is full.
    pub(crate) fn spill(&self) -> Option<Batch> {
        if !self.magazine.is_full() {
            return None;
        }
        let mut batch = Batch::new();
        self.magazine.take_older(self.magazine.batch(), |slot| batch.push(slot));
        self.magazine.exchanged();
        (batch.len() > 0).then_some(batch)
    }

    /// Notes that a batch came in.
    pub(crate) fn refilled(&self) {
        self.magazine.exchanged();
    }

    /// How many batches of this class may be in the depot: few of large buffers, unless they flow.
    pub(crate) fn depot_cells(&self) -> usize {
        if self.magazine.has_grown() {
            return usize::MAX;
        }
        DEPOT_BYTES / (self.magazine.size * self.magazine.batch()).max(1)
    }

    pub(crate) fn push(&self, slot: NonNull<u8>) -> bool {
        self.magazine.push(slot)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.magazine.is_empty()
    }
}

impl Magazine {
    fn new(layout: Option<&ClassLayout>, slots: Box<[AtomicPtr<u8>]>) -> Self {
        let size = layout.map_or(0, |layout| layout.size_bytes);
        Self {
            newest: AtomicPtr::new(std::ptr::null_mut()),
            held: AtomicU32::new(0),
            limit: AtomicU32::new(limit_first(size) as u32),
            low: AtomicU32::new(0),
            exchanges: AtomicU32::new(0),
            slots,
            acquires: AtomicU64::new(0),
            requested: AtomicU64::new(0),
            size,
        }
    }

    fn is_full(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= self.limit.load(Ordering::Relaxed)
    }

    /// How many are exchanged at once.
    fn batch(&self) -> usize {
        let limit = self.limit.load(Ordering::Relaxed) as usize;
        limit.div_ceil(2).clamp(1, BATCH_MAX)
    }

    fn has_grown(&self) -> bool {
        self.limit.load(Ordering::Relaxed) as usize > limit_first(self.size)
    }

    /// Notes an exchange, and grows if there have been many.
    fn exchanged(&self) {
        let exchanges = self.exchanges.load(Ordering::Relaxed) + 1;
        if exchanges < GROWTH_EXCHANGES {
            return self.exchanges.store(exchanges, Ordering::Relaxed);
        }
        self.exchanges.store(0, Ordering::Relaxed);
        let limit = (2 * self.limit.load(Ordering::Relaxed)).max(1);
        self.limit.store(limit.min(self.slots.len() as u32), Ordering::Relaxed);
    }

    /// Begins a new count of exchanges; after idle ones the limit shrinks.
    fn look(&self, is_unneeded: bool) {
        self.exchanges.store(0, Ordering::Relaxed);
        if is_unneeded {
            let limit = self.limit.load(Ordering::Relaxed) as usize / 2;
            self.limit.store(limit.max(limit_first(self.size)) as u32, Ordering::Relaxed);
        }
    }

    fn is_empty(&self) -> bool {
        self.newest.load(Ordering::Relaxed).is_null() && self.held.load(Ordering::Relaxed) == 0
    }

    #[inline(always)]
    fn pop_newest(&self) -> Option<NonNull<u8>> {
        let newest = NonNull::new(self.newest.load(Ordering::Relaxed))?;
        set(&self.newest, std::ptr::null_mut());
        Some(newest)
    }

    /// False if it is full. If there is a newest already, both go to the older ones: of many that come
    /// back one after the other each second finds the place of the newest empty.
    #[inline(always)]
    fn push(&self, slot: NonNull<u8>) -> bool {
        let newest = self.newest.load(Ordering::Relaxed);
        if newest.is_null() {
            set(&self.newest, slot.as_ptr());
            return true;
        }
        if !self.push_older(newest) {
            return false;
        }
        let is_older = self.push_older(slot.as_ptr());
        set(&self.newest, if is_older { std::ptr::null_mut() } else { slot.as_ptr() });
        true
    }

    #[inline(always)]
    fn push_older(&self, slot: *mut u8) -> bool {
        let held = self.held.load(Ordering::Relaxed);
        match self.slots.get(held as usize) {
            Some(place) if held < self.limit.load(Ordering::Relaxed) => {
                place.store(slot, Ordering::Relaxed);
                self.held.store(held + 1, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }

    #[inline(always)]
    fn pop(&self) -> Option<NonNull<u8>> {
        self.pop_newest().or_else(|| self.pop_older())
    }

    #[inline(always)]
    fn pop_older(&self) -> Option<NonNull<u8>> {
        let held = self.held.load(Ordering::Relaxed).wrapping_sub(1);
        match self.slots.get(held as usize) {
            Some(place) => {
                self.set_held(held);
                NonNull::new(place.load(Ordering::Relaxed))
            }
            None => {
                self.low.store(0, Ordering::Relaxed);
                None
            }
        }
    }

    #[inline(always)]
    fn count(&self, len: usize) {
        add(&self.acquires, 1);
        add(&self.requested, len as u64);
    }

    /// Takes the oldest out of `slots`, at most `count`; answers how many that were.
    fn take_older(&self, count: usize, mut take: impl FnMut(NonNull<u8>)) -> usize {
        let held = self.held.load(Ordering::Relaxed) as usize;
        let count = count.min(held);
        for place in &self.slots[..count] {
            NonNull::new(place.load(Ordering::Relaxed)).into_iter().for_each(&mut take);
        }
        for index in count..held {
            let slot = self.slots[index].load(Ordering::Relaxed);
            self.slots[index - count].store(slot, Ordering::Relaxed);
        }
        self.set_held((held - count) as u32);
        count
    }

    #[inline(always)]
    fn set_held(&self, held: u32) {
        self.held.store(held, Ordering::Relaxed);
        if held < self.low.load(Ordering::Relaxed) {
            self.low.store(held, Ordering::Relaxed);
        }
    }
}

impl Credit {
    fn new() -> Self {
        Self {
            node: AtomicU32::new(0),
            max: AtomicU32::new(0),
            used: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// Adds the last reservation to the others. For the thread, at work in its cache.
    fn add_last(&self) {
        let last = self.last.load(Ordering::Relaxed);
        if last > 0 {
            set_u64(&self.last, 0);
            self.reserved.store(self.reserved.load(Ordering::Relaxed) + last, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn of(&self, of: Of) -> &AtomicU64 {
        match of {
            Of::Buffers => &self.used,
            Of::Reservations => &self.reserved,
        }
    }
}

/// Takes back what the thread has put into a closed place; true if a reclaimer has it already.
#[cold]
#[inline(never)]
fn take_back(newest: &AtomicPtr<u8>) -> bool {
    newest.swap(std::ptr::null_mut(), Ordering::Relaxed).is_null()
}

/// As [`take_back`], of bytes.
#[cold]
#[inline(never)]
fn take_bytes_back(last: &AtomicU64) -> bool {
    last.swap(0, Ordering::Relaxed) == 0
}

/// Stores into a place that a reclaimer swaps: released, since the swap may come before the fence that
/// else tells of what was done.
///
/// A model swaps, too: loom takes a store that comes after a swap for one that may have come before it.
#[inline(always)]
fn set(place: &AtomicPtr<u8>, slot: *mut u8) {
    if cfg!(loom) {
        place.swap(slot, Ordering::Release);
    } else {
        place.store(slot, Ordering::Release);
    }
}

/// As [`set`], of bytes.
#[inline(always)]
fn set_u64(place: &AtomicU64, bytes: u64) {
    if cfg!(loom) {
        place.swap(bytes, Ordering::Release);
    } else {
        place.store(bytes, Ordering::Release);
    }
}

/// Adds to a count that only the calling thread writes.
#[inline(always)]
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}
