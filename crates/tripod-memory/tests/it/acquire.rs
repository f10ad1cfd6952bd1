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
    // The second came out of the page that had been asked of the system for the first.
    let stats = memory.stats();
    assert_eq!((stats.hits, stats.misses, stats.refused), (2, 1, 0));
    assert!((stats.hit_rate() - 2.0 / 3.0).abs() < 1e-12);
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
    let memory = manager(4096);
    let full = memory.acquire(4096).unwrap();
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
    assert!(matches!(memory.acquire(max), Err(AcquireError::TooLong { .. })));
    let stats = memory.stats();
    assert_eq!((stats.refused, stats.used_bytes), (3, 0));
}

#[test]
fn a_buffer_larger_than_the_budget_is_unsatisfiable() {
    let memory = manager(100_000);
    let error = memory.acquire(100_001).unwrap_err();
    assert_eq!(
        error.to_string(),
        "buffer needs 114688 bytes, more than the whole budget `root` of 100000"
    );
    assert!(matches!(
        memory.acquire(98_305),
        Err(AcquireError::Unsatisfiable { needed_bytes: 114_688, .. })
    ));
    // Memory is asked for in whole pages, so a budget of less serves no buffer at all.
    assert!(matches!(
        manager(4095).acquire(1),
        Err(AcquireError::Unsatisfiable { needed_bytes: 4096, budget_bytes: 4095, .. })
    ));
}

#[test]
fn idle_buffers_of_other_classes_make_room_and_no_more_than_needed_go() {
    let sizes = [64 << 10, 256 << 10, 1 << 20];
    let memory = manager(sizes.iter().sum::<usize>() as u64);
    let held = sizes.map(|len| memory.acquire(len).unwrap());
    drop(held);
    let buffer = memory.acquire(192 << 10).unwrap();
    let stats = memory.stats();
    assert_eq!(stats.used_bytes, 192 << 10);
    assert_eq!(
        stats.idle_bytes,
        (64 << 10) + (1 << 20),
        "the smallest buffer that suffices was given back"
    );
    drop(buffer);
    assert_eq!(memory.trim(), (64 << 10) + (192 << 10) + (1 << 20));
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
    // 3000 + 5000 leave no room for the idle 4096, which go back before the 5000 are granted.
    reservation.try_grow(5000).unwrap();
    let stats = memory.stats();
    assert_eq!((stats.idle_bytes, stats.committed_bytes, stats.peak_bytes), (0, 8000, 9096));
    drop(reservation);
    assert_eq!((memory.stats().committed_bytes, memory.stats().peak_bytes), (0, 9096));
}
