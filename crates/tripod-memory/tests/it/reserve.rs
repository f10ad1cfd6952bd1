use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tripod_memory::{MemoryManager, Reservation, Reserve, ReserveError};

use crate::{Wakes, granted, in_line, manager, poll, poll_with};

#[test]
fn handles_are_send_sync_and_static() {
    fn check<T: Send + Sync + 'static>() {}
    check::<MemoryManager>();
    check::<Reservation>();
    check::<Reserve>();
    check::<tripod_memory::Buffer>();
}

#[test]
fn waiters_are_served_in_the_order_of_their_first_poll() {
    let memory = manager(100);
    let held = memory.try_reserve(100).unwrap();
    let called_first = memory.reserve(40);
    let mut first = in_line(memory.reserve(40));
    let mut second = in_line(called_first);
    let mut third = in_line(memory.reserve(40));
    held.shrink(50);
    let one = granted(&mut first);
    assert!(poll(&mut second).is_pending());
    drop(held);
    let _two = granted(&mut second);
    assert!(poll(&mut third).is_pending());
    drop(one);
    assert_eq!(granted(&mut third).bytes(), 40);
    let stats = memory.stats();
    assert_eq!((stats.waits, stats.waiting), (3, 0));
}

#[test]
fn small_requests_do_not_overtake_a_large_one_that_waits() {
    let memory = manager(100);
    let held = memory.try_reserve(60).unwrap();
    let mut large = in_line(memory.reserve(80));
    let mut small = in_line(memory.reserve(10));
    let refused = memory.try_reserve(10).unwrap_err();
    assert!(matches!(refused, ReserveError::WouldWait { free_bytes: 40, waiting: 2, .. }));
    // Small ones that are in already may come and go; the large one still is next.
    held.shrink(30);
    assert!(poll(&mut small).is_pending());
    drop(held);
    let large = granted(&mut large);
    assert_eq!((large.bytes(), granted(&mut small).bytes()), (80, 10));
}

#[test]
fn those_who_are_admitted_take_what_is_free_while_others_wait() {
    let memory = manager(5000);
    let held = memory.try_reserve(500).unwrap();
    let waits = in_line(memory.reserve(5000));
    held.try_grow(300).unwrap();
    let buffer = memory.acquire(4096).unwrap();
    assert_eq!(memory.stats().committed_bytes, 4896);
    assert!(matches!(held.try_grow(105), Err(ReserveError::WouldWait { free_bytes: 104, .. })));
    drop((waits, held, buffer));
}

#[test]
fn nothing_needs_no_place_in_line() {
    let memory = manager(10);
    let _held = memory.try_reserve(10).unwrap();
    let _waits = in_line(memory.reserve(1));
    assert_eq!(granted(&mut memory.reserve(0)).bytes(), 0);
    assert_eq!(memory.try_reserve(0).unwrap().bytes(), 0);
}

#[test]
fn what_can_never_fit_is_refused_without_a_wait() {
    let memory = manager(10);
    let _held = memory.try_reserve(10).unwrap();
    let mut impossible = memory.reserve(11);
    let Poll::Ready(Err(error)) = poll(&mut impossible) else { panic!("it waits") };
    assert_eq!(error.to_string(), "11 bytes are more than the whole budget `root` of 10");
    assert_eq!(memory.stats().waits, 0);
}

#[test]
fn idle_buffers_give_way_to_a_request_instead_of_making_it_wait() {
    let memory = manager(4096);
    drop(memory.acquire(4096).unwrap());
    assert_eq!(granted(&mut memory.reserve(1)).bytes(), 1);
    assert_eq!(memory.stats().idle_bytes, 0);
}

#[test]
fn a_buffer_that_comes_back_serves_the_line_and_not_the_pool() {
    let memory = manager(4096);
    let buffer = memory.acquire(4096).unwrap();
    let (wakes, waker) = Wakes::new();
    let mut waits = memory.reserve(100);
    assert!(poll_with(&mut waits, &waker).is_pending());
    drop(buffer);
    assert_eq!(wakes.count(), 1);
    assert_eq!(granted(&mut waits).bytes(), 100);
    assert_eq!(memory.stats().idle_bytes, 0);
}

#[test]
fn dropped_before_its_first_poll_it_leaves_no_trace() {
    let memory = manager(10);
    drop(memory.reserve(5));
    let mut finished = memory.reserve(5);
    drop(granted(&mut finished));
    drop(finished);
    assert_eq!((memory.stats().reserved_bytes, memory.stats().waits), (0, 0));
}

