//! From a value to its bucket, exactly and without a logarithm.
//!
//! With `n` buckets for each doubling, the bucket `i` holds the values in (2^((i-1)/n), 2^(i/n)], as
//! the Prometheus native histograms define it for `n` = 2^schema. The exponent of a value gives its
//! doubling; within that, the highest bits of the mantissa choose one of 64 slices, and no slice has
//! more than one bound in it, so one comparison decides. Bounds are the nearest `f64`; comparing the
//! bits of positive floats compares the floats, and one less than the bits is the next smaller float,
//! which is how a bound comes to belong to the bucket below it.

use std::sync::OnceLock;

/// Values up to 2 to the power of this have buckets of their own.
pub(crate) const EXPONENT_MAX: i32 = 64;
/// Values from 2 to the power of this on have buckets of their own.
pub(crate) const EXPONENT_MIN: i32 = -64;

const MANTISSA_BITS: u32 = 52;
const SLICE_BITS: u32 = 6;
const EXPONENT_BIAS: i32 = 1023;
const PAGE_BUCKETS_MAX: usize = super::PAGE_BUCKETS_MAX;

/// How finely values are told apart.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Buckets for each doubling, 1 to 32.
    per_doubling: usize,
    /// A page has 2 to the power of this doublings.
    page_shift: u32,
    slices: [Slice; 1 << SLICE_BITS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    /// The mantissa from which on a value falls in the bucket after `bucket`.
    threshold: u64,
    /// The bucket of the slice's first value, from 0.
    bucket: u64,
}

impl Scale {
    /// Absolute values below this count as zero.
    pub(crate) const SMALLEST: f64 = power_of_two(EXPONENT_MIN);

    /// The scale of summaries: 18 buckets for each doubling, so that the middle of a bucket is less
    /// than 1.93 % from anything in it.
    pub(crate) fn of_summaries() -> &'static Self {
        static SCALE: OnceLock<Scale> = OnceLock::new();
        SCALE.get_or_init(|| Self::new(18))
    }

    /// The scale of native histograms of `schema`, from 0 to [`Self::SCHEMA_MAX`].
    pub(crate) fn of_schema(schema: u8) -> &'static Self {
        static SCALES: [OnceLock<Scale>; Scale::SCHEMA_MAX as usize + 1] =
            [const { OnceLock::new() }; Scale::SCHEMA_MAX as usize + 1];
        SCALES[usize::from(schema)].get_or_init(|| Self::new(1 << schema))
    }

    /// The finest schema: 32 buckets for each doubling.
    pub(crate) const SCHEMA_MAX: u8 = 5;

    fn new(per_doubling: usize) -> Self {
        assert!((1..=PAGE_BUCKETS_MAX).contains(&per_doubling), "{per_doubling} buckets");
        let mut scale = Self {
            per_doubling,
            page_shift: (PAGE_BUCKETS_MAX / per_doubling).ilog2(),
            slices: [Slice::default(); 1 << SLICE_BITS],
        };
        let bound = |bucket: usize| mantissa(scale.bound(bucket as i32).to_bits());
        let slice_width = 1 << (MANTISSA_BITS - SLICE_BITS);
        let mut slices = [Slice::default(); 1 << SLICE_BITS];
        for (place, slice) in slices.iter_mut().enumerate() {
            let first = place as u64 * slice_width;
            // The bounds 1 to n-1 lie within the doubling; those up to `first` are passed.
            let passed = (1..per_doubling).filter(|bucket| bound(*bucket) <= first).count();
            let next = (passed + 1 < per_doubling).then(|| bound(passed + 1));
            *slice = Slice { threshold: next.unwrap_or(u64::MAX), bucket: passed as u64 };
        }
        scale.slices = slices;
        scale
    }

    /// The number of pages.
    pub(crate) fn pages(&self) -> usize {
        (EXPONENT_MAX - EXPONENT_MIN) as usize >> self.page_shift
    }

    /// Buckets of each doubling.
    pub(crate) fn per_doubling(&self) -> usize {
        self.per_doubling
    }

    /// Buckets of a page.
    pub(crate) fn page_buckets(&self) -> usize {
        self.per_doubling << self.page_shift
    }

    /// The page of a value and the bucket within the page. The value is at least
    /// [`SMALLEST`](Self::SMALLEST).
    #[inline]
    pub(crate) fn place(&self, value: f64) -> (usize, usize) {
        // The bits just below the smallest value would underflow; it shares the bucket above it.
        let bits = (value.to_bits() - 1).max(Self::SMALLEST.to_bits());
        let exponent = (bits >> MANTISSA_BITS) as i32 - EXPONENT_BIAS;
        if exponent >= EXPONENT_MAX {
            return (self.pages() - 1, self.page_buckets() - 1);
        }
        let mantissa = mantissa(bits);
        let slice = &self.slices[(mantissa >> (MANTISSA_BITS - SLICE_BITS)) as usize];
        let bucket = (slice.bucket + u64::from(mantissa >= slice.threshold)) as usize;
        let doubling = (exponent - EXPONENT_MIN) as usize;
        let page = doubling >> self.page_shift;
        (page, (doubling - (page << self.page_shift)) * self.per_doubling + bucket)
    }

    /// The index of a bucket: 2^(index / n) is its upper bound.
    pub(crate) fn index(&self, page: usize, bucket: usize) -> i32 {
        let buckets = (page * self.page_buckets() + bucket) as i32;
        EXPONENT_MIN * self.per_doubling as i32 + buckets + 1
    }

    /// The upper bound of the bucket with this index.
    pub(crate) fn bound(&self, index: i32) -> f64 {
        let n = self.per_doubling as i32;
        let within = f64::from(index.rem_euclid(n)) / f64::from(n);
        within.exp2() * f64::from(index.div_euclid(n)).exp2()
    }

    /// The value in a bucket that is, relatively, least far from any other there.
    pub(crate) fn middle(&self, index: i32) -> f64 {
        let (low, high) = (self.bound(index - 1), self.bound(index));
        2.0 * low * high / (low + high)
    }

    /// The schema, for a scale of native histograms.
    pub(crate) fn schema(&self) -> i8 {
        debug_assert!(self.per_doubling.is_power_of_two(), "not a native histogram");
        self.per_doubling.trailing_zeros() as i8
    }
}

