//! The thread that gives a collector its sense of time.
//!
//! Once a tick it maintains the collector, takes a snapshot, and hands it to those who follow: the
//! rates, the live stream, and the history where there is one. It is the only thing here that waits;
//! what it calls is told the time.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, UNIX_EPOCH};

#[cfg(feature = "history")]
use tripod_history::Store;

use crate::collector::MetricsCollector;
#[cfg(feature = "history")]
use crate::history::Recorder;
use crate::live::{Live, Subscriber};
use crate::rates::{RateMeter, Rates};

/// Describes a [`Sampler`] before it is started.
#[derive(Debug)]
#[must_use = "a sampler does nothing until it is started"]
pub struct SamplerBuilder {
    collector: MetricsCollector,
    interval: Duration,
    #[cfg(feature = "history")]
    history: Option<Arc<Store>>,
}

/// A thread that samples a collector at a fixed interval, until it is dropped.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tripod_metrics::MetricsCollector;
/// use tripod_metrics::stream::Decoder;
///
/// let metrics = MetricsCollector::new();
/// metrics.counter("jobs_total", "Jobs.").register()?.plain().add(7);
/// let sampler = metrics.sampler().interval(Duration::from_millis(10)).start()?;
///
/// let subscriber = sampler.subscribe();
/// let mut decoder = Decoder::new();
/// while decoder.series().count() == 0 {
///     let frame = subscriber.next_within(Duration::from_secs(5)).expect("it ticks");
///     decoder.apply(&frame)?;
/// }
/// assert!(decoder.series().any(|series| series.family.name == "jobs_total"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Sampler {
    followers: Arc<Followers>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Who is told at each tick.
#[derive(Debug)]
struct Followers {
    collector: MetricsCollector,
    live: Arc<Live>,
    rates: Mutex<(RateMeter, Arc<Rates>)>,
    #[cfg(feature = "history")]
    recorder: Option<Mutex<Recorder>>,
}

impl SamplerBuilder {
    pub(crate) fn new(collector: MetricsCollector) -> Self {
        Self {
            collector,
            interval: Duration::from_secs(1),
            #[cfg(feature = "history")]
            history: None,
        }
    }

    /// Keeps what is sampled in `store`, and lets
    /// [`MetricsCollector::query`] read it there; default: nothing is kept.
    ///
    /// The thread also maintains the store, and flushes it when it ends.
    #[cfg(feature = "history")]
    pub fn history(mut self, store: Arc<Store>) -> Self {
        self.history = Some(store);
        self
    }

    /// Sets how often; default: every second.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Takes the first sample and starts the thread.
    ///
    /// # Errors
    /// If the system has no thread to give.
    ///
    /// # Panics
    /// Only if an observer does; later, that ends the thread.
    pub fn start(self) -> io::Result<Sampler> {
        let interval = self.interval;
        let followers = Arc::new(Followers::new(self));
        followers.tick();
        let (stop, stopped) = channel();
        let told = Arc::clone(&followers);
        let run = move || {
            // Also if an observer panics: nobody is to wait for a tick that will never come.
            let _ending = EndOnDrop(Arc::clone(&told));
            let mut due = Instant::now() + interval;
            let mut wait = interval;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                told.tick();
                (due, wait) = next_due(due, Instant::now(), interval);
            }
        };
        let thread = std::thread::Builder::new().name("metrics-sampler".to_owned()).spawn(run)?;
        Ok(Sampler { followers, stop: Some(stop), thread: Some(thread) })
    }
}

/// When the next tick is due, and how long that is from `now`. Ticks that were missed are left out, so
/// they never pile up, and the others stay on the grid of the first.
fn next_due(due: Instant, now: Instant, interval: Duration) -> (Instant, Duration) {
    let late = now.saturating_duration_since(due);
    let missed = late.as_nanos() / interval.as_nanos().max(1);
    let next = due + interval * (u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1));
    (next, next.saturating_duration_since(now))
}

impl Sampler {
    /// How much everything that counts up grew in the last tick.
    #[must_use]
    pub fn rates(&self) -> Arc<Rates> {
        Arc::clone(&self.followers.rates.lock().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// Subscribes to what changes, in binary frames; see [`stream`](crate::stream).
    #[must_use]
    pub fn subscribe(&self) -> Subscriber {
        self.followers.live.subscribe()
    }
}

impl Followers {
    fn new(builder: SamplerBuilder) -> Self {
        let collector = builder.collector;
        #[cfg(feature = "history")]
        let recorder = builder.history.map(|store| {
            collector.attach_history(Arc::clone(&store));
            Mutex::new(Recorder::new(&collector, store))
        });
        let now = collector.now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let none = Rates { time: now, span: Duration::ZERO, series: Vec::new() };
        Self {
            collector,
            live: Arc::new(Live::new(epoch)),
            rates: Mutex::new((RateMeter::default(), Arc::new(none))),
            #[cfg(feature = "history")]
            recorder,
        }
    }

    fn tick(&self) {
        self.collector.maintain();
        let snapshot = self.collector.snapshot();
        {
            let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
            let newest = rates.0.tick(&snapshot);
            rates.1 = Arc::new(newest);
        }
        #[cfg(feature = "history")]
        if let Some(recorder) = &self.recorder {
            recorder.lock().unwrap_or_else(PoisonError::into_inner).tick(&snapshot);
        }
        self.live.tick(&snapshot);
    }

    /// Nothing will come after this.
    fn end(&self) {
        #[cfg(feature = "history")]
        if let Some(recorder) = &self.recorder {
            let now = self.collector.now();
            recorder.lock().unwrap_or_else(PoisonError::into_inner).end(now);
        }
        self.live.end();
    }
}

struct EndOnDrop(Arc<Followers>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stay_on_their_grid_and_missed_ones_are_left_out() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let after = |ms| start + Duration::from_millis(ms);
        for (now_ms, next_ms) in [(0, 1000), (300, 1000), (1000, 2000), (4200, 5000)] {
            let (due, wait) = next_due(start, after(now_ms), second);
            assert_eq!(due, after(next_ms), "{now_ms}");
            assert_eq!(wait, Duration::from_millis(next_ms - now_ms), "{now_ms}");
        }
    }
}
