//! An allocator that counts by account, for a program that wants to know which part of it holds what.
//!
//! [`CountingAllocator`] stands in front of another allocator. In front of each piece of memory it keeps
//! 16 bytes, or as many as the alignment, whose last 16 hold the account that the memory was allocated
//! under; so whoever frees it, on whatever thread, the right account is credited.
//!
//! # Who may touch what
//! - The header of a piece of memory is written when it is allocated, and read by whoever frees or
//!   resizes it, who holds it alone. A resize moves it along with the contents.
//! - Which account a thread counts to is in thread-local storage that is initialised at compile time and has
//!   no destructor. So reading it allocates nothing, and works while a thread ends.
//! - The counters are sums; they order no other memory: all accesses are Relaxed ([`tally`]).
//!
//! # Where it stops
//! It counts the bytes asked for, not the header and not what the allocator below rounds up to. Memory
//! allocated with no account entered is not counted. A thread inherits no account from the one that
//! spawned it. Atomics are the standard library's under loom, too: loom's can be in no static.

#![allow(unsafe_code, reason = "an allocator hands out raw memory and keeps a header before it")]

mod charge;
mod tally;
#[cfg(test)]
mod tests;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

pub use self::charge::AccountCharge;
pub(crate) use self::charge::Followed;
use self::tally::Tally;

/// What the header of an allocation holds; none if no account was entered.
type Owner = Option<&'static AllocationAccount>;

/// The least room in front of an allocation, and the distance of the header from it, in bytes.
const HEADER_BYTES: usize = 16;

const _: () = assert!(size_of::<Owner>() <= HEADER_BYTES && align_of::<Owner>() <= HEADER_BYTES);

thread_local! {
    /// The account that this thread's allocations count to.
    static ENTERED: Cell<Owner> = const { Cell::new(None) };
}

/// Allocations counted together: those of a parser, say, or of a cache.
///
/// It counts what is allocated by threads that have [entered](Self::enter) it, until it is freed. Only
/// with a [`CountingAllocator`] installed is there anything to count.
///
/// An account is a static: memory that was allocated under it may be freed at any later time. It takes
/// 2 KiB, because threads count in different cache lines.
///
/// # Examples
/// See [`CountingAllocator`] for a whole program.
/// ```
/// # use tripod_memory::AllocationAccount;
/// static PARSER: AllocationAccount = AllocationAccount::new("parser");
/// assert_eq!((PARSER.name(), PARSER.bytes()), ("parser", 0));
/// ```
pub struct AllocationAccount {
    name: &'static str,
    tally: Tally,
}

impl AllocationAccount {
    /// Makes an account with nothing counted to it.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::AllocationAccount;
    /// static PARSER: AllocationAccount = AllocationAccount::new("parser");
    /// assert_eq!((PARSER.allocations(), PARSER.peak_bytes()), (0, 0));
    /// ```
    pub const fn new(name: &'static str) -> Self {
        Self { name, tally: Tally::new() }
    }

    /// Returns the account's name.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::AllocationAccount;
    /// static PARSER: AllocationAccount = AllocationAccount::new("parser");
    /// assert_eq!(PARSER.name(), "parser");
    /// ```
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Counts the calling thread's allocations to this account until the scope is dropped; then to the
    /// one before it, or to none.
    ///
    /// Scopes nest, and must be dropped in the reverse order of their making, as Rust does by itself.
    /// A scope stays on its thread, so it cannot be held over an `await` in a task that moves between
    /// threads: enter inside of each poll.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::AllocationAccount;
    /// static PARSER: AllocationAccount = AllocationAccount::new("parser");
    /// static NAMES: AllocationAccount = AllocationAccount::new("names");
    ///
    /// let _parser = PARSER.enter();
    /// let tree: Vec<u32> = Vec::with_capacity(100); // counts to `parser`
    /// {
    ///     let _names = NAMES.enter();
    ///     let name = String::from("a name"); // counts to `names`
    ///     # drop(name);
    /// }
    /// let more = tree.clone(); // counts to `parser`
    /// # drop(more);
    /// ```
    pub fn enter(&'static self) -> AllocationScope {
        AllocationScope { before: ENTERED.replace(Some(self)), on_this_thread: PhantomData }
    }

