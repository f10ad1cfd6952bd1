//! Several buffers at once, or none.

use tripod_memory::{AcquireError, Buffer, MemoryManager};

use crate::manager;

#[track_caller]
fn refused(result: Result<Vec<Buffer>, AcquireError>) -> AcquireError {
    result.expect_err("it was expected to be refused")
}

#[test]
fn all_are_handed_out_and_are_different_memory() {
    let memory = manager(1 << 20);
    let mut buffers = memory.acquire_many(1000, 100).unwrap();
    assert_eq!(buffers.len(), 100);
    for (number, buffer) in buffers.iter_mut().enumerate() {
        assert_eq!(buffer.len(), 1000);
        buffer.fill(number as u8);
    }
    assert!((0_u8..).zip(&buffers).all(|(number, buffer)| buffer.iter().all(|&b| b == number)));
    assert_eq!(memory.stats().used_bytes, 100 * 1024);
    drop(buffers);
    assert_eq!(memory.stats().used_bytes, 0);
}

#[test]
fn one_too_many_is_none_and_leaves_room_for_all_but_one() {
    let memory = manager(16 << 10);
    let child = memory.budget("child").limit_bytes(8 << 10).create().unwrap();
    let held = child.acquire(4096).unwrap();
    let error = refused(child.acquire_many(2000, 3));
    assert_eq!(
        error.to_string(),
        "buffer of 6144 bytes does not fit: budget `child` has 4096 free"
    );
    assert_eq!((child.used_bytes(), memory.stats().used_bytes), (4096, 4096));
    assert_eq!(child.acquire_many(2000, 2).unwrap().len(), 2);
    drop(held);
    assert_eq!(child.acquire_many(2000, 4).unwrap().len(), 4);
}

#[test]
fn more_than_the_whole_budget_is_refused_before_anything_is_taken() {
    let memory = manager(1 << 20);
    let error = refused(memory.acquire_many(4096, 257));
    assert!(matches!(
        error,
        AcquireError::Unsatisfiable { needed_bytes: 1_052_672, budget_bytes: 1_048_576, .. }
    ));
    let stats = memory.stats();
    assert_eq!((stats.committed_bytes, stats.misses, stats.refused), (0, 0, 1));
}

#[test]
fn none_of_something_and_many_of_nothing_need_no_room() {
    let memory = manager(4096);
    let page = memory.acquire(4096).unwrap();
    assert!(memory.acquire_many(4096, 0).unwrap().is_empty());
    let nothing = memory.acquire_many(0, 1000).unwrap();
    assert!(nothing.iter().all(|buffer| buffer.is_empty()));
    drop(page);
}

#[test]
fn counts_and_lengths_that_cannot_be_are_errors() {
    let memory = MemoryManager::builder().build().unwrap();
    for (len, count) in [(0, usize::MAX), (1, usize::MAX), (1 << 40, 1), (usize::MAX, usize::MAX)] {
        refused(memory.acquire_many(len, count));
    }
    assert_eq!(memory.stats().used_bytes, 0);
}
