//! The buffer pool of `commonware-runtime` 2026.7.0, the last version that has one.
//!
//! Only its runtimes make pools, so one is started for long enough to ask it for its own.

use std::num::{NonZeroU32, NonZeroUsize};

use bytes::BufMut;
use commonware_runtime::deterministic::{Config, Runner};
use commonware_runtime::{BufferPool, BufferPoolConfig, BufferPooler, IoBufMut, Runner as _};

use super::KEPT_MAX;
use crate::memory::source::{Held, Source};

/// A pool with one class, of the length of the row.
pub(crate) struct Iobuf {
    pool: BufferPool,
    len: usize,
}

impl Iobuf {
    /// # Panics
    /// If `len` is no power of two, which its classes are.
    pub(crate) fn new(len: usize) -> Self {
        let len_min = NonZeroUsize::new(len).expect("a row has bytes");
        let kept_max = NonZeroU32::new(KEPT_MAX as u32).expect("it is not 0");
        let config = BufferPoolConfig::for_network()
            .with_min_size(len_min)
            .with_max_size(len_min)
            .with_max_per_class(kept_max)
            .with_parallelism(NonZeroUsize::new(2).expect("it is not 0"));
        let runner = Runner::new(Config::new().with_network_buffer_pool_config(config));
        let pool = runner.start(async |context| context.network_buffer_pool().clone());
        Self { pool, len }
    }
}

impl Source for Iobuf {
    type Held<'a> = IoBufMut;

    #[inline(always)]
    fn acquire(&self) -> IoBufMut {
        self.pool.try_alloc(self.len).expect("no row has as many out")
    }
}

impl Held for IoBufMut {
    #[inline(always)]
    fn start(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    fn capacity(&mut self) -> usize {
        IoBufMut::capacity(self)
    }

    #[inline(always)]
    fn put(&mut self, at: usize, byte: u8) {
        self.chunk_mut().write_byte(at, byte);
    }
}
