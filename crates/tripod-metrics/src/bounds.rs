//! The bounds of classic buckets, and the way from a value to its bucket.
//!
//! Positive floats are ordered as their bits are, so the highest bits of a value choose a *slice* of
//! the range, and a table says how many bounds lie below each slice. The slices are made so narrow
//! that none has more than one bound in it; then one comparison decides. Where bounds are too near to
//! each other for a small table, they are searched by halves.

/// The most slices: a table has a byte or two for each, for the family as a whole.
const SLICES_MAX: usize = 4096;

/// Upper bounds, finite and strictly ascending; the bucket up to +Inf is implied.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    finite: Vec<f64>,
    /// The same with +Inf behind them.
    padded: Vec<f64>,
    slices: Option<Slices>,
}

#[derive(Debug, Clone)]
struct Slices {
    /// Bits below those that choose a slice.
    shift: u32,
    /// What the highest bits of the first slice are.
    first: i64,
    /// Bounds below each slice: one slice before the first bound, and one behind the last.
    below: Vec<u16>,
}

impl PartialEq for Bounds {
    fn eq(&self, other: &Self) -> bool {
        self.finite == other.finite
    }
}

impl Bounds {
    /// `finite` ascends strictly.
    pub(crate) fn new(finite: Vec<f64>) -> Self {
        let mut padded = finite.clone();
        padded.push(f64::INFINITY);
        let slices = Slices::new(&finite);
        Self { finite, padded, slices }
    }

    /// The bounds without +Inf.
    pub(crate) fn finite(&self) -> &[f64] {
        &self.finite
    }

    /// Buckets, that up to +Inf among them.
    pub(crate) fn buckets(&self) -> usize {
        self.padded.len()
    }

    /// The first bucket whose bound is not less than `value`, which is not NaN.
    #[inline]
    pub(crate) fn bucket_of(&self, value: f64) -> usize {
        let Some(slices) = &self.slices else {
            return self.finite.partition_point(|bound| *bound < value);
        };
        // Negative values have negative bits, which lie before every slice.
        let slice = (value.to_bits().cast_signed() >> slices.shift) - slices.first;
        let last = slices.below.len() - 1;
        let below = usize::from(slices.below[(slice.max(0) as usize).min(last)]);
        below + usize::from(self.padded[below] < value)
    }
}

impl Slices {
    /// `None` if a bound is not positive, or the table would be too long.
    fn new(bounds: &[f64]) -> Option<Self> {
        const MANTISSA_BITS: u32 = 52;
        let (first, last) = (*bounds.first()?, *bounds.last()?);
        if first <= 0.0 {
            return None;
        }
        (0..=MANTISSA_BITS).rev().find_map(|shift| {
            let slice = |bound: f64| (bound.to_bits() >> shift).cast_signed();
            let length = usize::try_from(slice(last) - slice(first)).ok()?.checked_add(3)?;
            let is_apart = bounds.windows(2).all(|pair| slice(pair[0]) < slice(pair[1]));
            if !is_apart || length > SLICES_MAX {
                return None;
            }
            let first = slice(first) - 1;
            let below = (0..length).map(|place| {
                let own = first + place as i64;
                bounds.partition_point(|bound| slice(*bound) < own) as u16
            });
            Some(Self { shift, first, below: below.collect() })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(finite: &[f64], value: f64) {
        let expected = finite.partition_point(|bound| *bound < value);
        let found = Bounds::new(finite.to_vec()).bucket_of(value);
        assert_eq!(found, expected, "{value:e} among {finite:?}");
    }

    #[test]
    fn a_value_falls_below_the_first_bound_that_is_not_less() {
        let many: Vec<f64> = (1..500).map(f64::from).collect();
        let near = [1.0, 1.0_f64.next_up(), 1e300];
        let signed = [-1.0, 0.0, 1.0];
        let lists: [&[f64]; 5] = [&crate::DEFAULT_BUCKETS, &many, &near, &signed, &[f64::MAX]];
        for list in lists {
            let ends = [f64::NEG_INFINITY, -5.0, -0.0, 0.0, f64::MIN_POSITIVE, f64::INFINITY];
            let about = list.iter().flat_map(|b| [b.next_down(), *b, b.next_up(), b * 1.5]);
            about.chain(ends).for_each(|value| check(list, value));
        }
    }

    #[test]
    fn usual_bounds_have_a_small_table_and_odd_ones_have_none() {
        let length = |bounds: &[f64]| Slices::new(bounds).map(|slices| slices.below.len());
        assert!(length(&crate::DEFAULT_BUCKETS).is_some_and(|length| length < 100));
        assert_eq!(length(&[1.0, 1.0_f64.next_up()]), Some(4));
        assert_eq!(length(&[1.0, 1.0_f64.next_up(), 1e300]), None);
        assert_eq!(length(&[-1.0, 1.0]), None);
    }

    proptest! {
        #[test]
        fn any_value_among_any_bounds(
            mut bounds in proptest::collection::vec(proptest::num::f64::NORMAL, 1..40),
            values in proptest::collection::vec(proptest::num::f64::ANY, 20),
        ) {
            bounds.sort_by(f64::total_cmp);
            bounds.dedup();
            values.into_iter().filter(|value| !value.is_nan()).for_each(|v| check(&bounds, v));
        }
    }
}
