//! What no pool can be cheaper than, and the pool that everybody writes first: shown beside the
//! others, and part of no bar.
#![allow(unsafe_code, reason = "a limit checks nothing that it need not")]

use std::cell::{Cell, OnceCell};
use std::mem::{self, MaybeUninit};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use super::source::{Block, Held, Source, block};

/// Blocks that a stack keeps; more than any row has out at once.
const STACK_BLOCKS: usize = 64;

/// The stack of a thread: an array and an index. (A `Vec` took three times as long on a Zen 4, in
/// 2026-11: its length goes through memory between each push and pop.)
#[derive(Debug)]
struct Stack {
    count: Cell<usize>,
    /// Those below `count` are blocks of `len` bytes that belong to the stack.
    blocks: [Cell<*mut u8>; STACK_BLOCKS],
    len: usize,
}

thread_local! {
    /// Has no destructor, so that its use asks for no state.
    static STACK: Cell<*const Stack> = const { Cell::new(ptr::null()) };
    /// Frees it when the thread ends.
    static OWNER: OnceCell<Box<Stack>> = const { OnceCell::new() };
}

impl Drop for Stack {
    fn drop(&mut self) {
        STACK.set(ptr::null());
        for block in &self.blocks[..self.count.get()] {
            // SAFETY: blocks below `count` belong to the stack.
            drop(unsafe { to_block(block.get(), self.len) });
        }
    }
}

/// The stack of this thread, which is made for blocks of `len` bytes.
#[inline(always)]
fn stack(len: usize) -> &'static Stack {
    let stack = STACK.get();
    // SAFETY: it is null, or lives until the thread ends, which does not keep what is given here.
    unsafe { stack.as_ref() }.unwrap_or_else(|| new_stack(len))
}

#[cold]
fn new_stack(len: usize) -> &'static Stack {
    let blocks = [const { Cell::new(ptr::null_mut()) }; STACK_BLOCKS];
    let make = || Box::new(Stack { count: Cell::new(0), blocks, len });
    OWNER.with(|owner| STACK.set(&raw const **owner.get_or_init(make)));
    // SAFETY: as above.
    unsafe { &*STACK.get() }
}

fn from_block(block: Block) -> NonNull<u8> {
    NonNull::from(Box::leak(block)).cast()
}

/// # Safety
/// `start` comes from `from_block` with a block of `len` bytes, and is used no more.
unsafe fn to_block(start: *mut u8, len: usize) -> Block {
    let slice = ptr::slice_from_raw_parts_mut(start.cast::<MaybeUninit<u8>>(), len);
    // SAFETY: it was a box of this length, by the contract above.
    unsafe { Box::from_raw(slice) }
}

/// A stack of the thread with no limit, no count, and nothing for other threads: a buffer released
/// elsewhere is lost to its thread. The threads of a burst are new, so theirs are of one length.
#[derive(Debug)]
pub(crate) struct ThreadStack(pub(crate) usize);

#[derive(Debug)]
pub(crate) struct Stacked {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a block belongs to its holder alone, and the stack that it goes to is looked up then.
unsafe impl Send for Stacked {}

impl Source for ThreadStack {
    type Held<'a> = Stacked;

    #[inline(always)]
    fn acquire(&self) -> Stacked {
        let len = self.0;
        let stack = stack(len);
        let count = stack.count.get();
        if let Some(top) = count.checked_sub(1).and_then(|top| Some((top, stack.blocks.get(top)?)))
        {
            stack.count.set(top.0);
            let start = NonNull::new(top.1.get()).expect("blocks below the count are there");
            return Stacked { start, len };
        }
        Stacked { start: from_block(block(len)), len }
    }
}

impl Drop for Stacked {
    #[inline(always)]
    fn drop(&mut self) {
        let stack = stack(self.len);
        debug_assert_eq!(stack.len, self.len, "a thread uses one length");
        let count = stack.count.get();
        match stack.blocks.get(count) {
            Some(place) => {
                place.set(self.start.as_ptr());
                stack.count.set(count + 1);
            }
            // SAFETY: it comes from `acquire`, and this is its end.
            None => drop(unsafe { to_block(self.start.as_ptr(), self.len) }),
        }
    }
}

impl Held for Stacked {
    #[inline(always)]
    fn start(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn capacity(&mut self) -> usize {
        self.len
    }

    #[inline(always)]
    fn put(&mut self, at: usize, byte: u8) {
        assert!(at < self.len, "a byte of the block");
        // SAFETY: the block has `len` bytes, and is this one's alone.
        unsafe { self.start.as_ptr().add(at).write(byte) };
    }
}

/// A mutex around a vector of vectors.
#[derive(Debug)]
pub(crate) struct Locked {
    blocks: Mutex<Vec<Vec<u8>>>,
    len: usize,
}

impl Locked {
    pub(crate) fn new(len: usize) -> Self {
        Self { blocks: Mutex::new(Vec::new()), len }
    }
}

#[derive(Debug)]
pub(crate) struct LockedHeld<'a> {
    block: Vec<u8>,
    home: &'a Locked,
}

impl Source for Locked {
    type Held<'a> = LockedHeld<'a>;

    #[inline(always)]
    fn acquire(&self) -> LockedHeld<'_> {
        let found = self.blocks.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let block = found.unwrap_or_else(|| Vec::with_capacity(self.len));
        LockedHeld { block, home: self }
    }
}

impl Drop for LockedHeld<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let block = mem::take(&mut self.block);
        self.home.blocks.lock().unwrap_or_else(PoisonError::into_inner).push(block);
    }
}

impl Held for LockedHeld<'_> {
    #[inline(always)]
    fn start(&mut self) -> *mut u8 {
        self.block.start()
    }

    fn capacity(&mut self) -> usize {
        self.block.capacity()
    }

    #[inline(always)]
    fn put(&mut self, at: usize, byte: u8) {
        self.block.put(at, byte);
    }
}