    /// Returns the bytes that are allocated now, as asked for.
    ///
    /// Exact when no allocation is under way; else each thread that counts meanwhile may add a few KiB of
    /// error.
    ///
    /// # Examples
    /// ```standalone_crate
    /// use tripod_memory::{AllocationAccount, CountingAllocator};
    ///
    /// #[global_allocator]
    /// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
    ///
    /// static PARSER: AllocationAccount = AllocationAccount::new("parser");
    ///
    /// fn main() {
    ///     let scope = PARSER.enter();
    ///     let words = vec![0_u64; 1000];
    ///     drop(scope);
    ///     assert_eq!(PARSER.bytes(), 8000);
    ///     drop(words);
    ///     assert_eq!(PARSER.bytes(), 0);
    /// }
    /// ```
    pub fn bytes(&self) -> u64 {
        self.tally.bytes()
    }

    /// Returns the most bytes that were ever allocated at once.
    ///
    /// Exact for one thread. With several, the moments of their highest counts are not known to each
    /// other to the byte, so it may be wrong by up to 4 KiB for each thread, and 64 KiB in all.
    ///
    /// # Examples
    /// ```standalone_crate
    /// use tripod_memory::{AllocationAccount, CountingAllocator};
    ///
    /// #[global_allocator]
    /// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
    ///
    /// static PARSER: AllocationAccount = AllocationAccount::new("parser");
    ///
    /// fn main() {
    ///     let scope = PARSER.enter();
    ///     drop(vec![0_u64; 1000]);
    ///     drop(vec![0_u64; 10]);
    ///     drop(scope);
    ///     assert_eq!(PARSER.peak_bytes(), 8000);
    /// }
    /// ```
    pub fn peak_bytes(&self) -> u64 {
        self.tally.peak_bytes()
    }

    /// Returns how many allocations have been made, those freed again included. Resizing is none.
    ///
    /// # Examples
    /// ```standalone_crate
    /// use tripod_memory::{AllocationAccount, CountingAllocator};
    ///
    /// #[global_allocator]
    /// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
    ///
    /// static PARSER: AllocationAccount = AllocationAccount::new("parser");
    ///
    /// fn main() {
    ///     let scope = PARSER.enter();
    ///     drop(vec![0_u64; 1000]);
    ///     drop(vec![0_u64; 10]);
    ///     drop(scope);
    ///     assert_eq!(PARSER.allocations(), 2);
    /// }
    /// ```
    pub fn allocations(&self) -> u64 {
        self.tally.allocations()
    }
}

impl fmt::Debug for AllocationAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllocationAccount")
            .field("name", &self.name)
            .field("bytes", &self.bytes())
            .field("peak_bytes", &self.peak_bytes())
            .field("allocations", &self.allocations())
            .finish()
    }
}

/// While it lives, the thread's allocations count to an account; comes from [`AllocationAccount::enter`].
///
/// It is not [`Send`]:
/// ```compile_fail,E0277
/// # use tripod_memory::AllocationAccount;
/// static PARSER: AllocationAccount = AllocationAccount::new("parser");
/// let scope = PARSER.enter();
/// std::thread::spawn(move || drop(scope));
/// ```
#[derive(Debug)]
#[must_use = "allocations count to the account only while the scope lives"]
pub struct AllocationScope {
    before: Owner,
    /// The scope belongs to the thread that entered, so it is not [`Send`].
    on_this_thread: PhantomData<*const ()>,
}

impl Drop for AllocationScope {
    fn drop(&mut self) {
        ENTERED.set(self.before);
    }
}

