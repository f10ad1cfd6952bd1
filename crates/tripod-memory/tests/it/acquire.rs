use std::panic::{AssertUnwindSafe, catch_unwind};

use tripod_memory::{AcquireError, MemoryManager};

use crate::manager;

#[test]
fn a_buffer_comes_back_from_its_pool_and_the_last_one_first() {
    let memory = manager(1 << 20);
    let (older, newer) = (memory.acquire(1000).unwrap(), memory.acquire(1000).unwrap());
    let expected = newer.as_ptr();
    drop(older);
    drop(newer);
    assert_eq!(memory.acquire(900).unwrap().as_ptr(), expected);
    let stats = memory.stats();
    assert_eq!((stats.hits, stats.misses, stats.refused), (1, 2, 0));
    assert!((stats.hit_rate() - 1.0 / 3.0).abs() < 1e-12);
}

#[test]
fn a_buffer_is_exactly_as_long_as_asked_for_and_writable_to_its_end() {
    let memory = manager(1 << 20);
    for len in [1, 63, 64, 65, 4095, 4096, 4097] {
        let mut buffer = memory.acquire(len).unwrap();
        buffer.fill(0xA5);
        assert_eq!(&buffer[..], vec![0xA5; len]);
    }
}

#[test]
fn an_empty_buffer_has_no_memory_and_is_not_counted() {
    let memory = manager(64);
    let full = memory.acquire(64).unwrap();
    let before = memory.stats();
    let empty = memory.acquire(0).unwrap();
    assert!(empty.is_empty());
    assert_eq!((empty.len(), empty.capacity()), (0, 0));
    drop(empty);
    assert_eq!(memory.stats(), before);
    drop(full);
}

#[test]
fn a_length_no_allocation_can_have_is_an_error_and_charges_nothing() {
    let memory = MemoryManager::builder().build().unwrap();
    let max = isize::MAX as usize;
    assert!(matches!(
        memory.acquire(usize::MAX),
        Err(AcquireError::TooLong { len: usize::MAX, .. })
    ));
    assert!(matches!(memory.acquire(max + 1), Err(AcquireError::TooLong { .. })));
    let idle = memory.acquire(4096).unwrap();
    drop(idle);
    let error = memory.acquire(max).unwrap_err();
    assert_eq!(error, AcquireError::OutOfMemory { needed_bytes: max as u64 });
    let stats = memory.stats();
    assert_eq!((stats.refused, stats.used_bytes), (3, 0));
    assert_eq!(
        stats.idle_bytes, 0,
        "what was idle went back before the system's refusal was final"
    );
}

#[test]
fn a_buffer_larger_than_the_budget_is_unsatisfiable() {
    let memory = manager(100);
    let error = memory.acquire(101).unwrap_err();
    assert_eq!(
        error.to_string(),
        "buffer needs 112 bytes, more than the whole budget `root` of 100"
    );
    assert!(matches!(
        memory.acquire(97),
        Err(AcquireError::Unsatisfiable { needed_bytes: 112, .. })
    ));
}

#[test]
fn idle_buffers_of_other_classes_make_room_and_no_more_than_needed_go() {
    let memory = manager(64 + 1024 + 4096);
    let held = [64, 1024, 4096].map(|len| memory.acquire(len).unwrap());
    drop(held);
    let buffer = memory.acquire(896).unwrap();
    let stats = memory.stats();
    assert_eq!(stats.used_bytes, 896);
    assert_eq!(stats.idle_bytes, 64 + 4096, "the smallest buffer that suffices was given back");
    drop(buffer);
    assert_eq!(memory.trim(), 64 + 896 + 4096);
    assert_eq!(memory.trim(), 0);
}

#[test]
fn buffers_outlive_the_manager_and_move_between_threads() {
    let memory = manager(1 << 20);
    let mut buffer = memory.acquire(4096).unwrap();
    drop(memory);
    std::thread::spawn(move || {
        buffer.fill(1);
        drop(buffer);
    })
    .join()
    .unwrap();
}

#[test]
fn a_panic_of_the_holder_gives_everything_back() {
    let memory = manager(1 << 20);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _buffer = memory.acquire(4096).unwrap();
        let _reservation = memory.try_reserve(1000).unwrap();
        panic!("the holder");
    }));
    assert!(panicked.is_err());
    let stats = memory.stats();
    assert_eq!((stats.used_bytes, stats.reserved_bytes, stats.idle_bytes), (0, 0, 4096));
    assert_eq!(memory.acquire(4096).unwrap().len(), 4096);
}

#[test]
fn the_peak_counts_what_was_committed_together() {
    let memory = manager(10_000);
    let reservation = memory.try_reserve(5000).unwrap();
    drop(memory.acquire(4096).unwrap());
    assert_eq!((memory.stats().committed_bytes, memory.stats().peak_bytes), (9096, 9096));
    reservation.shrink(4000);
    reservation.try_grow(2000).unwrap();
    assert_eq!((memory.stats().committed_bytes, memory.stats().peak_bytes), (7096, 9096));
    // 3000 + 5000 leave no room for the idle 4096. What the 5000 do not need of it counts until it is
    // freed, so this touches the limit and does not pass it.
    reservation.try_grow(5000).unwrap();
    let stats = memory.stats();
    assert_eq!((stats.idle_bytes, stats.committed_bytes, stats.peak_bytes), (0, 8000, 10_000));
    drop(reservation);
    assert_eq!((memory.stats().committed_bytes, memory.stats().peak_bytes), (0, 10_000));
}
