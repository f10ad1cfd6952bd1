//! What a collection does besides giving back idle memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tripod_memory::{BuildError, MemoryManager};

use crate::collected_by_hand;

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_secs(10);

#[test]
fn objects_of_a_managers_pool_go_in_steps_that_end_in_time() {
    let memory = collected_by_hand(1 << 20);
    let pool = memory.object_pool(|| vec![0_u8; 10]).ttl(SECOND).build().unwrap();
    drop((0..100).map(|_| pool.take()).collect::<Vec<_>>());
    let start = Instant::now();
    assert_eq!(memory.collect(start, STEP).objects, 0);
    // With no time at all a step still gets somewhere, and says that there is more to do.
    let step = memory.collect(start + SECOND, Duration::ZERO);
    assert!(step.objects > 0 && step.objects < 100 && !step.is_finished, "{step:?}");
    let rest = memory.collect(start + SECOND, STEP);
    assert_eq!((step.objects + rest.objects, rest.is_finished), (100, true));
    assert_eq!((pool.stats().idle, pool.stats().expired), (0, 100));
}

#[test]
fn a_panic_of_an_object_that_is_dropped_costs_nobody_anything() {
    struct Explosive(bool);
    impl Drop for Explosive {
        fn drop(&mut self) {
            assert!(!self.0, "it explodes");
        }
    }
    let memory = collected_by_hand(1 << 20);
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let make = move || Explosive(count.fetch_add(1, Ordering::SeqCst) == 0);
    let pool = memory.object_pool(make).ttl(SECOND).build().unwrap();
    let other = memory.object_pool(String::new).ttl(SECOND).build().unwrap();
    drop((pool.take(), pool.take(), other.take()));
    let start = Instant::now();
    memory.collect(start, STEP);
    memory.collect(start + SECOND, STEP);
    memory.collect(start + 2 * SECOND, STEP);
    assert_eq!((pool.stats().idle, other.stats().idle, memory.stats().panics), (0, 0, 1));
}

#[test]
fn a_pool_that_is_gone_or_outlives_its_manager_is_left_alone() {
    let memory = collected_by_hand(1 << 20);
    let pool = memory.object_pool(String::new).ttl(SECOND).build().unwrap();
    drop(memory.object_pool(String::new).ttl(SECOND).build().unwrap());
    memory.collect(Instant::now(), STEP);
    drop(memory);
    drop(pool.take());
    assert_eq!(pool.stats().idle, 1);
}

#[test]
fn the_background_collects_a_pool_while_the_manager_has_no_memory_at_all() {
    let memory = MemoryManager::builder().build().unwrap();
    let pool = memory.object_pool(String::new).ttl(Duration::from_millis(8)).build().unwrap();
    for round in 1..=3 {
        // It sleeps after each round, since there is nothing left to look at.
        drop(pool.take());
        while pool.stats().expired < round {
            std::thread::yield_now();
        }
    }
    assert_eq!(memory.stats().committed_bytes, 0);
}

#[test]
fn resident_bytes_follow_what_is_touched_and_given_back() {
    let memory = collected_by_hand(64 << 20);
    let Some(before) = memory.resident_bytes() else { return };
    assert_eq!(before, 0);
    let mut buffers: Vec<_> = (0..8).map(|_| memory.acquire(1 << 20).unwrap()).collect();
    let untouched = memory.resident_bytes().unwrap();
    assert!(untouched < 1 << 20, "{untouched}");
    buffers.iter_mut().for_each(|buffer| buffer.fill(1));
    let touched = memory.resident_bytes().unwrap();
    assert!((8 << 20..9 << 20).contains(&touched), "{touched}");
    drop(buffers);
    memory.trim();
    assert_eq!(memory.resident_bytes(), Some(0));
}

#[test]
fn times_to_live_that_cannot_be_are_refused_and_long_ones_are_kept() {
    let builder = MemoryManager::builder;
    assert!(matches!(builder().ttl(Duration::ZERO).build(), Err(BuildError::ZeroTtl)));
    let zero_class = builder().class_ttl(64, Duration::ZERO).build();
    assert!(matches!(zero_class, Err(BuildError::ZeroTtl)));
    let too_large = builder().class_ttl(usize::MAX, SECOND).build();
    assert!(matches!(too_large, Err(BuildError::NoClass { size_bytes: usize::MAX })));

    let memory = builder().ttl(SECOND).class_ttl(4096, Duration::MAX).background_collection(false);
    let memory = memory.build().unwrap();
    drop((memory.acquire(4096).unwrap(), memory.acquire(65_536).unwrap()));
    let start = Instant::now();
    for second in 0..20 {
        memory.collect(start + second * SECOND, STEP);
    }
    assert_eq!(memory.stats().idle_bytes, 4096);
}
