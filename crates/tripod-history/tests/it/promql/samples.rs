//! Random series: counters with resets, gauges, histograms, with gaps and stale markers.
//!
//! Values are small multiples of 1/8, so that sums are exact in any order: Prometheus adds the
//! series of a range query in the order of a hash map.

use tripod_history::{Labels, Point, STALE_NAN, SeriesPoints};

use super::random::Random;

/// When the samples begin: 2023-11-14 22:00:00 UTC.
pub(crate) const START_MS: i64 = 1_699_999_200_000;
/// How long they go on. Less than an hour, beyond which Prometheus refuses them as too old.
pub(crate) const SPAN_MS: i64 = 50 * 60_000;
const INTERVAL_MS: i64 = 15_000;

pub(crate) fn generate(random: &mut Random) -> Vec<SeriesPoints> {
    let mut series = Vec::new();
    for job in ["api", "web"] {
        for instance in ["a", "b", "c"] {
            for code in ["200", "404", "500"] {
                let labels = [("job", job), ("instance", instance), ("code", code)];
                series.push(sampled(random, "requests_total", &labels, counter));
            }
            let labels = [("job", job), ("instance", instance)];
            series.push(sampled(random, "temperature", &labels, gauge));
            series.push(sampled(random, "capacity", &labels, gauge));
            series.push(sampled(random, "errors_total", &labels, counter));
            let labels =
                [("instance", instance), ("job", job), ("version", random.pick(&["1", "2"]))];
            series.push(sampled(random, "build_info", &labels, |_| Box::new(|_| 1.0)));
        }
        series.extend(histogram(random, job));
    }
    for kind in ["nan", "infinite", "sparse", "zero"] {
        series.push(sampled(random, "odd", &[("kind", kind)], odd(kind)));
    }
    series
}

type Values = Box<dyn FnMut(&mut Random) -> f64>;

fn counter(_: &mut Random) -> Values {
    let mut value = 0.0;
    Box::new(move |random| {
        value += random.below(400) as f64 / 8.0;
        if random.chance(3) {
            value = random.below(20) as f64;
        }
        value
    })
}

fn gauge(random: &mut Random) -> Values {
    let mut value = random.below(800) as f64 / 8.0;
    Box::new(move |random| {
        if !random.chance(20) {
            value += random.below(161) as f64 / 8.0 - 10.0;
        }
        value
    })
}

fn odd(kind: &'static str) -> impl Fn(&mut Random) -> Values {
    move |_| {
        Box::new(move |random| match kind {
            "nan" if random.chance(30) => f64::NAN,
            "infinite" if random.chance(10) => f64::INFINITY,
            "infinite" if random.chance(10) => f64::NEG_INFINITY,
            "zero" => 0.0,
            _ => random.below(64) as f64 / 8.0 - 2.0,
        })
    }
}

/// One series at a regular distance with some jitter, of which a part is missing.
fn sampled(
    random: &mut Random,
    name: &str,
    labels: &[(&str, &str)],
    values: impl Fn(&mut Random) -> Values,
) -> SeriesPoints {
    let mut next = values(random);
    let jitter_ms = random.pick(&[&0, &0, &400]);
    let labels = Labels::new(labels.iter().copied().chain([("__name__", name)]));
    let points = times(random, *jitter_ms).into_iter().map(|(time_ms, stale)| {
        let value = next(random);
        Point { time_ms, value: if stale { STALE_NAN } else { value } }
    });
    SeriesPoints { labels, points: points.collect() }
}

/// When there are points, and which of them are stale markers. After a marker there is a gap.
fn times(random: &mut Random, jitter_ms: u64) -> Vec<(i64, bool)> {
    let begin = if random.chance(20) { random.below(80) as i64 } else { 0 };
    let end = SPAN_MS / INTERVAL_MS - if random.chance(20) { random.below(80) as i64 } else { 0 };
    let (mut times, mut gap) = (Vec::new(), 0);
    for place in begin..end {
        if gap > 0 {
            gap -= 1;
            continue;
        }
        let time_ms = START_MS + place * INTERVAL_MS + random.below(jitter_ms + 1) as i64;
        let stale = random.chance(1) && random.chance(70);
        if stale || random.chance(1) {
            gap = random.below(40);
        }
        times.push((time_ms, stale));
    }
    times
}

/// The buckets of a histogram with its sum and count; the same moments for all of them.
fn histogram(random: &mut Random, job: &str) -> Vec<SeriesPoints> {
    let bounds: [&str; 5] = match job {
        "api" => ["0.1", "0.5", "1", "2.5", "+Inf"],
        _ => ["-0.5", "0", "1", "2.5", "+Inf"],
    };
    let name = |suffix: &str| format!("latency_seconds{suffix}");
    let mut series: Vec<SeriesPoints> = bounds
        .iter()
        .map(|le| Labels::new([("__name__", &*name("_bucket")), ("job", job), ("le", le)]))
        .chain(["_sum", "_count"].map(|end| Labels::new([("__name__", &*name(end)), ("job", job)])))
        .map(|labels| SeriesPoints { labels, points: Vec::new() })
        .collect();
    let mut totals = [0.0; 7];
    for (time_ms, stale) in times(random, 0) {
        if random.chance(1) {
            totals = [0.0; 7];
        }
        for _ in 0..random.below(6) {
            let bucket = random.below(bounds.len() as u64) as usize;
            totals[bucket..bounds.len()].iter_mut().for_each(|total| *total += 1.0);
            totals[5] += random.below(32) as f64 / 8.0;
            totals[6] += 1.0;
        }
        for (series, total) in series.iter_mut().zip(totals) {
            let value = if stale { STALE_NAN } else { total };
            series.points.push(Point { time_ms, value });
        }
    }
    series
}
