//! Which sizes pooled buffers come in.

/// Ascending buffer sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SizeClasses {
    sizes: Box<[usize]>,
}

/// Why [`MemoryManagerBuilder::size_classes`](crate::MemoryManagerBuilder::size_classes) refused a
/// list of sizes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeClassError {
    /// The list has no entry.
    #[error("the list of size classes is empty")]
    Empty,
    /// A class would hold nothing.
    #[error("size class {index} has 0 bytes")]
    Zero {
        /// Position in the list, from 0.
        index: usize,
    },
    /// A class is larger than any allocation can be.
    #[error(
        "size class {index} has {size_bytes} bytes, more than the {max_bytes} a buffer can have"
    )]
    TooLarge {
        /// Position in the list, from 0.
        index: usize,
        /// The size asked for, in bytes.
        size_bytes: usize,
        /// The largest possible size, in bytes.
        max_bytes: usize,
    },
    /// A class is not larger than the one before it.
    #[error(
        "size class {index} has {size_bytes} bytes, not more than the {previous_bytes} before it"
    )]
    NotAscending {
        /// Position in the list, from 0.
        index: usize,
        /// The size asked for, in bytes.
        size_bytes: usize,
        /// The size before it, in bytes.
        previous_bytes: usize,
    },
}

/// The longest buffer there can be: an allocation's length fits an `isize`.
pub(crate) const LEN_MAX: usize = isize::MAX as usize;

const SMALLEST: usize = 64;
const DOUBLINGS: u32 = 20;
const STEPS_PER_DOUBLING: usize = 4;

impl Default for SizeClasses {
    /// Four classes per doubling, 64 B to 64 MiB.
    ///
    /// The step is a quarter of the power of two below, so the worst case is just above that power:
    /// a quarter of it unused in five quarters, less than 1/5.
    fn default() -> Self {
        let steps = (0..DOUBLINGS).flat_map(|doubling| {
            let base = SMALLEST << doubling;
            (0..STEPS_PER_DOUBLING).map(move |step| base + step * (base / STEPS_PER_DOUBLING))
        });
        Self { sizes: steps.chain([SMALLEST << DOUBLINGS]).collect() }
    }
}

impl SizeClasses {
    pub(crate) fn new(sizes: impl IntoIterator<Item = usize>) -> Result<Self, SizeClassError> {
        let sizes: Box<[usize]> = sizes.into_iter().collect();
        let mut previous_bytes = 0;
        for (index, &size_bytes) in sizes.iter().enumerate() {
            if size_bytes == 0 {
                return Err(SizeClassError::Zero { index });
            }
            if size_bytes > LEN_MAX {
                return Err(SizeClassError::TooLarge { index, size_bytes, max_bytes: LEN_MAX });
            }
            if size_bytes <= previous_bytes {
                return Err(SizeClassError::NotAscending { index, size_bytes, previous_bytes });
            }
            previous_bytes = size_bytes;
        }
        if sizes.is_empty() { Err(SizeClassError::Empty) } else { Ok(Self { sizes }) }
    }

    pub(crate) fn count(&self) -> usize {
        self.sizes.len()
    }

    pub(crate) fn size(&self, class: usize) -> usize {
        self.sizes[class]
    }

    /// The smallest class that holds `len` bytes; none above the largest.
    pub(crate) fn class_of(&self, len: usize) -> Option<usize> {
        let class = self.sizes.partition_point(|&size| size < len);
        (class < self.sizes.len()).then_some(class)
    }
}
