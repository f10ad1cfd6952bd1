//! The other projects: how a user of each gets buffers of one length.
//!
//! Pools of objects hold boxed slices of bytes that were never written, so that none of them pays
//! for zeroes; each may keep as many as any row has out at once.

use std::mem;

use ::lockfree_object_pool::{LinearObjectPool, LinearReusable};
use bytes::BytesMut;
use crossbeam_queue::ArrayQueue;
use opool::PoolAllocator;

use super::source::{Block, Guarded, Held, Source, block};

pub(crate) mod allocator;
pub(crate) mod commonware;
pub(crate) mod slab;

/// Buffers that a pool of fixed size may keep.
pub(crate) const KEPT_MAX: usize = 1_024;

/// `Vec` on the allocator of the system.
#[derive(Debug)]
pub(crate) struct Vector(pub(crate) usize);

impl Source for Vector {
    type Held<'a> = Vec<u8>;

    #[inline(always)]
    fn acquire(&self) -> Vec<u8> {
        Vec::with_capacity(self.0)
    }
}

/// `bytes::BytesMut`.
#[derive(Debug)]
pub(crate) struct Mutable(pub(crate) usize);

impl Source for Mutable {
    type Held<'a> = BytesMut;

    #[inline(always)]
    fn acquire(&self) -> BytesMut {
        BytesMut::with_capacity(self.0)
    }
}

impl Held for BytesMut {
    #[inline(always)]
    fn start(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    fn capacity(&mut self) -> usize {
        BytesMut::capacity(self)
    }

    #[inline(always)]
    fn put(&mut self, at: usize, byte: u8) {
        self.spare_capacity_mut()[at].write(byte);
    }
}

/// A bounded queue of `crossbeam`; what does not fit any more is freed.
#[derive(Debug)]
pub(crate) struct Queue {
    blocks: ArrayQueue<Block>,
    len: usize,
}

impl Queue {
    pub(crate) fn new(len: usize) -> Self {
        Self { blocks: ArrayQueue::new(KEPT_MAX), len }
    }
}

#[derive(Debug)]
pub(crate) struct Queued<'a> {
    block: Block,
    home: &'a ArrayQueue<Block>,
}

impl Drop for Queued<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        drop(self.home.push(mem::take(&mut self.block)));
    }
}

impl Source for Queue {
    type Held<'a> = Queued<'a>;

    #[inline(always)]
    fn acquire(&self) -> Queued<'_> {
        let block = self.blocks.pop().unwrap_or_else(|| block(self.len));
        Queued { block, home: &self.blocks }
    }
}

impl Held for Queued<'_> {
    #[inline(always)]
    fn start(&mut self) -> *mut u8 {
        self.block.as_mut_ptr().cast()
    }

    fn capacity(&mut self) -> usize {
        self.block.len()
    }

    #[inline(always)]
    fn put(&mut self, at: usize, byte: u8) {
        self.block[at].write(byte);
    }
}

/// Makes blocks of a length.
#[derive(Debug)]
pub(crate) struct Blocks(usize);

impl PoolAllocator<Block> for Blocks {
    fn allocate(&self) -> Block {
        block(self.0)
    }
}

/// `opool`, with guards that borrow: those with a count of their own cost twice as much.
pub(crate) struct Opool(opool::Pool<Blocks, Block>);

impl Opool {
    pub(crate) fn new(len: usize) -> Self {
        Self(opool::Pool::new(KEPT_MAX, Blocks(len)))
    }
}

impl Source for Opool {
    type Held<'a> = Guarded<opool::RefGuard<'a, Blocks, Block>>;

    #[inline(always)]
    fn acquire(&self) -> Self::Held<'_> {
        Guarded(self.0.get())
    }
}

/// `object-pool`.
pub(crate) struct ObjectPool {
    pool: object_pool::Pool<Block>,
    len: usize,
}

impl ObjectPool {
    pub(crate) fn new(len: usize) -> Self {
        Self { pool: object_pool::Pool::from_vec(Vec::with_capacity(KEPT_MAX)), len }
    }
}

impl Source for ObjectPool {
    type Held<'a> = Guarded<object_pool::Reusable<'a, Block>>;

    #[inline(always)]
    fn acquire(&self) -> Self::Held<'_> {
        Guarded(self.pool.pull(|| block(self.len)))
    }
}

/// `lockfree-object-pool`, its linear pool.
pub(crate) struct Linear(LinearObjectPool<Block>);

impl Linear {
    pub(crate) fn new(len: usize) -> Self {
        Self(LinearObjectPool::new(move || block(len), |_| {}))
    }
}

impl Source for Linear {
    type Held<'a> = Guarded<LinearReusable<'a, Block>>;

    #[inline(always)]
    fn acquire(&self) -> Self::Held<'_> {
        Guarded(self.0.pull())
    }
}
