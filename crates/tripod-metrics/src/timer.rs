//! Timers: how long things take, also those that are given up.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use quanta::Clock;

use crate::histogram::Histogram;

/// The label that says how what was timed ended.
pub(crate) const OUTCOME_LABEL: &str = "outcome";
/// The values of that label.
pub(crate) const OUTCOMES: [&str; 2] = ["completed", "cancelled"];

/// Measures durations in a histogram of seconds.
///
/// A timer is two series, which differ in the label `outcome`: `completed` for what ran to its end,
/// `cancelled` for what was given up: a future that was dropped, a guard that was dropped while its
/// thread panicked. So work that is cancelled when it takes too long does not vanish from the
/// figures. It reads the processor's time stamp counter where that is steady.
///
/// # Examples
/// ```
/// # use tripod_metrics::MetricsCollector;
/// let metrics = MetricsCollector::new();
/// let timer = metrics.timer("run_seconds", "Runs.").register()?.plain();
/// let answer = timer.time(|| 6 * 7);
/// {
///     let _running = timer.start(); // Stops when it goes out of scope.
/// }
/// assert_eq!(answer, 42);
/// assert_eq!(timer.completed().snapshot().count, 2);
/// # Ok::<(), tripod_metrics::RegisterError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Timer {
    completed: Histogram,
    cancelled: Histogram,
}

impl Timer {
    pub(crate) fn new(completed: Histogram, cancelled: Histogram) -> Self {
        Self { completed, cancelled }
    }

    /// Starts to measure; what is returned records the time when it is dropped.
    #[inline]
    pub fn start(&self) -> TimerGuard<'_> {
        TimerGuard { timer: self, started: now(), is_recorded: false }
    }

    /// Runs `work` and records how long it took, as cancelled if it panics.
    pub fn time<R>(&self, work: impl FnOnce() -> R) -> R {
        let running = self.start();
        let result = work();
        running.stop();
        result
    }

    /// Records how long a future takes from its first poll to its end.
    ///
    /// If it is dropped before its end, the time until then is recorded as cancelled; one that was
    /// never polled is not recorded.
    ///
    /// # Examples
    /// ```
    /// # use tripod_metrics::MetricsCollector;
    /// # let poll = |future: std::pin::Pin<&mut dyn Future<Output = ()>>| {
    /// #     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// #     let _ = future.poll(&mut context);
    /// # };
    /// let metrics = MetricsCollector::new();
    /// let timer = metrics.timer("run_seconds", "Runs.").register()?.plain();
    /// poll(Box::pin(timer.timed(async {})).as_mut());
    /// poll(Box::pin(timer.timed(std::future::pending())).as_mut()); // And is dropped.
    /// assert_eq!(timer.completed().snapshot().count, 1);
    /// assert_eq!(timer.cancelled().snapshot().count, 1);
    /// # Ok::<(), tripod_metrics::RegisterError>(())
    /// ```
    pub fn timed<F: Future>(&self, future: F) -> Timed<F> {
        Timed { future, timer: self.clone(), started: None }
    }

    /// Records a duration that was measured elsewhere.
    pub fn record(&self, duration: Duration) {
        self.completed.observe(duration.as_secs_f64());
    }

    /// The histogram of what ran to its end, in seconds.
    #[must_use]
    pub fn completed(&self) -> &Histogram {
        &self.completed
    }

    /// The histogram of what was given up, in seconds.
    #[must_use]
    pub fn cancelled(&self) -> &Histogram {
        &self.cancelled
    }
}

/// Measures until it is dropped. Made by [`Timer::start`].
#[derive(Debug)]
#[must_use = "a guard measures until it is dropped, so one that is not kept measures nothing"]
pub struct TimerGuard<'a> {
    timer: &'a Timer,
    started: u64,
    is_recorded: bool,
}

impl TimerGuard<'_> {
    /// Stops, records the time and returns it.
    #[inline]
    pub fn stop(mut self) -> Duration {
        self.is_recorded = true;
        let nanoseconds = nanoseconds_since(self.started);
        self.timer.completed.observe(seconds(nanoseconds));
        Duration::from_nanos(nanoseconds)
    }

    /// Stops and records nothing.
    pub fn discard(mut self) {
        self.is_recorded = true;
    }
}

impl Drop for TimerGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_recorded {
            return;
        }
        let taken = seconds(nanoseconds_since(self.started));
        if std::thread::panicking() {
            self.timer.cancelled.observe(taken);
        } else {
            self.timer.completed.observe(taken);
        }
    }
}

pin_project_lite::pin_project! {
    /// A future whose duration is recorded. Made by [`Timer::timed`].
    ///
    /// It may be dropped at any time, which counts as cancelled if it was polled.
    #[must_use = "futures do nothing unless polled"]
    pub struct Timed<F> {
        #[pin]
        future: F,
        timer: Timer,
        // None before the first poll, and after the end.
        started: Option<u64>,
    }

    impl<F> PinnedDrop for Timed<F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(started) = this.started {
                this.timer.cancelled.observe(seconds(nanoseconds_since(started)));
            }
        }
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let started = *this.started.get_or_insert_with(now);
        let result = this.future.poll(context);
        if result.is_ready() {
            *this.started = None;
            this.timer.completed.observe(seconds(nanoseconds_since(started)));
        }
        result
    }
}

impl<F> std::fmt::Debug for Timed<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timed").field("timer", &self.timer).finish_non_exhaustive()
    }
}

fn clock() -> &'static Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(Clock::new)
}

/// Ticks of the clock.
#[inline]
fn now() -> u64 {
    clock().raw()
}

/// 0 if the clock went backwards between two processors.
#[inline]
fn nanoseconds_since(started: u64) -> u64 {
    let clock = clock();
    clock.delta_as_nanos(started, clock.raw())
}

#[inline]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 * 1e-9
}
