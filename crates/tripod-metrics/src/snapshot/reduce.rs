//! Exponential histograms at a coarser resolution, and in the form in which Prometheus takes them.

use crate::snapshot::ExponentialSnapshot;

/// The coarsest schema that Prometheus knows: bounds are a factor of 65,536 apart.
const SCHEMA_MIN: i8 = -4;

impl ExponentialSnapshot {
    /// Halves the resolution until there are at most `buckets_max` buckets, positive and negative
    /// ones together, or until the coarsest schema, -4, is reached.
    ///
    /// Count, sum, zero bucket and exemplars stay as they are. Each halving doubles the relative width
    /// of a bucket and joins pairs of neighbours, so it loses resolution and nothing else.
    ///
    /// # Examples
    /// ```
    /// use tripod_metrics::snapshot::ExponentialSnapshot;
    ///
    /// let empty = ExponentialSnapshot::default();
    /// assert_eq!(empty.clone().reduce_to(160), empty);
    /// ```
    #[must_use]
    pub fn reduce_to(mut self, buckets_max: usize) -> Self {
        while self.positive.len() + self.negative.len() > buckets_max && self.schema > SCHEMA_MIN {
            self.halve();
        }
        self
    }

    /// Halves the resolution until the buckets of each sign, with the empty ones between them, are at
    /// most `width_max`; for formats that write the empty ones out.
    ///
    /// It may end below schema -4, which such formats know.
    #[cfg(feature = "otlp")]
    pub(crate) fn reduce_to_width(mut self, width_max: i32) -> Self {
        let is_wide = |buckets: &[(i32, u64)]| match (buckets.first(), buckets.last()) {
            (Some((first, _)), Some((last, _))) => {
                i64::from(*last) - i64::from(*first) >= width_max.into()
            }
            _ => false,
        };
        while is_wide(&self.positive) || is_wide(&self.negative) {
            self.halve();
        }
        self
    }

    fn halve(&mut self) {
        self.schema -= 1;
        join_pairs(&mut self.positive);
        join_pairs(&mut self.negative);
    }
}

/// Bucket `i` becomes part of bucket ⌈i/2⌉, whose upper bound is the square of the old base's power.
fn join_pairs(buckets: &mut Vec<(i32, u64)>) {
    for (index, _) in buckets.iter_mut() {
        // Written so that the highest index does not overflow.
        *index = (*index >> 1) + (*index & 1);
    }
    buckets.dedup_by(|(index, count), (kept_index, kept_count)| {
        let is_same = index == kept_index;
        *kept_count += if is_same { *count } else { 0 };
        is_same
    });
}

/// Buckets as Prometheus takes them: runs of neighbours, and each count as difference to the last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Spans {
    /// The distance from the end of the run before (from 0 for the first), and the length.
    pub(crate) spans: Vec<(i32, u32)>,
    pub(crate) deltas: Vec<i64>,
}

/// Up to this many empty buckets are written out, since a new run takes more bytes.
const GAP_MAX: i64 = 2;

/// `buckets` ascend by index, none is empty.
pub(crate) fn spans(buckets: &[(i32, u64)]) -> Spans {
    let mut result = Spans::default();
    let (mut next_index, mut last_count) = (0_i64, 0_u64);
    for &(index, count) in buckets {
        let gap = i64::from(index) - next_index;
        next_index = i64::from(index) + 1;
        match result.spans.last_mut() {
            Some((_, length)) if gap <= GAP_MAX => {
                *length += gap as u32 + 1;
                for _ in 0..gap {
                    result.deltas.push(0_u64.wrapping_sub(std::mem::take(&mut last_count)) as i64);
                }
            }
            // Only the first run can begin more than 2^31 buckets away, and no double is that small.
            _ => result.spans.push((i32::try_from(gap).unwrap_or(i32::MAX), 1)),
        }
        result.deltas.push(count.wrapping_sub(last_count) as i64);
        last_count = count;
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(schema: i8, positive: Vec<(i32, u64)>) -> ExponentialSnapshot {
        let count = positive.iter().map(|(_, count)| count).sum();
        ExponentialSnapshot { schema, positive, count, ..ExponentialSnapshot::default() }
    }

    #[test]
    fn halving_joins_the_buckets_below_a_common_bound() {
        // At schema 1, buckets 1 and 2 end at 2^0.5 and 2, that is within (1, 2] of schema 0.
        let fine = histogram(1, vec![(-2, 1), (-1, 2), (0, 4), (1, 8), (2, 16), (3, 32)]);
        let coarse = fine.reduce_to(4);
        assert_eq!(coarse.schema, 0);
        assert_eq!(coarse.positive, [(-1, 1), (0, 6), (1, 24), (2, 32)]);
        assert_eq!(coarse.count, 63);
    }

    #[test]
    fn the_coarsest_schema_is_the_end() {
        let wide = histogram(-3, vec![(i32::MIN, 1), (0, 1), (i32::MAX, 1)]);
        let coarse = wide.reduce_to(0);
        assert_eq!(coarse.schema, -4);
        assert_eq!(coarse.positive, [(i32::MIN / 2, 1), (0, 1), (1 << 30, 1)]);
    }

    #[test]
    fn small_gaps_are_filled_and_large_ones_start_a_run() {
        let found = spans(&[(-3, 5), (-2, 7), (1, 4), (10, 4)]);
        assert_eq!(found.spans, [(-3, 5), (8, 1)]);
        assert_eq!(found.deltas, [5, 2, -7, 0, 4, 0]);
        assert_eq!(spans(&[]), Spans::default());
    }

    proptest! {
        #[test]
        fn as_many_values_lie_below_each_bound_that_is_left(
            buckets in prop::collection::btree_map(-200..200_i32, 1..1000_u64, 1..100),
            buckets_max in 1..40_usize,
        ) {
            let fine = histogram(8, buckets.into_iter().collect());
            let coarse = fine.clone().reduce_to(buckets_max);
            prop_assert!(coarse.positive.len() <= buckets_max || coarse.schema == SCHEMA_MIN);
            let below = |buckets: &[(i32, u64)], end: i32| -> u64 {
                buckets.iter().filter(|(index, _)| *index <= end).map(|(_, count)| count).sum()
            };
            for (index, _) in &coarse.positive {
                // b^index of the coarse schema is this power of the fine one's base.
                let same_bound = index << (fine.schema - coarse.schema);
                let expected = below(&fine.positive, same_bound);
                prop_assert_eq!(below(&coarse.positive, *index), expected);
            }
        }

        #[test]
        fn spans_say_the_same_as_the_buckets(
            buckets in prop::collection::btree_map(-60..60_i32, 1..1000_u64, 0..30),
        ) {
            let buckets: Vec<(i32, u64)> = buckets.into_iter().collect();
            let Spans { spans, deltas } = spans(&buckets);
            let (mut index, mut count, mut deltas) = (0, 0, deltas.into_iter());
            let mut found = Vec::new();
            for (offset, length) in spans {
                index += offset;
                for _ in 0..length {
                    count += deltas.next().unwrap();
                    found.push((index, count as u64));
                    index += 1;
                }
            }
            found.retain(|(_, count)| *count > 0);
            prop_assert_eq!(found, buckets);
            prop_assert_eq!(deltas.next(), None);
        }
    }
}
