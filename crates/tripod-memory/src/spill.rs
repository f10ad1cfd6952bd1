//! Asks those who hold memory to give some back.
//!
//! [`Spillers`] keeps no spiller alive: it holds [`Weak`] references and passes over those that are gone.
//! The code of a spiller runs with no lock held, so it may reserve, release, register, or be asked from
//! several threads. Nobody is asked while already being asked: a spiller that needs memory to
//! give memory back is not called again from within itself.
//!
//! What a spiller answers is taken on trust, as a statistic. Whether anything is still short the driver
//! says anew before each choice; the engine asks its ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::budget::Budget;
use crate::ledger::NodeId;
use crate::manager::MemoryManager;
use crate::turn::Turn;

/// Somebody who holds memory and can give it back: a cache, or a sort that can go on from a file.
///
/// It is registered with [`MemoryManager::register_spiller`] or [`Budget::register_spiller`], and asked
/// while a [`reserve`](MemoryManager::reserve) waits in line: in the background, or by
/// [`collect`](MemoryManager::collect) if background collection is off. No lock is held. Those who hold
/// most are asked first, one at a time, until nobody waits any more or all have been asked; while
/// somebody still waits they are asked again ten times in a second. Asking for memory without waiting
/// for it (`acquire`, `try_reserve`) asks nobody.
///
/// One thread collects for all managers of the process, so nothing is collected while a spiller spills;
/// one that waits for memory itself may wait for ever.
///
/// # Examples
/// ```
/// # use std::sync::Mutex;
/// # use tripod_memory::Spill;
/// /// Pages of which any can be read again.
/// #[derive(Default)]
/// struct PageCache {
///     pages: Mutex<Vec<Box<[u8; 4096]>>>,
/// }
///
/// impl Spill for PageCache {
///     fn spillable_bytes(&self) -> u64 {
///         self.pages.lock().unwrap().len() as u64 * 4096
///     }
///
///     fn spill(&self, wanted_bytes: u64) -> u64 {
///         let mut pages = self.pages.lock().unwrap();
///         let wanted = wanted_bytes.div_ceil(4096).min(pages.len() as u64);
///         let kept = pages.len() - wanted as usize;
///         pages.truncate(kept);
///         wanted * 4096
///     }
/// }
///
/// let cache = PageCache::default();
/// cache.pages.lock().unwrap().extend([Box::new([0; 4096]), Box::new([0; 4096])]);
/// assert_eq!(cache.spill(100), 4096);
/// assert_eq!(cache.spillable_bytes(), 4096);
/// ```
pub trait Spill: Send + Sync {
    /// Returns how many bytes it could give back now; 0 if none, and it is not asked.
    ///
    /// It is called often and should not take long.
    fn spillable_bytes(&self) -> u64;

    /// Gives back at least `wanted_bytes`, or what it can, by dropping buffers and reservations before it
    /// returns; answers how many bytes that were.
    ///
    /// A panic is caught and counts as 0 bytes; the next one is asked.
    fn spill(&self, wanted_bytes: u64) -> u64;
}

/// Everybody who can be asked. A clone is a handle on the same list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spillers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    list: Mutex<List>,
    /// A statistic that guards nothing: Relaxed.
    panics: AtomicU64,
}

#[derive(Debug, Default)]
struct List {
    next_id: u64,
    /// By the order of registration.
    entries: BTreeMap<u64, Arc<Entry>>,
}

struct Entry {
    spiller: Weak<dyn Spill>,
    /// The budget that its bytes are charged to.
    node: NodeId,
    /// Had by who is asking it just now.
    turn: Turn,
}

