//! Where a chunk lies: on the heap, or in a file that outlives the process.

use std::ops::Deref;

use super::chunk::Chunk;
use super::mapping::Extent;
use crate::sync::Arc;

/// Gives out chunks that are kept somewhere.
pub(crate) trait Backing: Send + Sync + std::fmt::Debug {
    /// A chunk of zeros for the group of this number; `None` if only the heap is left.
    ///
    /// It is called under the lock of the group.
    fn chunk(&self, group: u32) -> Option<ChunkRef>;
}

/// A share of a chunk.
#[derive(Debug, Clone)]
pub(crate) struct ChunkRef(Place);

#[derive(Debug, Clone)]
enum Place {
    Heap(Arc<Chunk>),
    /// A page of a mapped file.
    Mapped(Arc<Extent>, u32),
}

impl ChunkRef {
    pub(crate) fn on_heap() -> Self {
        Self(Place::Heap(Arc::new(Chunk::new())))
    }

    /// The page of `extent` at `index`, as one chunk.
    ///
    /// # Panics
    /// If the extent has no such page.
    pub(crate) fn mapped(extent: &Arc<Extent>, index: u32) -> Self {
        assert!(index < extent.pages(), "page {index} of {}", extent.pages());
        Self(Place::Mapped(Arc::clone(extent), index))
    }

    /// Whether both are the same chunk.
    pub(super) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(&raw const **self, &raw const **other)
    }
}

impl Deref for ChunkRef {
    type Target = Chunk;

    #[inline]
    fn deref(&self) -> &Chunk {
        match &self.0 {
            Place::Heap(chunk) => chunk,
            Place::Mapped(extent, index) => extent.chunk(*index),
        }
    }
}
