//! What happens between a thread that is at work in its cache and one that has the lock, step by step.

use std::sync::mpsc::channel;
use std::task::Wake;
use std::thread;
use std::time::Duration;

use super::*;
use crate::ledger::Answer;
use crate::{MemoryManager, Reservation};

/// A magazine of this class holds the newest buffer and no other.
const SIZE: usize = 256 << 10;

/// Grows a reservation as it is woken, on the thread that wakes it.
struct Grows(Reservation);

impl Wake for Grows {
    fn wake(self: Arc<Self>) {
        let _ = self.0.try_grow(1);
    }
}

/// A thread at work in its cache is asked for what it has, and what it then puts on the shelf grants
/// another something, whose waker needs that the thread has heard of it. False if the thread was not
/// at work just when it was asked.
fn try_with_a_thread_at_work() -> bool {
    let builder = MemoryManager::builder().budget_bytes(3 * SIZE as u64);
    let builder = builder.size_classes([SIZE]).unwrap().background_collection(false);
    let memory = builder.build().unwrap();
    let grows = Arc::new(Grows(memory.try_reserve(SIZE as u64).unwrap()));
    let (ready, is_ready) = channel();
    let (go, may_go) = channel();
    let (done, is_done) = channel();
    thread::spawn({
        let memory = memory.clone();
        move || {
            let buffers = [(); 2].map(|()| memory.acquire(SIZE).unwrap());
            ready.send(()).unwrap();
            may_go.recv().unwrap();
            // The second has no place in the magazine, and goes to the shelf.
            drop(buffers);
            done.send(()).unwrap();
        }
    });
    is_ready.recv().unwrap();

    let engine = memory.root().engine();
    let mut state = engine.lock();
    go.send(()).unwrap();
    while !state.caches[0].cache.guard.is_busy() {
        thread::yield_now();
    }
    let mut wait = |bytes, waker| {
        let Ok(Answer::Waiting(ticket)) = state.ledger.request(ROOT, bytes, 0) else {
            panic!("nothing is free");
        };
        state.waiters.insert(ticket, Waiter { waker, node: ROOT, since: None });
        ticket
    };
    let tickets =
        [wait(SIZE as u64, Waker::from(grows)), wait(2 * SIZE as u64, Waker::noop().clone())];
    state.adjust_level();
    let was_at_work = state.caches[0].cache.guard.is_pending();
    drop(state);
    let ended = is_done.recv_timeout(Duration::from_secs(20));
    assert_eq!(ended, Ok(()), "the thread waits for itself");
    let [first, second] = tickets;
    engine.cancel(ROOT, first, SIZE as u64);
    engine.cancel(ROOT, second, 2 * SIZE as u64);
    assert_eq!(memory.stats().reserved_bytes, 0);
    was_at_work
}

#[test]
fn a_waker_may_ask_for_more_on_a_thread_that_has_just_been_asked() {
    while !try_with_a_thread_at_work() {}
}
