//! The past of a collector's series, kept by the process itself.
//!
//! A [`Sampler`](crate::Sampler) that was given a [`Store`] appends every sample to it. Lines are
//! kept as the text page has them: a histogram as `_bucket`, `_sum` and `_count`, one with
//! exponential buckets by powers of two, a summary as quantiles, `_sum` and `_count`. A series that
//! goes gets a stale marker, as a scraper would give it.
//!
//! Where it stops: counts above 2^53 lose their last digits here, as in Prometheus, since history is
//! in floats.
//!
//! # Examples
//! ```
//! use std::sync::Arc;
//! use std::time::{Duration, SystemTime};
//! use tripod_metrics::MetricsCollector;
//! use tripod_metrics::history::{Store, StoreConfig};
//!
//! let metrics = MetricsCollector::new();
//! metrics.counter("jobs_total", "Jobs.").labels(["kind"]).register()?.add(&["a"], 7)?;
//! let store = Arc::new(Store::in_memory(StoreConfig::default())?);
//! let sampler = metrics.sampler().history(store).start()?; // The first sample is taken here.
//!
//! let last_minute = SystemTime::now() - Duration::from_secs(60)..=SystemTime::now();
//! let series = metrics.query("jobs_total", &[("kind", "a")], last_minute)?;
//! assert_eq!(series[0].points[0].value, 7.0);
//! # drop(sampler);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tripod_history::{ColumnId, ColumnKind, MatchOp, Matcher, MatcherError, NAME_LABEL};
pub use tripod_history::{
    Finding, Labels, Point, SelectError, SeriesPoints, Source, Store, StoreConfig, StoreStats, Tier,
};

use crate::collector::MetricsCollector;
use crate::labels::write_pair;
use crate::samples::{self, Sample};
use crate::snapshot::{FamilySnapshot, Kind, SeriesSnapshot, Snapshot};

