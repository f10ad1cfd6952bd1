//! Which sizes pooled buffers come in.

/// Ascending buffer sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SizeClasses {
    sizes: Box<[usize]>,
    /// For each step the smallest class that holds a length of it, or [`NO_CLASS`].
    first: [u8; STEPS],
    sure: SureClasses,
}

/// For each [`step`] the class that every length of it has, or [`NO_CLASS`] if they differ. With the
/// default sizes no two in a step differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SureClasses([u8; STEPS]);

impl SureClasses {
    /// The class of `len` if its step tells, else [`NO_CLASS`]; none of 0, and of what floats would take
    /// for negative.
    #[inline(always)]
    pub(crate) fn of(&self, len: usize) -> Option<usize> {
        (len.cast_signed() > 0).then(|| usize::from(self.0[step(len)]))
    }
}

/// Why [`MemoryManagerBuilder::size_classes`](crate::MemoryManagerBuilder::size_classes) refused a
/// list of sizes.
///
/// # Examples
/// ```
/// # use tripod_memory::{MemoryManager, SizeClassError};
/// let refused = MemoryManager::builder().size_classes([4096, 1024]).unwrap_err();
/// assert!(matches!(refused, SizeClassError::NotAscending { index: 1, .. }));
/// assert_eq!(
///     refused.to_string(),
///     "size class 1 has 1024 bytes, not more than the 4096 before it"
/// );
/// ```
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
    /// There are more classes than can be told apart.
    #[error("there are more than {max} size classes")]
    TooMany {
        /// The most there can be.
        max: usize,
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

/// The longest buffer there can be, 128 GiB less a byte: a handle has 37 bits for its length.
pub(crate) const LEN_MAX: usize = (1 << 37) - 1;

/// The most size classes there can be: one less than a power of two. Models have no room for many.
#[cfg(not(loom))]
pub(crate) const CLASSES_MAX: usize = 127;
#[cfg(loom)]
pub(crate) const CLASSES_MAX: usize = 15;

/// The number of no class: that of lengths above the largest.
pub(crate) const NO_CLASS: usize = CLASSES_MAX;

/// As many as a byte can tell apart.
const STEPS: usize = 256;

const SMALLEST: usize = 64;
#[cfg(not(loom))]
const DOUBLINGS: u32 = 20;
#[cfg(loom)]
const DOUBLINGS: u32 = 3;
const STEPS_PER_DOUBLING: usize = 4;

/// The number of a length, from 1 to `isize::MAX`, on a scale of four steps per doubling from 64 on;
/// below that the steps are narrower, and some lie in the same.
///
/// It is the exponent and the two highest bits behind it of the length's last index as a floating
/// point number: a conversion and a shift, where counting zeroes takes a microcoded instruction on
/// processors that Rust compiles for by default. The highest bits of the exponent are left out: no two
/// lengths that can be told apart by them are both above 64 and possible.
#[inline(always)]
const fn step(len: usize) -> usize {
    let last = len.wrapping_sub(1).cast_signed();
    ((last as f64).to_bits() >> 50) as u8 as usize
}

/// Runs of lengths that each lie in one step: the first and the last length of each.
fn runs() -> impl Iterator<Item = (usize, usize)> {
    let small = (1..=SMALLEST).map(|len| (len, len));
    let doublings = SMALLEST.ilog2()..usize::BITS - 1;
    let others = doublings.flat_map(|exponent| {
        let quarter = 1usize << (exponent - 2);
        // Of indices, so one less than of lengths.
        (4..8).map(move |part| (part * quarter + 1, (part * quarter).saturating_add(quarter)))
    });
    small.chain(others)
}

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
        Self::of(steps.chain([SMALLEST << DOUBLINGS]).collect())
    }
}

