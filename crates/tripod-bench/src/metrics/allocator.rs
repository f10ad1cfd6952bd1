//! The allocator of this binary: that of the system, with a count of what each thread asks of it.
//!
//! The counts are kept per thread and without atomics, so that counting puts no two threads at
//! odds: opponents that allocate while they record are slowed by about a nanosecond per
//! allocation, and by nothing that grows with the number of threads.
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

thread_local! {
    static USED: Cell<Allocated> = const { Cell::new(Allocated { count: 0, net_bytes: 0 }) };
}

/// What a thread took from the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allocated {
    /// Calls that may have found memory: allocations and reallocations.
    pub(crate) count: u64,
    /// Bytes asked for, less bytes given back.
    pub(crate) net_bytes: i64,
}

/// Does `work` and tells what it took from the heap on this thread.
pub(crate) fn counted<T>(work: impl FnOnce() -> T) -> (T, Allocated) {
    let before = USED.get();
    let made = work();
    let after = USED.get();
    let count = after.count - before.count;
    (made, Allocated { count, net_bytes: after.net_bytes - before.net_bytes })
}

struct CountingAllocator;

impl CountingAllocator {
    fn count(calls: u64, grown: usize, shrunk: usize) {
        // A size never passes `isize::MAX`, by the contract of `Layout`.
        let change = grown.cast_signed() as i64 - shrunk.cast_signed() as i64;
        let used = USED.get();
        USED.set(Allocated { count: used.count + calls, net_bytes: used.net_bytes + change });
    }
}

// SAFETY: each call goes to `System` unchanged. Counting touches only a cell that needs neither
// memory nor a destructor, so it neither allocates nor fails while a thread ends.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(1, layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(1, layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::count(0, 0, layout.size());
        // SAFETY: the block came from `System`, since all do, and with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(1, size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_counts_and_what_is_given_back_does_not() {
        let (kept, allocated) = counted(|| {
            drop(vec![1_u8; 5_000]);
            vec![2_u8; 300]
        });
        assert_eq!(allocated, Allocated { count: 2, net_bytes: 300 });
        let ((), allocated) = counted(|| drop(kept));
        assert_eq!(allocated, Allocated { count: 0, net_bytes: -300 });
    }

    #[test]
    fn another_thread_has_its_own_count() {
        let ((), allocated) = counted(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| std::hint::black_box(vec![0_u8; 1 << 20]));
            });
        });
        assert!(allocated.net_bytes < 1 << 20, "{allocated:?}");
    }
}