impl Spillers {
    /// Adds a spiller, which is asked until the registration is dropped or nobody holds the spiller
    /// any more.
    pub(crate) fn register<S: Spill + 'static>(
        &self,
        node: NodeId,
        spiller: &Arc<S>,
    ) -> SpillRegistration {
        let spiller: Arc<dyn Spill> = spiller.clone();
        let spiller = Arc::downgrade(&spiller);
        let entry = Arc::new(Entry { spiller, node, turn: Turn::default() });
        let mut list = self.shared.lock();
        let id = list.next_id;
        list.next_id += 1;
        list.entries.insert(id, entry);
        SpillRegistration { shared: Arc::downgrade(&self.shared), id }
    }

    /// Asks one after the other, the largest first, until nothing is wanted or everybody whom it
    /// helps to ask has been asked once; answers the sum of what they say they gave back.
    ///
    /// `wanted` is told that sum before each choice, and says what is still short, most urgent first.
    /// Sizes are read anew, too, since spilling one may change the others.
    pub(crate) fn relieve(&self, mut wanted: impl FnMut(u64) -> Vec<Wanted>) -> u64 {
        let mut given_back: u64 = 0;
        let mut asked = BTreeSet::new();
        loop {
            let choice = wanted(given_back).into_iter().find_map(|wanted| {
                let largest = self.largest(&asked, &*wanted.is_within)?;
                Some((largest, wanted.bytes))
            });
            let Some((largest, bytes)) = choice else { return given_back };
            asked.insert(largest.id);
            given_back = given_back.saturating_add(self.ask(&largest, bytes));
        }
    }

    /// Whether there is nobody to ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.lock().entries.is_empty()
    }

    /// How many calls of spillers have panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// The one that can give back most; of several, the one that was registered first.
    fn largest(
        &self,
        asked: &BTreeSet<u64>,
        is_within: &dyn Fn(NodeId) -> bool,
    ) -> Option<Candidate> {
        let mut largest: Option<Candidate> = None;
        for (id, entry) in self.shared.entries() {
            // Who is being asked elsewhere has been found already, and its size is about to be wrong.
            if asked.contains(&id) || entry.turn.is_taken() || !is_within(entry.node) {
                continue;
            }
            let Some(spiller) = entry.spiller.upgrade() else { continue };
            let bytes = self.shielded(|| spiller.spillable_bytes());
            if bytes > largest.as_ref().map_or(0, |largest| largest.bytes) {
                largest = Some(Candidate { id, bytes, entry, spiller });
            }
        }
        largest
    }

    /// Asks one, unless somebody else is just doing so.
    fn ask(&self, candidate: &Candidate, wanted_bytes: u64) -> u64 {
        let Some(_turn) = candidate.entry.turn.take() else { return 0 };
        self.shielded(|| candidate.spiller.spill(wanted_bytes))
    }

    /// Calls a spiller; 0 and one more panic if it panics.
    fn shielded(&self, call: impl FnOnce() -> u64) -> u64 {
        // What a panic leaves behind is the spiller's own; nothing of ours is half done meanwhile.
        catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
            self.shared.panics.fetch_add(1, Ordering::Relaxed);
            0
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, List> {
        // No foreign code runs under the lock.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are registered now.
    fn entries(&self) -> Vec<(u64, Arc<Entry>)> {
        self.lock().entries.iter().map(|(&id, entry)| (id, entry.clone())).collect()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("turn", &self.turn).finish_non_exhaustive()
    }
}

/// One that could be asked, kept while it is.
struct Candidate {
    id: u64,
    bytes: u64,
    entry: Arc<Entry>,
    spiller: Arc<dyn Spill>,
}

/// Bytes that are short.
pub(crate) struct Wanted {
    pub(crate) bytes: u64,
    /// Whether bytes that come back to a budget would help.
    pub(crate) is_within: Box<dyn Fn(NodeId) -> bool>,
}

impl MemoryManager {
    /// Has `spiller` asked for memory while a reservation waits in line; it holds memory of the root.
    ///
    /// It is asked until the registration is dropped or nobody holds the spiller any more. A request
    /// that waits for room in a budget below the root is not helped by memory of the root: who holds
    /// memory of such a budget is registered there, with [`Budget::register_spiller`].
    ///
    /// # Examples
    /// ```
    /// # use std::sync::{Arc, Mutex};
    /// # use tripod_memory::{MemoryManager, Reservation, Spill};
    /// /// Rows that can be written to a file.
    /// struct Rows(Mutex<Option<Reservation>>);
    ///
    /// impl Spill for Rows {
    ///     fn spillable_bytes(&self) -> u64 {
    ///         self.0.lock().unwrap().as_ref().map_or(0, Reservation::bytes)
    ///     }
    ///
    ///     fn spill(&self, _wanted_bytes: u64) -> u64 {
    ///         // Here they would be written; then their bytes go back.
    ///         let bytes = self.spillable_bytes();
    ///         *self.0.lock().unwrap() = None;
    ///         bytes
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let memory = MemoryManager::builder().budget_bytes(1000).build()?;
    /// let rows = Arc::new(Rows(Mutex::new(Some(memory.try_reserve(800)?))));
    /// let _registration = memory.register_spiller(&rows);
    ///
    /// let reservation = memory.reserve(600).await?;
    /// assert_eq!((reservation.bytes(), rows.spillable_bytes()), (600, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn register_spiller<S: Spill + 'static>(&self, spiller: &Arc<S>) -> SpillRegistration {
        self.root().register_spiller(spiller)
    }
}