impl SizeClasses {
    pub(crate) fn new(sizes: impl IntoIterator<Item = usize>) -> Result<Self, SizeClassError> {
        let sizes: Box<[usize]> = sizes.into_iter().take(CLASSES_MAX + 1).collect();
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
        match sizes.len() {
            0 => Err(SizeClassError::Empty),
            1..=CLASSES_MAX => Ok(Self::of(sizes)),
            _ => Err(SizeClassError::TooMany { max: CLASSES_MAX }),
        }
    }

    /// `sizes` ascend, and there is one.
    fn of(sizes: Box<[usize]>) -> Self {
        let class = |len| {
            let class = sizes.partition_point(|&size| size < len);
            if class < sizes.len() { class as u8 } else { NO_CLASS as u8 }
        };
        let (mut first, mut last) = ([NO_CLASS as u8; STEPS], [0; STEPS]);
        for (from, to) in runs() {
            let step = step(from);
            first[step] = first[step].min(class(from));
            last[step] = last[step].max(class(to));
        }
        let sure = |step| if first[step] == last[step] { first[step] } else { NO_CLASS as u8 };
        let sure = SureClasses(std::array::from_fn(sure));
        Self { sizes, first, sure }
    }

    pub(crate) fn count(&self) -> usize {
        self.sizes.len()
    }

    #[inline(always)]
    pub(crate) fn size(&self, class: usize) -> usize {
        self.sizes[class]
    }

    pub(crate) fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    pub(crate) fn sure(&self) -> &SureClasses {
        &self.sure
    }

    /// The smallest class that holds `len` bytes; none above the largest.
    pub(crate) fn class_of(&self, len: usize) -> Option<usize> {
        let first = if len > LEN_MAX { return None } else { self.first[step(len.max(1))] };
        let mut class = usize::from(first);
        while *self.sizes.get(class)? < len {
            class += 1;
        }
        Some(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(classes: &SizeClasses, len: usize) {
        let expected = classes.sizes.iter().position(|&size| size >= len);
        assert_eq!(classes.class_of(len), expected, "{len} in {:?}", classes.sizes);
        let sure = classes.sure.of(len).filter(|&class| class != NO_CLASS);
        let is_right = sure.is_none() || sure == expected;
        assert!(is_right, "{len} is surely of {sure:?} in {:?}", classes.sizes);
    }

    #[test]
    fn the_class_of_a_length_is_the_smallest_that_holds_it() {
        let lists: [&[usize]; 7] = [
            &[1],
            &[100],
            &[64, 65, 66, 67, 4096],
            &[1, 2, 3, 60, 64, 100, 1_000_000],
            &[4096, 65536],
            &[4096, 4097, 5000, 5119, 5120, 5121],
            &[7, LEN_MAX],
        ];
        let lists = lists.map(|sizes| SizeClasses::new(sizes.iter().copied()).unwrap());
        for classes in lists.into_iter().chain([SizeClasses::default()]) {
            let near = classes.sizes.iter().flat_map(|&size| [size - 1, size, size + 1]);
            let scale = (0..60).flat_map(|bit| (0..8).map(move |part| (8 + part) << bit >> 3));
            for len in near.chain(scale).chain(0..200).chain([LEN_MAX, usize::MAX]) {
                check(&classes, len);
            }
        }
    }

    #[test]
    fn a_step_tells_the_class_of_every_length_with_the_default_sizes() {
        let classes = SizeClasses::default();
        let largest = *classes.sizes.last().unwrap();
        for &size in &classes.sizes {
            for len in [size - size / 5, size - 1, size, size + 1]
                .into_iter()
                .filter(|&len| len <= largest)
            {
                assert_eq!(classes.sure.of(len), classes.class_of(len), "{len}");
            }
        }
        (1..5_000).for_each(|len| assert_eq!(classes.sure.of(len), classes.class_of(len)));
        for len in [largest + 1, isize::MAX as usize] {
            assert_eq!(classes.sure.of(len), Some(NO_CLASS), "{len}");
        }
        for len in [0, isize::MAX as usize + 1, usize::MAX] {
            assert_eq!(classes.sure.of(len), None, "{len}");
        }
    }
}
