//! Which cache a thread finds: by its number, in a list, and never one of an engine that is gone.

use super::*;
use crate::MemoryManager;

fn manager() -> MemoryManager {
    let builder = MemoryManager::builder().background_collection(false);
    builder.size_classes([64]).unwrap().build().unwrap()
}

/// Takes and returns a buffer, the second time out of the cache.
#[track_caller]
fn check_cached(memory: &MemoryManager) {
    let first = memory.acquire(64).unwrap().as_ptr().addr();
    assert_eq!(memory.acquire(64).unwrap().as_ptr().addr(), first);
}

#[test]
fn two_managers_on_one_thread_keep_their_buffers_apart() {
    let (one, other) = (manager(), manager());
    let held = [one.acquire(64).unwrap(), other.acquire(64).unwrap()];
    let [first, second] = held.each_ref().map(|buffer| buffer.as_ptr().addr());
    drop(held);
    assert_eq!(other.acquire(64).unwrap().as_ptr().addr(), second);
    assert_eq!(one.acquire(64).unwrap().as_ptr().addr(), first);
    drop(one);
    check_cached(&other);
}

#[test]
fn a_number_that_is_used_again_leads_to_no_earlier_cache() {
    for _ in 0..3 {
        let memory = manager();
        check_cached(&memory);
        assert_eq!(memory.stats().misses, 1);
        let kept = memory.acquire(64).unwrap();
        drop(memory);
        check_cached(&manager());
        drop(kept);
    }
}

#[test]
fn managers_beyond_the_table_work_and_end_like_others() {
    let managers: Vec<_> = (0..=ENTRIES).map(|_| manager()).collect();
    let numbers = || managers.iter().map(|memory| memory.root().engine().number());
    assert!(numbers().filter(|&number| number > NUMBER_MAX).count() >= 2);
    for memory in &managers[ENTRIES - 2..] {
        check_cached(memory);
    }
    for (number, memory) in numbers().zip(&managers) {
        let own = own(memory.root().engine()).unwrap();
        let listed = with_cache(entry(number), ptr::from_ref);
        let expected = (number <= NUMBER_MAX).then_some(Shared::as_ptr(&own));
        assert_eq!(listed, expected, "{number}");
    }
}

#[test]
fn a_thread_that_ends_gives_back_what_it_has_of_every_manager() {
    let managers = [manager(), manager()];
    std::thread::scope(|scope| {
        scope.spawn(|| managers.iter().for_each(check_cached)).join().unwrap();
    });
    for memory in &managers {
        assert_eq!(memory.trim(), memory.stats().peak_bytes);
        assert_eq!(memory.stats().hits + memory.stats().misses, 2);
    }
}