#[inline]
fn mantissa(bits: u64) -> u64 {
    bits & ((1 << MANTISSA_BITS) - 1)
}

const fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + EXPONENT_BIAS) as u64) << MANTISSA_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scales() -> impl Iterator<Item = &'static Scale> {
        let native = (0..=Scale::SCHEMA_MAX).map(Scale::of_schema);
        native.chain([Scale::of_summaries()])
    }

    fn index_of(scale: &Scale, value: f64) -> i32 {
        let (page, bucket) = scale.place(value);
        scale.index(page, bucket)
    }

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it_and_the_next_float_does_not() {
        for scale in scales() {
            let n = scale.per_doubling as i32;
            for index in EXPONENT_MIN * n + 1..EXPONENT_MAX * n {
                let bound = scale.bound(index);
                assert_eq!(index_of(scale, bound), index, "{bound:e} of {n}");
                assert_eq!(index_of(scale, bound.next_up()), index + 1, "above {bound:e} of {n}");
                assert_eq!(index_of(scale, bound.next_down()), index, "below {bound:e} of {n}");
            }
        }
    }

    #[test]
    fn the_outermost_buckets_take_what_lies_beyond() {
        for scale in scales() {
            let n = scale.per_doubling as i32;
            let last = EXPONENT_MAX * n;
            for value in [2_f64.powi(64), 2_f64.powi(64).next_up(), f64::MAX, f64::INFINITY] {
                assert_eq!(index_of(scale, value), last, "{value:e}");
            }
            assert_eq!(index_of(scale, Scale::SMALLEST), EXPONENT_MIN * n + 1);
        }
    }

    #[test]
    fn the_middle_of_a_summarys_bucket_is_within_two_percent_of_its_ends() {
        let scale = Scale::of_summaries();
        for index in [-1000, -17, 0, 1, 18, 999] {
            let middle = scale.middle(index);
            for end in [scale.bound(index - 1), scale.bound(index)] {
                assert!((middle - end).abs() / end < 0.0193, "{middle} {end}");
            }
        }
    }
}
