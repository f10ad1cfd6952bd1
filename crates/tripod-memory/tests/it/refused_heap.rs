//! What becomes of buffers when the heap, from which the books are, refuses: the allocator of this
//! program does so on command, to the thread that commands it.
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]
#![allow(clippy::print_stdout, reason = "some figures are of interest as they are")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use tripod_memory::{AcquireError, Budget, Buffer, MemoryManager};

/// The system's, of which each thread may have only so much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stingy;

thread_local! {
    /// How many allocations the thread may still make, and how many it has been refused.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    static REFUSED: Cell<u64> = const { Cell::new(0) };
}

fn is_granted() -> bool {
    let left = LEFT.get();
    if left == 0 {
        REFUSED.set(REFUSED.get() + 1);
    } else if left < u64::MAX {
        LEFT.set(left - 1);
    }
    left > 0
}

// SAFETY: memory comes from the system's allocator and goes back there, or is refused.
unsafe impl GlobalAlloc for Stingy {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if is_granted() { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if is_granted() {
            // SAFETY: the caller's promise.
            unsafe { System.realloc(start, layout, new_size) }
        } else {
            std::ptr::null_mut()
        }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(start, layout) }
    }
}

/// Refuses after `granted` allocations of this thread, until `work` is done; answers how many.
fn refused_after(granted: u64, work: impl FnOnce()) -> u64 {
    REFUSED.set(0);
    LEFT.set(granted);
    work();
    LEFT.set(u64::MAX);
    REFUSED.get()
}

const TTL: Duration = Duration::from_secs(80);
const KEPT: usize = 400;
const LENS: [usize; 7] = [64, 1000, 4096, 20_000, 300_000, 3 << 20, 65 << 20];

/// Takes what it can get of many sizes and gives it back, by way of every layer; answers how many
/// buffers there were. Any other error than that memory is out is noted.
fn use_all(budget: &Budget, kept: &mut Vec<Buffer>, other: &mut Option<AcquireError>) -> usize {
    let mut served = 0;
    for round in 0..3 {
        for index in 0..KEPT {
            let len = LENS[(index * 7 + round) % LENS.len()];
            // What is large would fill the address space.
            if len > 1 << 20 && index > 30 {
                continue;
            }
            match budget.acquire(len) {
                Ok(buffer) => kept.push(buffer),
                Err(AcquireError::OutOfMemory { .. }) => {}
                Err(error) => *other = Some(error),
            }
        }
        served += kept.len();
        kept.clear();
    }
    served
}

/// One round with a manager of its own; answers how much was refused, of how many buffers there were.
fn round(granted: u64) -> (u64, usize) {
    let builder = MemoryManager::builder().budget_bytes(8 << 30).ttl(TTL);
    let memory = builder.background_collection(false).build().unwrap();
    let child = memory.budget("child").create().unwrap();
    let start = Instant::now();
    // What a class says about itself begins with its first buffer, and what a thread says with its
    // first collection. Both are the metrics' books, which are not asked for what they cannot get.
    thread::scope(|scope| {
        scope.spawn(|| LENS.map(|len| drop(memory.acquire(len).unwrap())));
    });
    memory.collect(start, TTL);
    memory.trim();
    let mut served = LENS.len();
    let (mut kept, mut other) = (Vec::with_capacity(KEPT), None);
    let refused = refused_after(granted, || {
        for budget in [memory.root(), &child] {
            served += use_all(budget, &mut kept, &mut other);
            drop(budget.try_reserve(100_000));
        }
        for tick in 0..10 {
            memory.collect(start + TTL / 8 * tick, TTL);
        }
        memory.trim();
    });
    assert!(other.is_none(), "after {granted} allocations: {other:?}");
    let stats = memory.stats();
    assert_eq!((stats.used_bytes, stats.reserved_bytes), (0, 0), "after {granted}: {stats:?}");
    assert_eq!((stats.hits + stats.misses) as usize, served, "after {granted}: {stats:?}");
    // Once there is memory, all is as it should be.
    let before = served;
    use_all(&child, &mut kept, &mut other);
    assert!(other.is_none(), "after {granted} allocations: {other:?}");
    assert_eq!(memory.stats().refused, stats.refused, "after {granted} allocations");
    memory.trim();
    assert_eq!(memory.stats().committed_bytes, 0);
    (refused, before)
}

#[test]
fn wherever_the_heap_refuses_it_is_an_error_and_no_end() {
    // Each round is refused one allocation later, up to one that needs no more.
    let mut granted = 0;
    loop {
        // On a thread of its own, which has no cache of anything.
        let (refused, served) = thread::spawn(move || round(granted)).join().unwrap();
        if refused == 0 {
            println!("{granted} allocations are enough for {served} buffers");
            assert!(granted > 100 && served > 1500, "{granted} allocations, {served} buffers");
            break;
        }
        // At first one by one: that is where the paths differ.
        granted += 1 + granted / 100;
    }
}
