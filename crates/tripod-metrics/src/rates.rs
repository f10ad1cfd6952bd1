//! What changed from one tick to the next: increases and rates of everything that counts up.
//!
//! Pure: it is told snapshots.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::labels::write_pair;
use crate::samples::{self, Sample};
use crate::snapshot::{Kind, Snapshot};
use crate::stream::Number;

/// How much each counter grew between two ticks.
///
/// Among them are the counts and sums of histograms and summaries, under their names with `_count`
/// and `_sum`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Rates {
    /// The time of the later tick.
    pub time: SystemTime,
    /// The time between the two; zero for the first tick, which has no rates.
    pub span: Duration,
    /// The series that were there at both ticks, by the order of the families.
    pub series: Vec<SeriesRate>,
}

/// How much one series grew.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SeriesRate {
    /// The name of the line: that of the family, or with `_count` or `_sum` behind it.
    pub name: String,
    /// Names and values of the labels.
    pub labels: Vec<(String, String)>,
    /// By how much it grew between the ticks; if it fell, it began anew, and this is all of it.
    pub delta: f64,
    /// The same for each second.
    pub per_second: f64,
}

/// Remembers the tick before.
#[derive(Debug, Default)]
pub(crate) struct RateMeter {
    last_time: Option<SystemTime>,
    last: HashMap<String, Number>,
}

impl RateMeter {
    /// Compares `snapshot` with the one before.
    pub(crate) fn tick(&mut self, snapshot: &Snapshot) -> Rates {
        let span = self.last_time.and_then(|last| snapshot.time.duration_since(last).ok());
        let span = span.unwrap_or_default();
        let mut now = HashMap::with_capacity(self.last.len());
        let mut series = Vec::new();
        for family in snapshot.families.iter().filter(|family| family.kind != Kind::Gauge) {
            samples::for_each_of_family(family, |own, sample| {
                let Sample { suffix, extra: None, number } = sample else { return };
                let name = format!("{}{suffix}", family.name);
                let mut labels = String::new();
                own.labels.iter().for_each(|(name, value)| write_pair(&mut labels, name, value));
                let key = format!("{name}{{{labels}}}");
                if let Some(last) = self.last.get(&key).filter(|_| !span.is_zero()) {
                    let delta = delta(*last, number);
                    let per_second = delta / span.as_secs_f64();
                    series.push(SeriesRate { name, labels: own.labels.clone(), delta, per_second });
                }
                now.insert(key, number);
            });
        }
        self.last = now;
        self.last_time = Some(snapshot.time);
        Rates { time: snapshot.time, span, series }
    }
}

/// Exact where both are whole, also above 2^53.
fn delta(last: Number, now: Number) -> f64 {
    match (last, now) {
        (Number::Whole(last), Number::Whole(now)) => now.checked_sub(last).unwrap_or(now) as f64,
        (last, now) if now.as_f64() < last.as_f64() => now.as_f64(),
        (last, now) => now.as_f64() - last.as_f64(),
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::MetricsCollector;

    #[test]
    fn growth_is_exact_and_each_second_of_the_time_between() {
        let seconds = Arc::new(AtomicU64::new(1000));
        let clock = Arc::clone(&seconds);
        let now = move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst));
        let metrics = MetricsCollector::builder().clock(now).build().unwrap();
        let jobs = metrics.counter("jobs_total", "Jobs.").labels(["x"]).register().unwrap();
        let sizes = metrics.histogram("size", "Size.").register().unwrap().plain();
        let jobs = jobs.with(&["a"]).unwrap();
        jobs.add(1 << 60);
        let mut meter = RateMeter::default();
        let first = meter.tick(&metrics.snapshot());
        assert_eq!((first.span, first.series), (Duration::ZERO, vec![]));

        seconds.fetch_add(4, Ordering::SeqCst);
        jobs.add(6);
        sizes.observe(10.0);
        let rates = meter.tick(&metrics.snapshot());
        assert_eq!(rates.span, Duration::from_secs(4));
        let of = |name: &str| {
            let found = rates.series.iter().find(|series| series.name == name);
            found.map(|series| (series.delta, series.per_second))
        };
        assert_eq!(of("jobs_total"), Some((6.0, 1.5)));
        assert_eq!(of("size_sum"), Some((10.0, 2.5)));
        assert_eq!(of("size_count"), Some((1.0, 0.25)));
        assert_eq!(rates.series[0].labels, [("x".to_owned(), "a".to_owned())]);

        // A clock that went backwards makes no negative rate.
        seconds.fetch_sub(3, Ordering::SeqCst);
        jobs.inc();
        assert_eq!(meter.tick(&metrics.snapshot()).series, vec![]);
    }

    #[test]
    fn what_fell_began_anew() {
        assert_eq!(delta(Number::Whole(7), Number::Whole(3)), 3.0);
        assert_eq!(delta(Number::Float(7.0), Number::Float(0.5)), 0.5);
        assert_eq!(delta(Number::Whole(u64::MAX - 1), Number::Whole(u64::MAX)), 1.0);
    }
}
