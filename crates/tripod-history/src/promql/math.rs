//! Arithmetic on samples: what Prometheus computes where Rust's own answer would differ, and sums
//! that keep the digits lost to rounding.

/// A running total that carries what rounding drops (Neumaier's form of Kahan summation).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    total: f64,
    lost: f64,
}

impl Sum {
    pub(super) fn add(&mut self, value: f64) {
        let next = self.total + value;
        self.lost += if self.total.abs() >= value.abs() {
            (self.total - next) + value
        } else {
            (value - next) + self.total
        };
        self.total = next;
    }

    /// The total with what was lost; the two are added even if the total is infinite.
    pub(super) fn value(self) -> f64 {
        self.total + self.lost
    }

    /// The total, corrected only if it is finite: an infinite total has lost `inf - inf`.
    pub(super) fn value_or_infinity(self) -> f64 {
        if self.total.is_infinite() { self.total } else { self.value() }
    }

    /// Whether the total, not yet corrected, is infinite with the sign given by `positive`.
    fn infinite(self) -> Option<bool> {
        self.total.is_infinite().then_some(self.total > 0.0)
    }
}

/// A running mean that neither overflows on large values nor turns an infinity into NaN.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    sum: Sum,
    count: f64,
}

impl Mean {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if let Some(positive) = self.sum.infinite() {
            let same = value.is_infinite() && (value > 0.0) == positive;
            if same || value.is_finite() {
                return;
            }
        }
        self.sum.add(value / self.count - self.sum.total / self.count);
    }

    pub(super) fn value(self) -> f64 {
        self.sum.value_or_infinity()
    }
}

/// The smaller of two; NaN if either is NaN, unless the other is -inf.
pub(super) fn least(a: f64, b: f64) -> f64 {
    match (a, b) {
        _ if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY => f64::NEG_INFINITY,
        _ if a.is_nan() || b.is_nan() => f64::NAN,
        _ => a.min(b),
    }
}

/// The larger of two; NaN if either is NaN, unless the other is +inf.
pub(super) fn greatest(a: f64, b: f64) -> f64 {
    match (a, b) {
        _ if a == f64::INFINITY || b == f64::INFINITY => f64::INFINITY,
        _ if a.is_nan() || b.is_nan() => f64::NAN,
        _ => a.max(b),
    }
}

/// Rounds to the nearest multiple of `to`, halves upwards.
pub(super) fn round_to(value: f64, to: f64) -> f64 {
    // The inverse is what Prometheus uses; dividing by `to` would differ in the last digit.
    let inverse = 1.0 / to;
    (value * inverse + 0.5).floor() / inverse
}

/// The sign of a value; zero and NaN stay what they are.
pub(super) fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

pub(super) fn to_radians(degrees: f64) -> f64 {
    degrees * std::f64::consts::PI / 180.0
}

pub(super) fn to_degrees(radians: f64) -> f64 {
    radians * 180.0 / std::f64::consts::PI
}

/// The order in which quantiles see values: NaN before all numbers.
pub(super) fn nan_first(a: &f64, b: &f64) -> std::cmp::Ordering {
    b.is_nan().cmp(&a.is_nan()).then(a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))
}

/// The quantile of the values, which get sorted; between two of them by weight.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(nan_first);
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_keeps_what_rounding_drops() {
        let mut sum = Sum::default();
        [1.0, 1e100, 1.0, -1e100].into_iter().for_each(|value| sum.add(value));
        assert_eq!(sum.value(), 2.0);
        sum.add(f64::INFINITY);
        assert_eq!(sum.value_or_infinity(), f64::INFINITY);
    }

    #[test]
    fn a_mean_survives_huge_and_infinite_values() {
        let mean = |values: &[f64]| {
            let mut mean = Mean::default();
            values.iter().for_each(|value| mean.add(*value));
            mean.value()
        };
        assert_eq!(mean(&[f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(mean(&[f64::INFINITY, 1.0, f64::INFINITY]), f64::INFINITY);
        assert!(mean(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn bounds_pass_nan_on_except_beside_their_own_infinity() {
        assert!(least(1.0, f64::NAN).is_nan() && greatest(f64::NAN, 1.0).is_nan());
        assert_eq!(least(f64::NAN, f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert_eq!(greatest(f64::NAN, f64::INFINITY), f64::INFINITY);
    }

    #[test]
    fn quantiles_interpolate_and_have_ends() {
        assert_eq!(quantile(0.25, &mut [4.0, 1.0, 2.0, 3.0]), 1.75);
        assert_eq!(quantile(1.0, &mut [4.0, 1.0]), 4.0);
        assert_eq!(quantile(-0.1, &mut [4.0]), f64::NEG_INFINITY);
        assert!(quantile(0.0, &mut [4.0, f64::NAN]).is_nan());
    }

    #[test]
    fn halves_round_up() {
        assert_eq!(round_to(2.5, 1.0), 3.0);
        assert_eq!(round_to(-2.5, 1.0), -2.0);
        assert_eq!(round_to(7.0, 5.0), 5.0);
    }
}
