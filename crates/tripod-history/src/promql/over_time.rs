//! Functions of the points that one series has in a window of time.
//!
//! They are pure: points, the ends of the window and scalars in, a value out. Stale markers are gone
//! before, and a window is never empty.

use super::error::QueryError;
use super::math::{Mean, Sum, quantile};
use crate::source::Point;

/// The points of one series, and the window in which they lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<'a> {
    /// At least one, ascending in time.
    pub(super) points: &'a [Point],
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    /// The moment of the query, which an offset or `@` moves away from the window.
    pub(super) now_ms: i64,
}

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeFunction {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Deriv,
    PredictLinear,
    HoltWinters,
    Resets,
    Changes,
    Average,
    Minimum,
    Maximum,
    Sum,
    Count,
    Quantile,
    Deviation,
    Variance,
    Last,
    Present,
}

impl RangeFunction {
    /// The function that PromQL calls `name`.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "delta" => Self::Delta,
            "irate" => Self::Irate,
            "idelta" => Self::Idelta,
            "deriv" => Self::Deriv,
            "predict_linear" => Self::PredictLinear,
            "holt_winters" => Self::HoltWinters,
            "resets" => Self::Resets,
            "changes" => Self::Changes,
            "avg_over_time" => Self::Average,
            "min_over_time" => Self::Minimum,
            "max_over_time" => Self::Maximum,
            "sum_over_time" => Self::Sum,
            "count_over_time" => Self::Count,
            "quantile_over_time" => Self::Quantile,
            "stddev_over_time" => Self::Deviation,
            "stdvar_over_time" => Self::Variance,
            "last_over_time" => Self::Last,
            "present_over_time" => Self::Present,
            _ => return None,
        })
    }

    /// The value, or `None` if the window has too few points for one.
    ///
    /// `scalars` are the arguments besides the window, in their order.
    ///
    /// # Errors
    /// [`QueryError::Argument`] if a scalar is out of range.
    pub(super) fn apply(
        self,
        window: Window<'_>,
        scalars: &[f64],
    ) -> Result<Option<f64>, QueryError> {
        let points = window.points;
        let values = || points.iter().map(|point| point.value);
        Ok(match self {
            Self::Rate => extrapolated(window, Kind::Rate),
            Self::Increase => extrapolated(window, Kind::Increase),
            Self::Delta => extrapolated(window, Kind::Delta),
            Self::Irate => last_two(points, true),
            Self::Idelta => last_two(points, false),
            Self::Deriv | Self::PredictLinear if points.len() < 2 => None,
            Self::Deriv => Some(line(points, points[0].time_ms).slope),
            Self::PredictLinear => {
                let line = line(points, window.now_ms);
                Some(line.slope * scalars[0] + line.intercept)
            }
            Self::HoltWinters => holt_winters(points, scalars[0], scalars[1])?,
            Self::Resets => Some(count_pairs(points, |before, after| after < before)),
            Self::Changes => Some(count_pairs(points, |before, after| {
                after != before && !(after.is_nan() && before.is_nan())
            })),
            Self::Average => {
                let mut mean = Mean::default();
                values().for_each(|value| mean.add(value));
                Some(mean.value())
            }
            Self::Minimum => Some(extreme(points, |value, least| value < least)),
            Self::Maximum => Some(extreme(points, |value, greatest| value > greatest)),
            Self::Sum => {
                let mut sum = Sum::default();
                values().for_each(|value| sum.add(value));
                Some(sum.value_or_infinity())
            }
            Self::Count => Some(points.len() as f64),
            Self::Quantile => Some(quantile(scalars[0], &mut values().collect::<Vec<_>>())),
            Self::Deviation => Some(variance(points).sqrt()),
            Self::Variance => Some(variance(points)),
            Self::Last => points.last().map(|point| point.value),
            Self::Present => Some(1.0),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rate,
    Increase,
    Delta,
}

/// The change over the window, as if the series went on to its ends.
///
/// It is stretched to an end that is nearer than 1.1 mean distances between points, else by half a
/// distance; and for a counter never to before the moment at which it would have been zero.
fn extrapolated(window: Window<'_>, kind: Kind) -> Option<f64> {
    let points = window.points;
    let (first, last) = (points.first()?, points.last()?);
    if points.len() < 2 {
        return None;
    }
    let counter = kind != Kind::Delta;
    let mut change = last.value - first.value;
    if counter {
        for pair in points.windows(2).filter(|pair| pair[1].value < pair[0].value) {
            change += pair[0].value;
        }
    }
    let sampled_s = seconds(last.time_ms - first.time_ms);
    let distance_s = sampled_s / (points.len() - 1) as f64;
    let mut to_start_s = seconds(first.time_ms - window.start_ms);
    let to_end_s = seconds(window.end_ms - last.time_ms);
    if counter && change > 0.0 && first.value >= 0.0 {
        to_start_s = to_start_s.min(sampled_s * (first.value / change));
    }
    let stretch = |gap_s| if gap_s < distance_s * 1.1 { gap_s } else { distance_s / 2.0 };
    let mut factor = (sampled_s + stretch(to_start_s) + stretch(to_end_s)) / sampled_s;
    if kind == Kind::Rate {
        factor /= seconds(window.end_ms - window.start_ms);
    }
    Some(change * factor)
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// The change between the last two points; per second, and with a reset in mind, for a counter.
fn last_two(points: &[Point], counter: bool) -> Option<f64> {
    let [.., before, last] = points else { return None };
    if !counter {
        return Some(last.value - before.value);
    }
    let reset = last.value < before.value;
    let change = if reset { last.value } else { last.value - before.value };
    Some(change / seconds(last.time_ms - before.time_ms))
}

struct Line {
    slope: f64,
    intercept: f64,
}

/// The line of least squares; its intercept is the value at `origin_ms`.
fn line(points: &[Point], origin_ms: i64) -> Line {
    let first = points[0].value;
    if points.iter().all(|point| point.value == first) {
        if first.is_infinite() {
            return Line { slope: f64::NAN, intercept: f64::NAN };
        }
        return Line { slope: 0.0, intercept: first };
    }
    let [mut sum_x, mut sum_y, mut sum_xy, mut sum_xx] = [Sum::default(); 4];
    for point in points {
        let x = seconds(point.time_ms - origin_ms);
        sum_x.add(x);
        sum_y.add(point.value);
        sum_xy.add(x * point.value);
        sum_xx.add(x * x);
    }
    let count = points.len() as f64;
    let (x, y) = (sum_x.value(), sum_y.value());
    let covariance = sum_xy.value() - x * y / count;
    let variance = sum_xx.value() - x * x / count;
    let slope = covariance / variance;
    Line { slope, intercept: y / count - slope * x / count }
}

/// Double exponential smoothing: the smoothed value at the end of the window.
fn holt_winters(points: &[Point], smoothing: f64, trend: f64) -> Result<Option<f64>, QueryError> {
    for (what, factor) in [("smoothing", smoothing), ("trend", trend)] {
        // Written so that NaN passes, as it does in Prometheus.
        if factor <= 0.0 || factor >= 1.0 {
            let message = format!("invalid {what} factor, expected 0 < factor < 1, got {factor}");
            return Err(QueryError::argument("holt_winters", message));
        }
    }
    if points.len() < 2 {
        return Ok(None);
    }
    let mut before = 0.0;
    let mut level = points[0].value;
    let mut slope = points[1].value - points[0].value;
    for (place, point) in points.iter().enumerate().skip(1) {
        if place > 1 {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        before = level;
        level = smoothing * point.value + (1.0 - smoothing) * (level + slope);
    }
    Ok(Some(level))
}

fn count_pairs(points: &[Point], counts: impl Fn(f64, f64) -> bool) -> f64 {
    points.windows(2).filter(|pair| counts(pair[0].value, pair[1].value)).count() as f64
}

/// The value that beats all others; NaN is beaten by any.
fn extreme(points: &[Point], beats: impl Fn(f64, f64) -> bool) -> f64 {
    points.iter().map(|point| point.value).fold(f64::NAN, |best, value| {
        if best.is_nan() || beats(value, best) { value } else { best }
    })
}

/// The variance by Welford's method.
fn variance(points: &[Point]) -> f64 {
    let [mut mean, mut squares] = [Sum::default(); 2];
    for (place, point) in points.iter().enumerate() {
        let delta = point.value - mean.value();
        mean.add(delta / (place + 1) as f64);
        squares.add(delta * (point.value - mean.value()));
    }
    squares.value() / points.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[(i64, f64)]) -> Vec<Point> {
        values.iter().map(|&(time_s, value)| Point { time_ms: time_s * 1000, value }).collect()
    }

    #[track_caller]
    fn check(function: &str, values: &[(i64, f64)], scalars: &[f64], expected: Option<f64>) {
        let points = points(values);
        let window = Window { points: &points, start_ms: 0, end_ms: 60_000, now_ms: 60_000 };
        let function = RangeFunction::named(function).expect("a function");
        let found = function.apply(window, scalars).expect("good arguments");
        let close = match (found, expected) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * b.abs(),
            (a, b) => a == b,
        };
        assert!(close, "{function:?}: {found:?}, expected {expected:?}");
    }

    #[test]
    fn a_counter_with_a_reset_is_stretched_to_both_ends() {
        // 10 to 50, then 5 to 15 after a reset: 55 in 40 s, and 10 s are missing at each end.
        let counter = [(10, 10.0), (20, 30.0), (30, 50.0), (40, 5.0), (50, 15.0)];
        let to_zero_s = 40.0 * (10.0 / 55.0);
        let stretched = 55.0 * (40.0 + to_zero_s + 10.0) / 40.0;
        check("increase", &counter, &[], Some(stretched));
        check("rate", &counter, &[], Some(stretched / 60.0));
        check("resets", &counter, &[], Some(1.0));
        check("irate", &counter, &[], Some(1.0));
        check("rate", &counter[..1], &[], None);
    }

    #[test]
    fn a_gauge_far_from_the_ends_is_stretched_by_half_a_distance() {
        check("delta", &[(20, 1.0), (30, 3.0), (35, 4.0)], &[], Some(3.0 * (15.0 + 7.5) / 15.0));
        check("idelta", &[(20, 1.0), (30, 3.0), (35, 2.0)], &[], Some(-1.0));
    }

    #[test]
    fn lines_are_followed() {
        let rising = [(10, 1.0), (20, 2.0), (30, 3.0)];
        check("deriv", &rising, &[], Some(0.1));
        check("predict_linear", &rising, &[40.0], Some(10.0));
        check("deriv", &[(10, 5.0), (20, 5.0)], &[], Some(0.0));
    }

    #[test]
    fn nan_is_beaten_by_any_value() {
        let values = [(10, f64::NAN), (20, 2.0), (30, f64::NAN)];
        check("max_over_time", &values, &[], Some(2.0));
        check("changes", &values, &[], Some(2.0));
        check("changes", &[(10, f64::NAN), (20, f64::NAN)], &[], Some(0.0));
    }

    #[test]
    fn holt_winters_refuses_factors_outside_of_its_range() {
        let points = points(&[(1, 1.0), (2, 2.0)]);
        let window = Window { points: &points, start_ms: 0, end_ms: 9000, now_ms: 9000 };
        for scalars in [[0.0, 0.5], [0.5, 1.0]] {
            assert!(RangeFunction::HoltWinters.apply(window, &scalars).is_err(), "{scalars:?}");
        }
    }
}
