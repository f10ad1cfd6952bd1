//! The numbers of a tokio runtime.
//!
//! They are tokio's own, from its stable interface, read when a page is made:
//!
//! | family | type | what |
//! |---|---|---|
//! | `tokio_workers` | gauge | worker threads |
//! | `tokio_tasks_alive` | gauge | tasks that have been spawned and have not ended |
//! | `tokio_global_queue_length` | gauge | tasks that wait for any worker |
//! | `tokio_worker_busy_seconds_total` | counter | time that a worker was not parked |
//! | `tokio_worker_parks_total` | counter | how often a worker went to sleep for want of work |
//!
//! All have the label `runtime`, and those of a worker `worker`, a number from 0.
//!
//! Where it stops: what tokio shows only with `tokio_unstable` (poll times, steals, the queues of
//! workers, blocking threads) is left out, and so are the numbers of workers where a 64-bit atomic
//! is not to be had.

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use crate::collector::MetricsCollector;
use crate::error::{LabelError, RegisterError};

/// Shows the numbers of one tokio runtime, until it is dropped.
///
/// It does not keep the runtime running.
///
/// # Examples
/// ```
/// use tripod_metrics::{MetricsCollector, runtime::RuntimeMetrics};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let collector = MetricsCollector::new();
/// let handle = tokio::runtime::Handle::current();
/// let _shown = RuntimeMetrics::register(&collector, "main", &handle)?;
/// assert!(collector.encode_text().contains("tokio_workers{runtime=\"main\"} 1\n"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the numbers are shown until this is dropped"]
pub struct RuntimeMetrics {
    _source: Arc<tokio::runtime::RuntimeMetrics>,
}

/// Why the numbers of a runtime are not shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A family of the same name is in the way.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A series of the same labels is set by hand.
    #[error(transparent)]
    Label(#[from] LabelError),
}

type Source = tokio::runtime::RuntimeMetrics;

/// One gauge: its name, its help, and how it is read.
type GaugeRow = (&'static str, &'static str, fn(&Source) -> usize);

const GAUGES: [GaugeRow; 3] = [
    ("tokio_workers", "Worker threads of the runtime.", Source::num_workers),
    (
        "tokio_tasks_alive",
        "Tasks that have been spawned and have not ended.",
        Source::num_alive_tasks,
    ),
    (
        "tokio_global_queue_length",
        "Tasks in the queue from which any worker takes.",
        Source::global_queue_depth,
    ),
];

impl RuntimeMetrics {
    /// Registers the numbers of the runtime of `handle` as those of `runtime`.
    ///
    /// Of two runtimes of the same name the later one is shown.
    ///
    /// # Errors
    /// [`RuntimeError`] if the collector has other families of these names.
    pub fn register(
        collector: &MetricsCollector,
        runtime: &str,
        handle: &Handle,
    ) -> Result<Self, RuntimeError> {
        let source = Arc::new(handle.metrics());
        let weak = Arc::downgrade(&source);
        for (name, help, read) in GAUGES {
            let weak = Weak::clone(&weak);
            let family = collector.gauge(name, help).labels(["runtime"]).register()?;
            family.observe(&[runtime], move || Some(read(&*weak.upgrade()?) as f64))?;
        }
        #[cfg(target_has_atomic = "64")]
        register_workers(collector, runtime, &source)?;
        Ok(Self { _source: source })
    }
}

#[cfg(target_has_atomic = "64")]
fn register_workers(
    collector: &MetricsCollector,
    runtime: &str,
    source: &Arc<Source>,
) -> Result<(), RuntimeError> {
    let labels = ["runtime", "worker"];
    let (name, help) = ("tokio_worker_busy_seconds_total", "Time that the worker was not parked.");
    let busy = collector.float_counter(name, help).unit("seconds").labels(labels).register()?;
    let (name, help) =
        ("tokio_worker_parks_total", "How often the worker went to sleep for want of work.");
    let parks = collector.counter(name, help).labels(labels).register()?;
    for worker in 0..source.num_workers() {
        let number = worker.to_string();
        let weak = Arc::downgrade(source);
        busy.observe(&[runtime, &number], move || {
            Some(weak.upgrade()?.worker_total_busy_duration(worker).as_secs_f64())
        })?;
        let weak = Arc::downgrade(source);
        parks.observe(&[runtime, &number], move || {
            Some(weak.upgrade()?.worker_park_count(worker))
        })?;
    }
    Ok(())
}
