//! Counts by bucket, as plain data: differences, totals, quantiles, and a form that takes little room.

use super::Scale;
use crate::varint::{put, unzigzag, zigzag};

/// Counts of one series, or of one span of time.
///
/// Indices ascend, and no bucket is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Distribution {
    /// Values that count as 0.
    pub(crate) zero: u64,
    /// By the index of the bucket.
    pub(crate) positive: Vec<(i32, u64)>,
    /// By the index of the bucket of the absolute value.
    pub(crate) negative: Vec<(i32, u64)>,
    /// The total of the values.
    pub(crate) sum: f64,
}

impl Distribution {
    /// The number of values.
    pub(crate) fn count(&self) -> u64 {
        let buckets = self.positive.iter().chain(&self.negative);
        buckets.map(|(_, count)| count).fold(self.zero, |sum, count| sum.wrapping_add(*count))
    }

    /// What came since `earlier`, which is an earlier state of the same series. The sum is left out.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            zero: self.zero.saturating_sub(earlier.zero),
            positive: merge(&self.positive, &earlier.positive, u64::saturating_sub),
            negative: merge(&self.negative, &earlier.negative, u64::saturating_sub),
            sum: 0.0,
        }
    }

    /// Adds the counts of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        self.zero += other.zero;
        self.positive = merge(&self.positive, &other.positive, |a, b| a + b);
        self.negative = merge(&self.negative, &other.negative, |a, b| a + b);
        self.sum += other.sum;
    }

    /// The value of rank ceil(`quantile` × count), to within half a bucket; NaN if there is none.
    pub(crate) fn quantile(&self, quantile: f64, scale: &Scale) -> f64 {
        let count = self.count();
        if count == 0 {
            return f64::NAN;
        }
        let rank = ((quantile * count as f64).ceil() as u64).clamp(1, count);
        let negative = self.negative.iter().rev().map(|(at, count)| (-scale.middle(*at), *count));
        let positive = self.positive.iter().map(|(at, count)| (scale.middle(*at), *count));
        let mut passed = 0;
        for (value, count) in negative.chain([(0.0, self.zero)]).chain(positive) {
            passed += count;
            if passed >= rank {
                return value;
            }
        }
        f64::NAN
    }

    /// The counts in few bytes; the sum is left out.
    pub(crate) fn pack(&self) -> Packed {
        let mut bytes = Vec::new();
        put(&mut bytes, self.zero);
        pack_side(&mut bytes, &self.positive);
        pack_side(&mut bytes, &self.negative);
        Packed(bytes.into())
    }
}

/// Combines counts by index; what comes to 0 is left out.
fn merge(
    ours: &[(i32, u64)],
    theirs: &[(i32, u64)],
    combine: impl Fn(u64, u64) -> u64,
) -> Vec<(i32, u64)> {
    let mut merged = Vec::with_capacity(ours.len().max(theirs.len()));
    let (mut a, mut b) = (ours.iter().peekable(), theirs.iter().peekable());
    loop {
        let index = match (a.peek(), b.peek()) {
            (Some((a, _)), Some((b, _))) => *a.min(b),
            (Some((index, _)), None) | (None, Some((index, _))) => *index,
            (None, None) => return merged,
        };
        let own = a.next_if(|(at, _)| *at == index).map_or(0, |(_, count)| *count);
        let other = b.next_if(|(at, _)| *at == index).map_or(0, |(_, count)| *count);
        match combine(own, other) {
            0 => {}
            count => merged.push((index, count)),
        }
    }
}

/// A [`Distribution`] in runs of neighbouring buckets: the gap before each, its length, and the
/// differences from count to count, which are small, since neighbours count about alike.
#[derive(Debug, Clone)]
pub(crate) struct Packed(Box<[u8]>);

impl Packed {
    pub(crate) fn unpack(&self) -> Distribution {
        let mut bytes = self.0.iter().copied();
        let zero = get(&mut bytes);
        let positive = unpack_side(&mut bytes);
        let negative = unpack_side(&mut bytes);
        Distribution { zero, positive, negative, sum: 0.0 }
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.len()
    }
}

fn pack_side(bytes: &mut Vec<u8>, buckets: &[(i32, u64)]) {
    let runs: Vec<&[(i32, u64)]> = buckets.chunk_by(|a, b| a.0 + 1 == b.0).collect();
    put(bytes, runs.len() as u64);
    let (mut at, mut last) = (0, 0);
    for run in runs {
        put(bytes, zigzag(i64::from(run[0].0) - at));
        put(bytes, run.len() as u64);
        for (index, count) in run {
            put(bytes, zigzag(count.wrapping_sub(last) as i64));
            (at, last) = (i64::from(*index), *count);
        }
    }
}

fn unpack_side(bytes: &mut impl Iterator<Item = u8>) -> Vec<(i32, u64)> {
    let mut buckets = Vec::new();
    let (mut at, mut last) = (0_i64, 0_u64);
    for _ in 0..get(bytes) {
        at += unzigzag(get(bytes));
        for place in 0..get(bytes) {
            at += i64::from(place > 0);
            last = last.wrapping_add(unzigzag(get(bytes)) as u64);
            buckets.push((at as i32, last));
        }
    }
    buckets
}

/// Reads what [`put`] wrote; these bytes never come from elsewhere.
fn get(bytes: &mut impl Iterator<Item = u8>) -> u64 {
    let mut number = 0;
    for (place, byte) in bytes.take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn side() -> impl Strategy<Value = Vec<(i32, u64)>> {
        let counts = prop_oneof![1..200_u64, Just(u64::MAX), any::<u64>().prop_map(|n| n.max(1))];
        proptest::collection::btree_map(-2000..2000_i32, counts, 0..60)
            .prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(zero: u64, positive in side(), negative in side()) {
            let distribution = Distribution { zero, positive, negative, sum: 0.0 };
            prop_assert_eq!(distribution.pack().unpack(), distribution);
        }

        #[test]
        fn a_difference_added_again_is_the_whole(
            earlier in proptest::collection::btree_map(-20..20_i32, 1..9_u64, 0..20),
            more in proptest::collection::btree_map(-20..20_i32, 1..9_u64, 0..20),
        ) {
            let of = |map: std::collections::BTreeMap<i32, u64>| Distribution {
                positive: map.into_iter().collect(),
                ..Distribution::default()
            };
            let (earlier, more) = (of(earlier), of(more));
            let mut now = earlier.clone();
            now.add(&more);
            prop_assert_eq!(now.since(&earlier), more);
        }
    }

    #[test]
    fn quantiles_go_from_the_most_negative_value_to_the_largest() {
        let scale = Scale::of_summaries();
        let distribution = Distribution {
            zero: 1,
            positive: vec![(1, 1), (37, 1)],
            negative: vec![(1, 1), (19, 1)],
            sum: 0.0,
        };
        let values: Vec<f64> =
            (1..=5).map(|rank| distribution.quantile(f64::from(rank) / 5.0, scale)).collect();
        let middle = |index| scale.middle(index);
        assert_eq!(values, [-middle(19), -middle(1), 0.0, middle(1), middle(37)]);
        assert_eq!(distribution.quantile(0.0, scale), -middle(19));
        assert!(Distribution::default().quantile(0.5, scale).is_nan());
    }
}