#[test]
fn dropped_in_line_it_lets_those_behind_it_pass() {
    let memory = manager(100);
    let _held = memory.try_reserve(60).unwrap();
    let large = in_line(memory.reserve(80));
    let (wakes, waker) = Wakes::new();
    let mut small = memory.reserve(40);
    assert!(poll_with(&mut small, &waker).is_pending());
    drop(large);
    assert_eq!((wakes.count(), memory.stats().waiting), (1, 0));
    assert_eq!(granted(&mut small).bytes(), 40);
}

#[test]
fn dropped_when_granted_but_not_polled_it_passes_the_bytes_on() {
    let memory = manager(100);
    let held = memory.try_reserve(100).unwrap();
    let first = in_line(memory.reserve(100));
    let (wakes, waker) = Wakes::new();
    let mut second = memory.reserve(100);
    assert!(poll_with(&mut second, &waker).is_pending());
    drop(held);
    assert_eq!((memory.stats().reserved_bytes, wakes.count()), (100, 0), "the first is granted");
    drop(first);
    assert_eq!((memory.stats().reserved_bytes, wakes.count()), (100, 1), "the second is granted");
    drop(granted(&mut second));
    assert_eq!(memory.stats().reserved_bytes, 0);
}

#[test]
fn only_the_waker_of_the_last_poll_is_woken() {
    let memory = manager(10);
    let held = memory.try_reserve(10).unwrap();
    let (older, older_waker) = Wakes::new();
    let (newer, newer_waker) = Wakes::new();
    let mut waits = memory.reserve(10);
    assert!(poll_with(&mut waits, &older_waker).is_pending());
    assert!(poll_with(&mut waits, &newer_waker).is_pending());
    drop(held);
    assert_eq!((older.count(), newer.count()), (0, 1));
}

#[test]
fn a_waker_may_use_the_manager() {
    struct Asks(MemoryManager);
    impl Wake for Asks {
        fn wake(self: Arc<Self>) {
            assert_eq!(self.0.stats().waiting, 0);
            drop(self.0.acquire(64));
        }
    }
    let memory = manager(10_000);
    let held = memory.try_reserve(10_000).unwrap();
    let waker = Waker::from(Arc::new(Asks(memory.clone())));
    let mut waits = memory.reserve(10);
    assert!(std::pin::Pin::new(&mut waits).poll(&mut Context::from_waker(&waker)).is_pending());
    drop(held);
    assert_eq!(memory.stats().misses, 1);
}

#[test]
fn shrinking_gives_back_at_most_what_is_held() {
    let memory = manager(100);
    let held = memory.try_reserve(50).unwrap();
    assert_eq!((held.shrink(20), held.bytes()), (20, 30));
    assert_eq!((held.shrink(u64::MAX), held.bytes()), (30, 0));
    assert_eq!((held.shrink(1), memory.stats().reserved_bytes), (0, 0));
    held.try_grow(100).unwrap();
    assert_eq!(memory.root().used_bytes(), 100);
}

#[tokio::test]
async fn a_task_that_is_aborted_in_line_frees_its_place() {
    let memory = manager(100);
    let held = memory.reserve(100).await.unwrap();
    let aborted = tokio::spawn(memory.reserve(60));
    tokio::task::yield_now().await;
    let next = tokio::spawn(memory.reserve(60));
    tokio::task::yield_now().await;
    assert_eq!(memory.stats().waiting, 2);
    drop(held);
    aborted.abort();
    drop(aborted.await);
    assert_eq!(next.await.unwrap().unwrap().bytes(), 60);
    assert_eq!(memory.stats().committed_bytes, 0);
}

#[test]
fn bytes_that_are_moved_pass_by_those_in_line() {
    let memory = manager(1000);
    let (ending, growing) = (memory.try_reserve(600).unwrap(), memory.try_reserve(400).unwrap());
    let mut waiting = in_line(memory.reserve(300));
    assert_eq!(ending.move_to(&growing, 500), 500);
    assert_eq!((ending.bytes(), growing.bytes()), (100, 900));
    assert!(poll(&mut waiting).is_pending());
    assert_eq!(ending.move_to(&growing, 500), 100, "at most what is held");
    drop(ending);
    assert_eq!(memory.stats().reserved_bytes, 1000);
    drop(growing);
    assert_eq!(granted(&mut waiting).bytes(), 300);
}

#[test]
fn bytes_are_not_moved_between_budgets_or_to_themselves() {
    let memory = manager(1000);
    let child = memory.budget("child").limit_bytes(500).create().unwrap();
    let (root, child) = (memory.try_reserve(300).unwrap(), child.try_reserve(300).unwrap());
    assert_eq!(root.move_to(&child, 100), 0);
    let other = manager(1000).try_reserve(300).unwrap();
    assert_eq!(root.move_to(&other, 100), 0);
    assert_eq!(root.move_to(&root, 100), 0);
    assert_eq!((root.bytes(), child.bytes(), other.bytes()), (300, 300, 300));
}