impl Budget {
    /// Has `spiller` asked for memory while a reservation waits for room in this budget or one above;
    /// it holds memory of this budget.
    ///
    /// As [`MemoryManager::register_spiller`], which has an example.
    ///
    /// # Examples
    /// ```
    /// # use std::sync::{Arc, Mutex};
    /// # use std::time::{Duration, Instant};
    /// # use tripod_memory::{MemoryManager, Reservation, Spill};
    /// struct Rows(Mutex<Option<Reservation>>);
    ///
    /// impl Spill for Rows {
    ///     fn spillable_bytes(&self) -> u64 {
    ///         self.0.lock().unwrap().as_ref().map_or(0, Reservation::bytes)
    ///     }
    ///
    ///     fn spill(&self, _wanted_bytes: u64) -> u64 {
    ///         self.0.lock().unwrap().take().map_or(0, |rows| rows.bytes())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let memory = MemoryManager::builder().background_collection(false).build()?;
    /// let sort = memory.budget("sort").limit_bytes(1000).create()?;
    /// let rows = Arc::new(Rows(Mutex::new(Some(sort.try_reserve(900)?))));
    /// let _registration = sort.register_spiller(&rows);
    /// let (granted, collected) = tokio::join!(sort.reserve(500), async {
    ///     memory.collect(Instant::now(), Duration::from_millis(1))
    /// });
    /// assert_eq!((granted?.bytes(), collected.spilled_bytes), (500, 900));
    /// # Ok(())
    /// # }
    /// ```
    pub fn register_spiller<S: Spill + 'static>(&self, spiller: &Arc<S>) -> SpillRegistration {
        let registration = self.engine().extras.spillers.register(self.node(), spiller);
        // Somebody may be waiting already.
        self.engine().wake_for_line();
        registration
    }
}

/// Keeps a [`Spill`] registered; dropping it ends that. Comes from [`MemoryManager::register_spiller`]
/// and [`Budget::register_spiller`].
///
/// It keeps neither the spiller nor the memory manager, so the spiller itself may hold it. A call that is
/// under way on another thread when it is dropped goes on to its end; none begins afterwards, except one
/// for which the spiller had been chosen already.
///
/// # Examples
/// ```
/// # use std::sync::Arc;
/// # use tripod_memory::{MemoryManager, Spill, SpillRegistration};
/// # struct Cache;
/// # impl Spill for Cache {
/// #     fn spillable_bytes(&self) -> u64 { 0 }
/// #     fn spill(&self, _: u64) -> u64 { 0 }
/// # }
/// let memory = MemoryManager::builder().build()?;
/// let cache = Arc::new(Cache);
/// let registration: SpillRegistration = memory.register_spiller(&cache);
/// // From now on it is not asked any more.
/// drop(registration);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a spiller is asked only while its registration is kept"]
pub struct SpillRegistration {
    shared: Weak<Shared>,
    id: u64,
}

