use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tripod_memory::{Budget, MemoryManager, Reservation, Spill, SpillRegistration};

use crate::{collected_by_hand, granted, in_line, poll};

const STEP: Duration = Duration::from_secs(10);

/// Holds reservations of 100 bytes, and gives back as many as needed.
struct Holder {
    held: Mutex<Vec<Reservation>>,
    asked: Mutex<Vec<u64>>,
}

impl Holder {
    fn new(budget: &Budget, count: usize) -> (Arc<Self>, SpillRegistration) {
        let reserve = |_| budget.try_reserve(100).expect("there is room");
        let held = (0..count).map(reserve).collect();
        let holder = Arc::new(Self { held: Mutex::new(held), asked: Mutex::default() });
        let registration = budget.register_spiller(&holder);
        (holder, registration)
    }

    fn held(&self) -> MutexGuard<'_, Vec<Reservation>> {
        self.held.lock().expect("nobody panics with it")
    }

    /// What it has been asked for since the last call.
    fn asked(&self) -> Vec<u64> {
        std::mem::take(&mut self.asked.lock().expect("nobody panics with it"))
    }
}

impl Spill for Holder {
    fn spillable_bytes(&self) -> u64 {
        100 * self.held().len() as u64
    }

    fn spill(&self, wanted_bytes: u64) -> u64 {
        self.asked.lock().expect("nobody panics with it").push(wanted_bytes);
        let mut held = self.held();
        let count = (wanted_bytes.div_ceil(100) as usize).min(held.len());
        let kept = held.len() - count;
        // Dropped with our own lock held, and with none of the manager's.
        held.truncate(kept);
        100 * count as u64
    }
}

#[test]
fn whoever_waits_is_served_by_the_largest_first_and_no_more_is_asked_for_than_is_short() {
    let memory = collected_by_hand(1000);
    let (small, _small) = Holder::new(memory.root(), 2);
    let (large, _large) = Holder::new(memory.root(), 6);
    let mut waits = in_line(memory.reserve(450));
    assert!(small.asked().is_empty() && large.asked().is_empty(), "nobody is asked on this thread");
    let collected = memory.collect(Instant::now(), STEP);
    assert_eq!((large.asked(), small.asked()), (vec![250], vec![]));
    assert_eq!((collected.spilled_bytes, memory.stats().spilled_bytes), (300, 300));
    assert_eq!(granted(&mut waits).bytes(), 450);
}

#[test]
fn all_in_line_are_served_even_if_that_takes_several_rounds() {
    let memory = collected_by_hand(1000);
    let (only, _only) = Holder::new(memory.root(), 10);
    let mut line: Vec<_> = (0..5).map(|_| in_line(memory.reserve(200))).collect();
    memory.collect(Instant::now(), STEP);
    let held: Vec<_> = line.iter_mut().map(granted).collect();
    assert_eq!((held.len(), only.asked()), (5, vec![200; 5]));
}

#[test]
fn only_memory_of_the_budget_that_is_full_or_below_it_is_asked_for() {
    let memory = collected_by_hand(10_000);
    let full = memory.budget("full").limit_bytes(500).create().unwrap();
    let below = full.budget("below").create().unwrap();
    let beside = memory.budget("beside").create().unwrap();
    let (inner, _inner) = Holder::new(&below, 5);
    let (other, _other) = Holder::new(&beside, 50);
    let (root, _root) = Holder::new(memory.root(), 20);
    let mut waits = in_line(full.reserve(120));
    memory.collect(Instant::now(), STEP);
    assert_eq!((inner.asked(), other.asked(), root.asked()), (vec![120], vec![], vec![]));
    assert_eq!(granted(&mut waits).bytes(), 120);
}

#[test]
fn without_a_line_nobody_is_asked_and_taking_without_waiting_asks_nobody() {
    let memory = collected_by_hand(1000);
    let (holder, registration) = Holder::new(memory.root(), 10);
    assert!(memory.try_reserve(1).is_err());
    assert!(memory.acquire(64).is_err());
    memory.collect(Instant::now(), STEP);
    assert!(holder.asked().is_empty());
    drop(registration);
    let waits = in_line(memory.reserve(1));
    memory.collect(Instant::now(), STEP);
    assert!(holder.asked().is_empty());
    drop(waits);
}

#[test]
fn idle_memory_goes_before_anybody_is_asked() {
    let memory = collected_by_hand(10_000);
    let (holder, _registration) = Holder::new(memory.root(), 18);
    drop(memory.acquire(8192).unwrap());
    assert_eq!(granted(&mut memory.reserve(8000)).bytes(), 8000);
    drop(memory.acquire(8192).unwrap());
    let mut waits = in_line(memory.reserve(8300));
    memory.collect(Instant::now(), STEP);
    assert_eq!(holder.asked(), [100]);
    assert_eq!(granted(&mut waits).bytes(), 8300);
}

#[test]
fn one_who_lies_or_panics_ends_no_collection() {
    struct Broken(bool);
    impl Spill for Broken {
        fn spillable_bytes(&self) -> u64 {
            1 << 40
        }

        fn spill(&self, wanted_bytes: u64) -> u64 {
            assert!(self.0, "the disk is full");
            wanted_bytes
        }
    }
    let memory = collected_by_hand(1000);
    let (honest, _honest) = Holder::new(memory.root(), 10);
    let broken = [Arc::new(Broken(true)), Arc::new(Broken(false))];
    let _broken = broken.each_ref().map(|broken| memory.register_spiller(broken));
    let mut waits = in_line(memory.reserve(300));
    memory.collect(Instant::now(), STEP);
    assert_eq!(honest.asked(), [300]);
    let taken = granted(&mut waits);
    assert_eq!((taken.bytes(), memory.stats().panics), (300, 1));
    // Nobody can help here: it ends all the same.
    drop(honest);
    let waits = in_line(memory.reserve(900));
    memory.collect(Instant::now(), STEP);
    drop((waits, taken));
}

#[tokio::test]
async fn the_background_asks_as_soon_as_somebody_waits() {
    let memory = MemoryManager::builder().budget_bytes(1000).build().unwrap();
    let (holder, _registration) = Holder::new(memory.root(), 10);
    let reservation = memory.reserve(250).await.unwrap();
    assert_eq!((reservation.bytes(), holder.spillable_bytes()), (250, 700));
}

#[tokio::test]
async fn the_background_asks_again_when_there_is_something_to_give_back_later() {
    let memory = MemoryManager::builder().budget_bytes(1000).build().unwrap();
    let (holder, _registration) = Holder::new(memory.root(), 0);
    let held = memory.try_reserve(1000).unwrap();
    let mut waits = memory.reserve(100);
    assert!(poll(&mut waits).is_pending());
    // Now it has something.
    holder.held().push(held);
    assert_eq!(waits.await.unwrap().bytes(), 100);
}
