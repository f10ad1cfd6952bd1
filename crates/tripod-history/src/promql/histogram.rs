//! Quantiles of classic histograms, whose buckets are series with a label `le`.

/// One bucket: how many observations are at most `upper`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    pub(super) upper: f64,
    pub(super) count: f64,
}

/// The quantile `q` of a histogram given by its buckets in any order, linear within a bucket.
///
/// NaN if there are fewer than two buckets, no bucket for `+Inf` or no observation; the upper bound
/// of the last finite bucket if the quantile lies above all of them.
pub(super) fn bucket_quantile(q: f64, mut buckets: Vec<Bucket>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return f64::NAN;
    }
    let buckets = monotone(coalesced(buckets));
    let last = buckets.len() - 1;
    if last == 0 || buckets[last].count == 0.0 {
        return f64::NAN;
    }
    interpolate(q * buckets[last].count, &buckets)
}

/// The value at a rank, among two buckets or more.
fn interpolate(rank: f64, buckets: &[Bucket]) -> f64 {
    let last = buckets.len() - 1;
    // A count that is NaN is never reached, so that the search ends at the last bucket.
    let reached = |bucket: &Bucket| bucket.count >= rank;
    let place = buckets[..last].partition_point(|bucket| !reached(bucket));
    if place == last {
        return buckets[last - 1].upper;
    }
    let Bucket { upper, count } = buckets[place];
    match place.checked_sub(1).map(|below| buckets[below]) {
        None if upper <= 0.0 => upper,
        None => upper * (rank / count),
        Some(below) => {
            below.upper + (upper - below.upper) * ((rank - below.count) / (count - below.count))
        }
    }
}

/// Buckets with one bound become one, with their sum.
fn coalesced(buckets: Vec<Bucket>) -> Vec<Bucket> {
    let mut merged: Vec<Bucket> = Vec::with_capacity(buckets.len());
    for bucket in buckets {
        match merged.last_mut() {
            Some(last) if last.upper == bucket.upper => last.count += bucket.count,
            _ => merged.push(bucket),
        }
    }
    merged
}

/// Lifts counts that are below an earlier one: scrapes are not atomic, so a later bucket may lag.
fn monotone(mut buckets: Vec<Bucket>) -> Vec<Bucket> {
    let mut highest = buckets[0].count;
    for bucket in &mut buckets[1..] {
        if bucket.count > highest {
            highest = bucket.count;
        } else if bucket.count < highest {
            bucket.count = highest;
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(q: f64, buckets: &[(f64, f64)], expected: f64) {
        let buckets = buckets.iter().map(|&(upper, count)| Bucket { upper, count }).collect();
        let found = bucket_quantile(q, buckets);
        assert!(found == expected || found.is_nan() && expected.is_nan(), "{found}, {expected}");
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let buckets = [(1.0, 10.0), (2.0, 30.0), (f64::INFINITY, 40.0)];
        check(0.5, &buckets, 1.5);
        check(0.125, &buckets, 0.5);
        check(0.9, &buckets, 2.0);
        check(1.5, &buckets, f64::INFINITY);
        check(0.1, &[(-1.0, 10.0), (f64::INFINITY, 10.0)], -1.0);
    }

    #[test]
    fn broken_histograms_have_none() {
        check(0.5, &[], f64::NAN);
        check(0.5, &[(f64::INFINITY, 3.0)], f64::NAN);
        check(0.5, &[(1.0, 3.0), (2.0, 3.0)], f64::NAN);
        check(0.5, &[(1.0, 0.0), (f64::INFINITY, 0.0)], f64::NAN);
    }

    #[test]
    fn a_lagging_bucket_is_lifted_and_twins_are_added() {
        check(0.5, &[(1.0, 10.0), (2.0, 8.0), (f64::INFINITY, 20.0)], 1.0);
        check(0.5, &[(1.0, 5.0), (1.0, 5.0), (f64::INFINITY, 20.0)], 1.0);
    }
}