/// An allocator that counts what is allocated to the [`AllocationAccount`] that the thread has entered,
/// and leaves the work to another one, by default the [`System`]'s.
///
/// It costs 16 bytes for each allocation (or its alignment, where that is more), a read of thread-local
/// storage, and within an account two additions on a cache line that few threads share.
///
/// # Examples
/// ```standalone_crate
/// use tripod_memory::{AllocationAccount, CountingAllocator};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
///
/// static PARSER: AllocationAccount = AllocationAccount::new("parser");
///
/// fn main() {
///     let words = {
///         let _scope = PARSER.enter();
///         vec![0_u64; 1000]
///     };
///     let others = vec![0_u64; 5000];
///     assert_eq!((PARSER.bytes(), PARSER.allocations()), (8000, 1));
///
///     // Whoever frees it, and whenever: the account gets it back.
///     std::thread::spawn(move || drop(words)).join().unwrap();
///     assert_eq!((PARSER.bytes(), PARSER.peak_bytes()), (0, 8000));
///     # drop(others);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator<A = System> {
    below: A,
}

impl CountingAllocator {
    /// Counts in front of the system's allocator.
    ///
    /// # Examples
    /// ```standalone_crate
    /// use tripod_memory::CountingAllocator;
    ///
    /// #[global_allocator]
    /// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
    ///
    /// fn main() {
    ///     // Nobody has entered an account: it is allocated as ever, and counted to none.
    ///     assert_eq!(vec![7_u8; 1000].len(), 1000);
    /// }
    /// ```
    pub const fn new() -> Self {
        Self::over(System)
    }
}

impl<A> CountingAllocator<A> {
    /// Counts in front of `below`.
    ///
    /// # Examples
    /// ```standalone_crate
    /// # use std::alloc::System;
    /// # use tripod_memory::CountingAllocator;
    /// // In the place of `System`: any other allocator.
    /// #[global_allocator]
    /// static ALLOCATOR: CountingAllocator<System> = CountingAllocator::over(System);
    /// # fn main() {}
    /// ```
    pub const fn over(below: A) -> Self {
        Self { below }
    }
}

/// Where an allocation lies within the memory that is asked for in its place.
struct Frame {
    /// What is asked for: room for the header, then the contents.
    outer: Layout,
    /// The distance of the contents from its start: a multiple of the alignment, and at least
    /// [`HEADER_BYTES`].
    offset: usize,
}

impl Frame {
    /// None if it is more than an allocation can be.
    #[inline]
    fn around(contents: Layout) -> Option<Self> {
        let offset = contents.align().max(HEADER_BYTES);
        let size = contents.size().checked_add(offset)?;
        let outer = Layout::from_size_align(size, offset).ok()?;
        Some(Self { outer, offset })
    }

    /// The frame around contents that have been allocated.
    ///
    /// # Safety
    /// [`Frame::around`] has had an answer for `contents`.
    #[inline]
    unsafe fn around_allocated(contents: Layout) -> Self {
        let offset = contents.align().max(HEADER_BYTES);
        let size = contents.size() + offset;
        // SAFETY: the same size and alignment have made a layout before, says the caller.
        let outer = unsafe { Layout::from_size_align_unchecked(size, offset) };
        Self { outer, offset }
    }
}

/// Writes the header of new memory, counts it, and answers where its contents begin.
///
/// # Safety
/// `start` is null, or memory of `frame.outer` that nobody else uses.
#[inline]
unsafe fn open(start: *mut u8, frame: &Frame, size: usize) -> *mut u8 {
    if start.is_null() {
        return start;
    }
    let owner = ENTERED.get();
    // SAFETY: `offset` is less than the size of the memory at `start`, or equal to it.
    let contents = unsafe { start.add(frame.offset) };
    // SAFETY: `HEADER_BYTES` lie before the contents, all of them ours, and at a multiple of 16.
    unsafe { header(contents).write(owner) };
    if let Some(account) = owner {
        account.tally.count(size);
    }
    contents
}

