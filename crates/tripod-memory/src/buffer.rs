//! Buffers that are handed out.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::budget::Budget;
use crate::engine::Block;

/// Bytes on loan from a pool.
///
/// It derefs to exactly the bytes asked for. They are initialised, but what they hold is unspecified:
/// what an earlier holder left, or zeroes. Dropping it gives the memory back to its pool, on whatever
/// thread; it may outlive the manager.
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// let memory = MemoryManager::builder().build()?;
/// let mut buffer = memory.acquire(1500)?;
/// buffer.fill(7);
/// assert_eq!((buffer.len(), buffer.capacity()), (1500, 1536));
///
/// let first = buffer.as_ptr();
/// drop(buffer);
/// assert_eq!(memory.acquire(1400)?.as_ptr(), first);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Buffer {
    budget: Budget,
    block: Block,
    len: usize,
}

impl Buffer {
    pub(crate) fn new(budget: Budget, block: Block, len: usize) -> Self {
        debug_assert!(len <= block.bytes.len(), "a block is as long as what was asked for");
        Self { budget, block, len }
    }

    pub(crate) fn empty(budget: Budget) -> Self {
        Self::new(budget, Block::default(), 0)
    }

    /// Returns the number of bytes asked for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether no bytes were asked for.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the bytes the buffer occupies and is charged as: its size class, or its length if that
    /// is above the largest class or 0.
    pub fn capacity(&self) -> usize {
        self.block.bytes.len()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block.bytes[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.block.bytes[..self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl fmt::Debug for Buffer {
    /// Shows no contents: they may be large, or an earlier holder's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len)
            .field("capacity", &self.capacity())
            .field("budget", &self.budget.path())
            .finish()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let block = std::mem::take(&mut self.block);
        if !block.bytes.is_empty() {
            self.budget.engine().take_back(self.budget.node(), block);
        }
    }
}

/// Why [`MemoryManager::acquire`](crate::MemoryManager::acquire) handed out no buffer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// The budget has no room now, and no idle buffer is left that could make some.
    #[error("buffer of {needed_bytes} bytes does not fit: budget `{budget}` has {free_bytes} free")]
    OverBudget {
        /// The buffer's capacity in bytes.
        needed_bytes: u64,
        /// What the budget has left, in bytes.
        free_bytes: u64,
        /// The path of the lowest budget that lacks room.
        budget: Arc<str>,
    },
    /// The budget is smaller than the buffer.
    #[error(
        "buffer needs {needed_bytes} bytes, more than the whole budget `{budget}` of {budget_bytes}"
    )]
    Unsatisfiable {
        /// The buffer's capacity in bytes.
        needed_bytes: u64,
        /// The budget's limit in bytes.
        budget_bytes: u64,
        /// The budget's path.
        budget: Arc<str>,
    },
    /// No allocation can be that long.
    #[error("buffer of {len} bytes is longer than the {max_bytes} a buffer can have")]
    TooLong {
        /// The length asked for, in bytes.
        len: usize,
        /// The longest possible, in bytes.
        max_bytes: usize,
    },
    /// The budget had room but the system did not; idle buffers have been given back before.
    #[error("the system refused {needed_bytes} bytes for a buffer")]
    OutOfMemory {
        /// The buffer's capacity in bytes.
        needed_bytes: u64,
    },
}