/// How often the same trouble is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Why the past could not be told.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// Nothing keeps it.
    #[error("no sampler with a history was started for this collector")]
    NoHistory,
    /// A label cannot be asked for.
    #[error(transparent)]
    Matcher(#[from] MatcherError),
    /// The store did not answer.
    #[error(transparent)]
    Select(#[from] SelectError),
}

impl MetricsCollector {
    /// Returns the points of all series of the line `name` whose labels have these values, within
    /// `range`, from the history that a [`Sampler`](crate::Sampler) keeps.
    ///
    /// Labels that are not named may have any value. `name` is that of a line: of a histogram `x`,
    /// say `x_count`. Stale markers are among the points; see
    /// [`is_stale`](tripod_history::is_stale).
    ///
    /// # Errors
    /// [`QueryError::NoHistory`] if there is none, the other variants if it could not be read.
    ///
    /// # Examples
    /// See [`history`](self).
    pub fn query(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        range: RangeInclusive<SystemTime>,
    ) -> Result<Vec<SeriesPoints>, QueryError> {
        let store = self.history().ok_or(QueryError::NoHistory)?;
        let wanted = [(NAME_LABEL, name)].into_iter().chain(labels.iter().copied());
        let matchers: Result<Vec<Matcher>, MatcherError> =
            wanted.map(|(name, value)| Matcher::new(name, MatchOp::Equal, value)).collect();
        Ok(store.select(&matchers?, unix_ms(*range.start()), unix_ms(*range.end()), 0)?)
    }
}

/// Appends snapshots to a store.
#[derive(Debug)]
pub(crate) struct Recorder {
    store: Arc<Store>,
    columns: HashMap<String, Known>,
    round: u64,
    logged: Option<SystemTime>,
    // Kept for their capacity.
    key: String,
    row: Vec<(ColumnId, f64)>,
}

#[derive(Debug)]
struct Known {
    column: ColumnId,
    /// The last tick that had the series.
    round: u64,
}

impl Recorder {
    /// Shows the store's own counts in `collector`, too.
    pub(crate) fn new(collector: &MetricsCollector, store: Arc<Store>) -> Self {
        if let Err(error) = show_stats(collector, &store) {
            tracing::warn!(%error, "the history cannot show its counts");
        }
        let (columns, key, row) = (HashMap::new(), String::new(), Vec::new());
        Self { store, columns, round: 0, logged: None, key, row }
    }

    /// Keeps what `snapshot` holds, and does what is due.
    pub(crate) fn tick(&mut self, snapshot: &Snapshot) {
        self.round += 1;
        self.row.clear();
        for family in &snapshot.families {
            samples::for_each_of_family(family, |series, sample| self.add(family, series, sample));
        }
        let now_ms = unix_ms(snapshot.time);
        let appended = self.store.append(now_ms, &self.row);
        self.retire_absent(now_ms);
        if let Err(error) = appended {
            self.log(snapshot.time, &error);
        }
        self.maintain(snapshot.time, Store::maintain);
    }

    /// Writes all that is not in a file yet.
    pub(crate) fn end(&mut self, now: SystemTime) {
        self.maintain(now, Store::flush);
    }

    fn add(&mut self, family: &FamilySnapshot, series: &SeriesSnapshot, sample: Sample<'_>) {
        let Self { store, columns, round, key, row, .. } = self;
        key.clear();
        key.push_str(&family.name);
        key.push_str(sample.suffix);
        let mut labels = String::new();
        let own = series.labels.iter().map(|(name, value)| (&**name, &**value));
        own.chain(sample.extra).for_each(|(name, value)| write_pair(&mut labels, name, value));
        key.push('{');
        key.push_str(&labels);
        if !columns.contains_key(key.as_str()) {
            let column = store.column(&labels_of(family, series, sample), kind_of(family, sample));
            columns.insert(key.clone(), Known { column, round: *round });
        }
        if let Some(known) = columns.get_mut(key.as_str()) {
            known.round = *round;
            row.push((known.column, sample.number.as_f64()));
        }
    }

    fn retire_absent(&mut self, now_ms: i64) {
        let Self { store, columns, round, .. } = self;
        columns.retain(|_, known| {
            let is_present = known.round == *round;
            if !is_present {
                store.retire(known.column, now_ms);
            }
            is_present
        });
    }

    fn maintain<E: std::error::Error>(
        &mut self,
        now: SystemTime,
        run: impl FnOnce(&Store, i64) -> Result<tripod_history::Maintained, E>,
    ) {
        match run(&self.store, unix_ms(now)) {
            Ok(done) => {
                for finding in done.findings {
                    tracing::warn!(%finding, "a file of the history is damaged");
                }
            }
            Err(error) => self.log(now, &error),
        }
    }

    /// Says what is wrong, once a minute at most; the store counts every time.
    fn log(&mut self, now: SystemTime, error: &dyn std::error::Error) {
        if is_due(self.logged, now) {
            self.logged = Some(now);
            tracing::warn!(%error, "the history is not kept whole; recording goes on");
        }
    }
}

/// Whether to log at `now` what was logged last at `logged`; also if the clock went back since.
fn is_due(logged: Option<SystemTime>, now: SystemTime) -> bool {
    let since = logged.map(|logged| now.duration_since(logged).unwrap_or(LOG_INTERVAL));
    since.is_none_or(|since| since >= LOG_INTERVAL)
}

fn labels_of(family: &FamilySnapshot, series: &SeriesSnapshot, sample: Sample<'_>) -> Labels {
    let name = format!("{}{}", family.name, sample.suffix);
    let own = series.labels.iter().map(|(name, value)| (&**name, &**value));
    Labels::new(own.chain(sample.extra).chain([(NAME_LABEL, &*name)]))
}

fn kind_of(family: &FamilySnapshot, sample: Sample<'_>) -> ColumnKind {
    let is_quantile = family.kind == Kind::Summary && sample.suffix.is_empty();
    if family.kind == Kind::Gauge || is_quantile {
        ColumnKind::Gauge
    } else {
        ColumnKind::Cumulative
    }
}

/// Registers what the store counts.
fn show_stats(
    collector: &MetricsCollector,
    store: &Arc<Store>,
) -> Result<(), Box<dyn std::error::Error>> {
    type Count = fn(StoreStats) -> u64;
    let counts: [(&str, &str, Count); 4] = [
        (
            "tripod_metrics_history_flush_failures_total",
            "Times that the history could not be written.",
            |stats| stats.flush_failures,
        ),
        (
            "tripod_metrics_history_damaged_files_total",
            "Files of the history found damaged.",
            |stats| stats.blocks_damaged,
        ),
        (
            "tripod_metrics_history_dropped_ticks_total",
            "Samples that the history refused.",
            |stats| stats.ticks_dropped,
        ),
        (
            "tripod_metrics_history_dropped_blocks_total",
            "Blocks of the history removed before their time, to keep to a limit.",
            |stats| stats.blocks_dropped,
        ),
    ];
    for (name, help, count) in counts {
        let store = Arc::downgrade(store);
        let family = collector.counter(name, help).register()?;
        family.observe(&[], move || Some(count(store.upgrade()?.stats())))?;
    }
    let (name, help) = ("tripod_metrics_history_bytes", "Size of the history, by where it is.");
    let bytes = collector.gauge(name, help).unit("bytes").labels(["place"]).register()?;
    for (place, size) in
        [("disk", (|s| s.disk_bytes) as Count), ("memory", |s| s.memory_bytes as u64)]
    {
        let store = Arc::downgrade(store);
        bytes.observe(&[place], move || Some(size(store.upgrade()?.stats()) as f64))?;
    }
    Ok(())
}

/// Milliseconds since 1970, negative before.
fn unix_ms(time: SystemTime) -> i64 {
    let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => ms(since),
        Err(before) => -ms(before.duration()),
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A collector whose clock stands until it is told to go on.
    fn with_clock() -> (MetricsCollector, Arc<AtomicU64>) {
        let seconds = Arc::new(AtomicU64::new(1_764_000_000));
        let clock = Arc::clone(&seconds);
        let now = move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst));
        (MetricsCollector::builder().clock(now).build().unwrap(), seconds)
    }

    #[test]
    fn what_was_sampled_is_there_when_the_directory_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let (metrics, seconds) = with_clock();
        let start = metrics.now();
        let family = metrics.counter("jobs_total", "Jobs.").labels(["kind"]).register().unwrap();
        let sizes = metrics.histogram("size", "Size.").buckets([1.0]).register().unwrap().plain();
        let (store, findings) =
            Store::open(dir.path(), StoreConfig::default(), unix_ms(start)).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        let mut recorder = Recorder::new(&metrics, Arc::new(store));
        for _ in 0..100 {
            family.add(&["a"], 3).unwrap();
            sizes.observe(0.5);
            recorder.tick(&metrics.snapshot());
            seconds.fetch_add(1, Ordering::SeqCst);
        }
        recorder.end(metrics.now());
        drop(recorder);

        let (store, findings) =
            Store::open(dir.path(), StoreConfig::default(), unix_ms(metrics.now())).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        metrics.attach_history(Arc::new(store));
        let all = start..=metrics.now();
        let jobs = metrics.query("jobs_total", &[("kind", "a")], all.clone()).unwrap();
        let values: Vec<f64> = jobs[0].points.iter().map(|point| point.value).collect();
        let expected: Vec<f64> = (1..=100).map(|tick| f64::from(tick) * 3.0).collect();
        assert_eq!((jobs.len(), values), (1, expected));
        let buckets = metrics.query("size_bucket", &[("le", "1")], all.clone()).unwrap();
        assert_eq!(buckets[0].points.last().map(|point| point.value), Some(100.0));
        assert!(metrics.query("jobs_total", &[("kind", "b")], all).unwrap().is_empty());
    }

    #[test]
    fn a_series_that_goes_is_marked_stale_and_may_come_back() {
        let (metrics, seconds) = with_clock();
        let start = metrics.now();
        let level = Arc::new(AtomicU64::new(5));
        let read = Arc::clone(&level);
        let gauge = metrics.gauge("level", "Level.").register().unwrap();
        gauge
            .observe(&[], move || {
                Some(read.load(Ordering::SeqCst) as f64).filter(|level| *level > 0.0)
            })
            .unwrap();
        let store = Arc::new(Store::in_memory(StoreConfig::default()).unwrap());
        metrics.attach_history(Arc::clone(&store));
        let mut recorder = Recorder::new(&metrics, store);
        for value in [5, 0, 7] {
            level.store(value, Ordering::SeqCst);
            recorder.tick(&metrics.snapshot());
            seconds.fetch_add(1, Ordering::SeqCst);
        }
        let series = metrics.query("level", &[], start..=metrics.now()).unwrap();
        let points: Vec<Option<f64>> = series[0]
            .points
            .iter()
            .map(|point| (!tripod_history::is_stale(point.value)).then_some(point.value))
            .collect();
        assert_eq!(points, [Some(5.0), None, Some(7.0)]);
    }

    #[test]
    fn the_same_trouble_is_logged_once_a_minute() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(is_due(None, at(0)));
        for (now, expected) in [(100, false), (159, false), (160, true), (99, true)] {
            assert_eq!(is_due(Some(at(100)), at(now)), expected, "{now}");
        }
    }

    #[test]
    fn a_history_that_cannot_be_written_is_counted_and_recording_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (metrics, seconds) = with_clock();
        let start = metrics.now();
        let (store, _) = Store::open(dir.path(), StoreConfig::default(), unix_ms(start)).unwrap();
        let mut recorder = Recorder::new(&metrics, Arc::new(store));
        let jobs = metrics.counter("jobs_total", "Jobs.").register().unwrap().plain();
        metrics.attach_history(Arc::clone(&recorder.store));
        std::fs::remove_dir_all(dir.path()).unwrap();
        for _ in 0..130 {
            jobs.inc();
            recorder.tick(&metrics.snapshot());
            seconds.fetch_add(1, Ordering::SeqCst);
        }
        let page = metrics.encode_text();
        let failures = "tripod_metrics_history_flush_failures_total ";
        let counted = page.lines().find_map(|line| line.strip_prefix(failures));
        assert!(counted.is_some_and(|count| count != "0"), "{page}");
        let series = metrics.query("jobs_total", &[], start..=metrics.now()).unwrap();
        assert_eq!(series[0].points.len(), 130);
    }

    #[test]
    fn a_collector_without_a_history_says_so() {
        let metrics = MetricsCollector::new();
        let error = metrics.query("x", &[], UNIX_EPOCH..=SystemTime::now()).unwrap_err();
        assert!(matches!(error, QueryError::NoHistory), "{error}");
    }
}