impl Drop for SpillRegistration {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let entry = shared.lock().entries.remove(&self.id);
            drop(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Holds bytes, and notes in a log that others share what it is asked for.
    struct Holder {
        name: &'static str,
        bytes: AtomicU64,
        log: Arc<Mutex<Vec<(&'static str, u64)>>>,
        then: Box<dyn Fn() + Send + Sync>,
    }

    impl Spill for Holder {
        fn spillable_bytes(&self) -> u64 {
            self.bytes.load(Ordering::SeqCst)
        }

        fn spill(&self, wanted_bytes: u64) -> u64 {
            self.log.lock().unwrap().push((self.name, wanted_bytes));
            (self.then)();
            let given_back = wanted_bytes.min(self.bytes.load(Ordering::SeqCst));
            self.bytes.fetch_sub(given_back, Ordering::SeqCst);
            given_back
        }
    }

    /// Spillers and what they were asked for.
    #[derive(Default)]
    struct Bench {
        spillers: Spillers,
        log: Arc<Mutex<Vec<(&'static str, u64)>>>,
    }

    /// Wants `bytes`, and believes what is said to have come back.
    fn relieve(spillers: &Spillers, bytes: u64) -> u64 {
        relieve_within(spillers, bytes, |_| true)
    }

    fn relieve_within(spillers: &Spillers, bytes: u64, is_within: fn(NodeId) -> bool) -> u64 {
        let rest = |given_back| bytes.saturating_sub(given_back);
        let wanted = |bytes| Wanted { bytes, is_within: Box::new(is_within) };
        spillers.relieve(|given_back| {
            Some(rest(given_back)).filter(|&rest| rest > 0).map(wanted).into_iter().collect()
        })
    }

    impl Bench {
        fn holder(&self, name: &'static str, bytes: u64) -> Arc<Holder> {
            self.holder_that(name, bytes, || ())
        }

        fn holder_that(
            &self,
            name: &'static str,
            bytes: u64,
            then: impl Fn() + Send + Sync + 'static,
        ) -> Arc<Holder> {
            let (bytes, log) = (AtomicU64::new(bytes), self.log.clone());
            Arc::new(Holder { name, bytes, log, then: Box::new(then) })
        }

        #[track_caller]
        fn check(&self, wanted: u64, given_back: u64, asked: &[(&'static str, u64)]) {
            assert_eq!(relieve(&self.spillers, wanted), given_back);
            assert_eq!(std::mem::take(&mut *self.log.lock().unwrap()), asked);
        }
    }

    #[test]
    fn the_largest_is_asked_first_and_nobody_once_there_is_enough() {
        let bench = Bench::default();
        let holders = [bench.holder("a", 100), bench.holder("b", 300), bench.holder("c", 200)];
        let _kept = holders.each_ref().map(|holder| bench.spillers.register(0, holder));
        bench.check(0, 0, &[]);
        bench.check(250, 250, &[("b", 250)]);
        // 100, 50 and 200 are left.
        bench.check(290, 290, &[("c", 290), ("a", 90)]);
        bench.check(1000, 60, &[("b", 1000), ("a", 950)]);
        bench.check(1, 0, &[]);
    }

    #[test]
    fn only_those_are_asked_whose_memory_would_help() {
        let bench = Bench::default();
        let (here, there) = (bench.holder("here", 100), bench.holder("there", 900));
        let _kept = [bench.spillers.register(3, &here), bench.spillers.register(7, &there)];
        assert_eq!(relieve_within(&bench.spillers, 500, |node| node == 3), 100);
        assert_eq!(*bench.log.lock().unwrap(), [("here", 500)]);
    }

    #[test]
    fn sizes_are_read_again_before_each_choice() {
        let bench = Bench::default();
        let small = bench.holder("small", 10);
        let shared = small.clone();
        let large =
            bench.holder_that("large", 500, move || shared.bytes.store(400, Ordering::SeqCst));
        let middle = bench.holder("middle", 100);
        let _kept = [&small, &middle, &large].map(|holder| bench.spillers.register(0, holder));
        bench.check(850, 850, &[("large", 850), ("small", 350)]);
    }

    #[test]
    fn who_left_or_is_gone_is_not_asked() {
        let bench = Bench::default();
        let (left, gone, there) =
            (bench.holder("left", 30), bench.holder("gone", 20), bench.holder("there", 10));
        let registration = bench.spillers.register(0, &left);
        let _kept = [&gone, &there].map(|holder| bench.spillers.register(0, holder));
        drop(registration);
        drop(gone);
        bench.check(100, 10, &[("there", 100)]);
        let orphan = bench.spillers.register(0, &left);
        drop(bench);
        drop(orphan);
    }

    #[test]
    fn a_panic_is_counted_and_the_others_are_asked() {
        struct Broken;
        impl Spill for Broken {
            fn spillable_bytes(&self) -> u64 {
                panic!("it does not know its size");
            }

            fn spill(&self, _: u64) -> u64 {
                unreachable!("nobody asks one without a size");
            }
        }
        let bench = Bench::default();
        let bad = bench.holder_that("bad", 900, || panic!("the file cannot be written"));
        let good = bench.holder("good", 50);
        let broken = Arc::new(Broken);
        let _kept = [&bad, &good].map(|holder| bench.spillers.register(0, holder));
        bench.check(40, 40, &[("bad", 40), ("good", 40)]);
        assert_eq!(bench.spillers.panics(), 1);
        // It is asked again the next time: it may have been the disk.
        let _broken = bench.spillers.register(0, &broken);
        bench.check(100, 10, &[("bad", 100), ("good", 100)]);
        assert!(bench.spillers.panics() >= 3);
    }

    #[test]
    fn a_spiller_may_register_leave_and_relieve_while_it_spills() {
        let bench = Bench::default();
        let (spillers, own) = (bench.spillers.clone(), Arc::new(OnceLock::new()));
        let own_inside = own.clone();
        let extra = bench.holder("extra", 1);
        let extra_inside = extra.clone();
        let busy = bench.holder_that("busy", 100, move || {
            let _registration = spillers.register(0, &extra_inside);
            // It is being asked, so this reaches the others only.
            assert_eq!(relieve(&spillers, 50), 31);
            own_inside
                .get()
                .map(|own: &Mutex<Option<SpillRegistration>>| own.lock().unwrap().take());
        });
        let other = bench.holder("other", 30);
        let _kept = bench.spillers.register(0, &other);
        own.set(Mutex::new(Some(bench.spillers.register(0, &busy)))).unwrap();
        bench.check(70, 70, &[("busy", 70), ("other", 50), ("extra", 20)]);
        // 30 bytes are left in it, but it has gone.
        bench.check(70, 0, &[]);
    }

    #[test]
    fn nobody_is_asked_by_two_threads_at_once() {
        const ROUNDS: usize = if cfg!(miri) { 10 } else { 500 };
        struct Alone {
            inside: AtomicBool,
            calls: AtomicU64,
        }
        impl Spill for Alone {
            fn spillable_bytes(&self) -> u64 {
                1
            }

            fn spill(&self, _: u64) -> u64 {
                assert!(!self.inside.swap(true, Ordering::SeqCst), "two at once");
                std::thread::yield_now();
                self.inside.store(false, Ordering::SeqCst);
                self.calls.fetch_add(1, Ordering::SeqCst);
                1
            }
        }
        let spillers = Spillers::default();
        let alone = Arc::new(Alone { inside: AtomicBool::new(false), calls: AtomicU64::new(0) });
        let _kept = spillers.register(0, &alone);
        let relieved: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..ROUNDS).map(|_| relieve(&spillers, 1)).sum::<u64>()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((spillers.panics(), relieved), (0, alone.calls.load(Ordering::SeqCst)));
        assert!(relieved > 0, "somebody always gets through");
    }
}
