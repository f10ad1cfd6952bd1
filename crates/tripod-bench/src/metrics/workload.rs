//! What is recorded, the same for all: label values, observations, and series for a page.

use std::array;

use crate::random::Random;

/// The values of the first of two labels; with [`STATUSES`] they make 18 series.
pub(crate) const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
/// The values of the second of two labels.
pub(crate) const STATUSES: [&str; 6] = ["200", "201", "301", "404", "500", "503"];

/// The upper bounds of the buckets, in seconds.
pub(crate) const BOUNDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Length of what is precomputed: a power of two, so that wrapping around costs nothing.
const AROUND: usize = 1_024;

/// Things made before the clock starts, to be gone through over and over.
#[derive(Debug, Clone)]
pub(crate) struct Around<T>(Box<[T; AROUND]>);

impl<T> Around<T> {
    /// One for each pair of label values: index of the method and of the status, all pairs in turn.
    pub(crate) fn label_pairs(make: impl Fn(usize, usize) -> T) -> Self {
        let pair = |number| {
            let pair = number % (METHODS.len() * STATUSES.len());
            make(pair / STATUSES.len(), pair % STATUSES.len())
        };
        Self(Box::new(array::from_fn(pair)))
    }

    #[inline]
    pub(crate) fn get(&self, number: usize) -> &T {
        &self.0[number % AROUND]
    }
}

impl Around<f64> {
    /// Observations in seconds: each bucket is hit as often as any other, in no order that a branch
    /// predictor could learn.
    pub(crate) fn observations() -> Self {
        let mut random = Random::new(7);
        let observation = |_| {
            let bucket = random.below(BOUNDS.len() as u64 + 1) as usize;
            let low = if bucket == 0 { 0.0 } else { BOUNDS[bucket - 1] };
            let high = BOUNDS.get(bucket).copied().unwrap_or(10.0);
            low + (high - low) * random.unit().clamp(0.01, 0.99)
        };
        Self(Box::new(array::from_fn(observation)))
    }
}

/// Goes through all pairs of label values once.
pub(crate) fn label_pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..METHODS.len()).flat_map(|method| (0..STATUSES.len()).map(move |status| (method, status)))
}

/// The name of the family that makes the page, without `_total`, which some add by themselves.
pub(crate) const PAGE_NAME: &str = "http_requests";
/// The same, as it stands on every page.
pub(crate) const PAGE_NAME_TOTAL: &str = "http_requests_total";
/// The labels of the page's family.
pub(crate) const PAGE_LABELS: [&str; 2] = ["path", "pod"];

/// The label values of a series of the page; its counter holds `number`.
pub(crate) fn page_labels(number: usize) -> [String; 2] {
    [format!("/api/v1/resource/{number:07}"), format!("pod-{:08}", number % 97)]
}

/// Adds up the values of a family, or of the lines of one that end its name in `_count`.
pub(crate) fn sum_on_page(page: &str, name: &str) -> u64 {
    lines_of(page, name).map(|(_, value)| value).sum()
}

/// The lines of one name: their labels, and their values, which are whole numbers.
pub(crate) fn lines_of<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    page.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let value: f64 = value.parse().ok()?;
        Some((labels, value as u64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_is_hit() {
        let observations = Around::observations();
        let mut hits = [0; BOUNDS.len() + 1];
        for number in 0..AROUND {
            let value = *observations.get(number);
            hits[BOUNDS.partition_point(|bound| *bound < value)] += 1;
        }
        assert!(hits.iter().all(|hits| *hits > AROUND / 40), "{hits:?}");
    }

    #[test]
    fn all_pairs_of_labels_come_around() {
        let pairs = Around::label_pairs(|method, status| (method, status));
        let first: Vec<_> = (0..18).map(|number| *pairs.get(number)).collect();
        assert_eq!(first, label_pairs().collect::<Vec<_>>());
        assert_eq!(pairs.get(AROUND), pairs.get(0));
    }

    #[test]
    fn only_the_lines_of_the_name_are_added() {
        let page = "# TYPE a counter\na 3\na{x=\"y z\"} 4\nab 5\na_count 6\n";
        assert_eq!(sum_on_page(page, "a"), 7);
        assert_eq!(sum_on_page(page, "a_count"), 6);
    }
}