/// The same address, as a way to all of the memory that `below` gave.
///
/// To the compiler a pointer from the global allocator leads to the bytes that were asked for and no
/// further. Where it sees an allocation and its end in one function (with link-time optimisation it
/// does: Rust 1.95, 2026-11) it takes a look at the header for one that cannot happen, and leaves out
/// all that comes after. What has been through a black box leads anywhere.
#[inline]
fn beyond_contents(contents: *mut u8) -> *mut u8 {
    std::hint::black_box(contents)
}

/// Where the owner of `contents` is noted.
///
/// # Safety
/// `contents` has come from [`open`].
#[inline]
unsafe fn header(contents: *mut u8) -> *mut Owner {
    // SAFETY: at least `HEADER_BYTES` of the same memory lie before the contents. The address is a
    // multiple of 16, since the contents lie at one.
    unsafe { contents.sub(HEADER_BYTES) }.cast()
}

// SAFETY: memory comes from `below`, framed by a layout that holds the contents at an offset which keeps
// their alignment, and goes back to `below` by the same pointer and layout. Nothing in here panics or
// allocates: the thread-local has neither an initialiser nor a destructor, and the counters are atomics.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAllocator<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(frame) = Frame::around(layout) else { return std::ptr::null_mut() };
        // SAFETY: the size is not zero, since it has room for the header.
        let start = unsafe { self.below.alloc(frame.outer) };
        // SAFETY: that is what `below` has just answered.
        unsafe { open(start, &frame, layout.size()) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(frame) = Frame::around(layout) else { return std::ptr::null_mut() };
        // SAFETY: the size is not zero, since it has room for the header.
        let start = unsafe { self.below.alloc_zeroed(frame.outer) };
        // SAFETY: that is what `below` has just answered. Only the header, before the contents, is written.
        unsafe { open(start, &frame, layout.size()) }
    }

    #[inline]
    unsafe fn dealloc(&self, contents: *mut u8, layout: Layout) {
        // SAFETY: the caller gives the layout that the memory was allocated with.
        let frame = unsafe { Frame::around_allocated(layout) };
        let contents = beyond_contents(contents);
        // SAFETY: the memory is the caller's and came from `open`, which wrote the header.
        let owner = unsafe { header(contents).read() };
        if let Some(account) = owner {
            account.tally.uncount(layout.size());
        }
        // SAFETY: the contents lie at that offset in what `below` gave.
        let start = unsafe { contents.sub(frame.offset) };
        // SAFETY: `below` gave `start`, for this layout.
        unsafe { self.below.dealloc(start, frame.outer) };
    }

    #[inline]
    unsafe fn realloc(&self, contents: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let new_contents = Layout::from_size_align(new_size, layout.align()).ok();
        let Some(new_frame) = new_contents.and_then(Frame::around) else {
            return std::ptr::null_mut();
        };
        // SAFETY: the caller gives the layout that the memory was allocated with.
        let frame = unsafe { Frame::around_allocated(layout) };
        let contents = beyond_contents(contents);
        // SAFETY: the contents lie at that offset in what `below` gave.
        let start = unsafe { contents.sub(frame.offset) };
        // SAFETY: `below` gave `start` for this layout; the new size is not zero, since it has room for the
        // header, and makes a layout with the same alignment.
        let moved = unsafe { self.below.realloc(start, frame.outer, new_frame.outer.size()) };
        if moved.is_null() {
            return moved;
        }
        // SAFETY: the offset depends on the alignment alone, so the contents lie where they lay.
        let contents = unsafe { moved.add(new_frame.offset) };
        // SAFETY: the header has come along with the contents behind it.
        let owner = unsafe { header(contents).read() };
        if let Some(account) = owner {
            account.tally.recount(layout.size(), new_size);
        }
        contents
    }
}
