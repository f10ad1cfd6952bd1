//! What no pool can be cheaper than, and the pool that everybody writes first: shown beside the
//! others, and part of no bar.
#![allow(unsafe_code, reason = "a limit has no flag that tells whether it is borrowed")]

use std::cell::UnsafeCell;
use std::mem;
use std::sync::{Mutex, PoisonError};

use super::source::{Block, Held, Source, block};

thread_local! {
    static STACK: UnsafeCell<Vec<Block>> = const { UnsafeCell::new(Vec::new()) };
}

#[inline]
fn pop() -> Option<Block> {
    // SAFETY: the stack is the thread's, and no call below gets to it again while it is borrowed.
    STACK.with(|stack| unsafe { (*stack.get()).pop() })
}

#[inline]
fn push(block: Block) {
    // SAFETY: as above; the allocator, which may be called, knows of no stack.
    STACK.with(|stack| unsafe { (*stack.get()).push(block) });
}

/// A stack of the thread with no limit, no count, and nothing for other threads: a buffer released
/// elsewhere is lost to its thread. The threads of a burst are new, so theirs are of one length.
#[derive(Debug)]
pub(crate) struct ThreadStack(pub(crate) usize);

#[derive(Debug)]
pub(crate) struct Stacked(Block);

impl Source for ThreadStack {
    type Held<'a> = Stacked;

    #[inline]
    fn acquire(&self) -> Stacked {
        Stacked(pop().unwrap_or_else(|| block(self.0)))
    }
}

impl Drop for Stacked {
    #[inline]
    fn drop(&mut self) {
        push(mem::take(&mut self.0));
    }
}

impl Held for Stacked {
    #[inline]
    fn start(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    fn capacity(&mut self) -> usize {
        self.0.len()
    }

    #[inline]
    fn put(&mut self, at: usize, byte: u8) {
        self.0[at].write(byte);
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

    #[inline]
    fn acquire(&self) -> LockedHeld<'_> {
        let found = self.blocks.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let block = found.unwrap_or_else(|| Vec::with_capacity(self.len));
        LockedHeld { block, home: self }
    }
}

impl Drop for LockedHeld<'_> {
    #[inline]
    fn drop(&mut self) {
        let block = mem::take(&mut self.block);
        self.home.blocks.lock().unwrap_or_else(PoisonError::into_inner).push(block);
    }
}

impl Held for LockedHeld<'_> {
    #[inline]
    fn start(&mut self) -> *mut u8 {
        self.block.start()
    }

    fn capacity(&mut self) -> usize {
        self.block.capacity()
    }

    #[inline]
    fn put(&mut self, at: usize, byte: u8) {
        self.block.put(at, byte);
    }
}
