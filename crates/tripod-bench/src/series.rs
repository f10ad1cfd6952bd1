//! Samples of one figure, and the turns in which the opponents' samples are taken.
//!
//! The clock is not read here.

use std::time::Duration;

/// What one run took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measurement {
    /// From before the start to the end.
    pub(crate) wall: Duration,
    /// User and system time of the process and of all descendants that were waited for.
    pub(crate) cpu: Duration,
}

/// The samples of one figure, sorted; never empty.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    /// Sorts the samples.
    ///
    /// # Panics
    /// If there are none, or one is not finite.
    pub(crate) fn new(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        assert!(!samples.is_empty(), "a series has a sample");
        assert!(samples.iter().all(|sample| sample.is_finite()), "{samples:?}");
        samples.sort_by(f64::total_cmp);
        Self(samples)
    }

    /// The sample in the middle; the mean of the two there for an even number.
    pub(crate) fn median(&self) -> f64 {
        let (low, high) = ((self.0.len() - 1) / 2, self.0.len() / 2);
        f64::midpoint(self.0[low], self.0[high])
    }

    pub(crate) fn min(&self) -> f64 {
        self.0[0]
    }

    pub(crate) fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// The distance from the smallest to the largest sample, as a share of the median: how far the
    /// figure can be trusted. Zero for equal samples.
    pub(crate) fn spread(&self) -> f64 {
        let range = self.max() - self.min();
        if range == 0.0 { 0.0 } else { range / self.median() }
    }
}

/// Takes `rounds` measurements of each of `opponents`, in turns.
///
/// The first of a round is the second opponent of the round before, so that a drift of the machine
/// and the place in a round fall on all alike. The answer has one list for each opponent.
///
/// # Errors
/// The first that `measure` returns; nothing is measured after it.
pub(crate) fn alternate<M, E>(
    opponents: usize,
    rounds: u32,
    mut measure: impl FnMut(usize) -> Result<M, E>,
) -> Result<Vec<Vec<M>>, E> {
    let mut taken: Vec<Vec<M>> = (0..opponents).map(|_| Vec::new()).collect();
    for round in 0..rounds as usize {
        for turn in 0..opponents {
            let opponent = (round + turn) % opponents;
            taken[opponent].push(measure(opponent)?);
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(samples: &[f64], median: f64, min: f64, max: f64, spread: f64) {
        let series = Series::new(samples.iter().copied());
        assert_eq!((series.median(), series.min(), series.max()), (median, min, max));
        assert!((series.spread() - spread).abs() < 1e-12, "{}", series.spread());
    }

    #[test]
    fn the_median_does_not_depend_on_the_order_or_on_an_outlier() {
        check(&[3.0, 1.0, 2.0], 2.0, 1.0, 3.0, 1.0);
        check(&[900.0, 2.0, 10.0, 8.0, 9.0], 9.0, 2.0, 900.0, 898.0 / 9.0);
        check(&[4.0, 1.0, 3.0, 2.0], 2.5, 1.0, 4.0, 3.0 / 2.5);
        check(&[5.0], 5.0, 5.0, 5.0, 0.0);
        check(&[0.0, 0.0], 0.0, 0.0, 0.0, 0.0);
    }

    #[test]
    #[should_panic(expected = "a series has a sample")]
    fn no_samples_are_no_series() {
        Series::new([]);
    }

    #[test]
    #[should_panic(expected = "NaN")]
    fn a_sample_is_a_number() {
        Series::new([1.0, f64::NAN]);
    }

    #[test]
    fn the_first_of_a_round_changes_and_each_list_is_one_opponents() {
        let mut order = Vec::new();
        let taken = alternate(3, 4, |opponent| {
            order.push(opponent);
            let wall = Duration::from_secs(opponent as u64);
            Ok::<_, ()>(Measurement { wall, cpu: Duration::ZERO })
        });
        assert_eq!(order, [0, 1, 2, 1, 2, 0, 2, 0, 1, 0, 1, 2]);
        for (opponent, list) in taken.unwrap().iter().enumerate() {
            let walls: Vec<u64> = list.iter().map(|m| m.wall.as_secs()).collect();
            assert_eq!(walls, [opponent as u64; 4]);
        }
    }

    #[test]
    fn the_first_error_ends_the_rounds() {
        let mut calls = 0;
        let taken = alternate(2, 5, |opponent| {
            calls += 1;
            Err::<Measurement, _>(opponent)
        });
        assert_eq!((taken, calls), (Err(0), 1));
    }
}
