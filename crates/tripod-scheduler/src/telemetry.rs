//! The scheduler's metrics, and the statistics that read the same handles.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tripod_metrics::{Counter, Histogram, LabelError, MetricsCollector, RegisterError};

use crate::lifecycle::Outcome;
use crate::priority::Priority;
use crate::shared::Shared;

/// Upper bounds in seconds, from 10 microseconds to an hour: tasks may be shorter than a request
/// and as long as a build.
const SECONDS: [f64; 16] = [
    0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0,
    600.0, 3600.0,
];

/// Why the metrics of a scheduler could not be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// A family of the same name means something else.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A series of the same name is used in another way.
    #[error(transparent)]
    Label(#[from] LabelError),
}

/// Counts what a scheduler has done and holds, at one moment.
///
/// `submitted` is always the sum of `queued`, `running` and the four outcomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerStats {
    /// Tasks accepted so far.
    pub submitted: u64,
    /// Tasks that have not started, including the one that waits for memory.
    pub queued: usize,
    /// The same for each priority, in the order of [`Priority::ALL`].
    pub queued_by_priority: [usize; Priority::ALL.len()],
    /// Tasks that run, including those that were told to stop.
    pub running: usize,
    /// Tasks that returned a result.
    pub succeeded: u64,
    /// Tasks that panicked.
    pub failed: u64,
    /// Tasks that were cancelled before or while they ran.
    pub cancelled: u64,
    /// Tasks that were stopped by their timeout.
    pub timed_out: u64,
    /// Tasks that had to wait for their memory when they were the next to start.
    pub memory_waits: u64,
}

/// The handles of all series, each looked up once.
#[derive(Debug)]
pub(crate) struct Telemetry {
    submitted: [Counter; Priority::COUNT],
    finished: [[Counter; Outcome::ALL.len()]; Priority::COUNT],
    wait_seconds: [Histogram; Priority::COUNT],
    run_seconds: [Histogram; Priority::COUNT],
    memory_waits: Counter,
}

impl Telemetry {
    pub(crate) fn register(metrics: &MetricsCollector) -> Result<Self, TelemetryError> {
        let submitted = metrics
            .counter("tripod_scheduler_tasks_submitted_total", "Tasks accepted.")
            .labels(["priority"])
            .register()?;
        let finished = metrics
            .counter("tripod_scheduler_tasks_finished_total", "Tasks ended, by how.")
            .labels(["priority", "outcome"])
            .register()?;
        let waits = ("tripod_scheduler_wait_seconds", "Time from submit to start.");
        let runs = ("tripod_scheduler_run_seconds", "Time from start to end.");
        let memory_waits = metrics
            .counter(
                "tripod_scheduler_memory_waits_total",
                "Tasks that were next to start and had to wait for their memory.",
            )
            .register()?;
        Ok(Self {
            submitted: each(|priority| submitted.with(&[priority.as_str()]))?,
            finished: each(|priority| {
                let with = |outcome: Outcome| finished.with(&[priority.as_str(), outcome.as_str()]);
                let [succeeded, failed, cancelled, timed_out] = Outcome::ALL.map(with);
                Ok([succeeded?, failed?, cancelled?, timed_out?])
            })?,
            wait_seconds: seconds(metrics, waits)?,
            run_seconds: seconds(metrics, runs)?,
            memory_waits: memory_waits.plain(),
        })
    }

    pub(crate) fn submitted(&self, priority: Priority) {
        self.submitted[priority.index()].inc();
    }

    pub(crate) fn started(&self, priority: Priority, waited: Duration) {
        self.wait_seconds[priority.index()].observe(waited.as_secs_f64());
    }

    pub(crate) fn ran(&self, priority: Priority, ran: Duration) {
        self.run_seconds[priority.index()].observe(ran.as_secs_f64());
    }

    pub(crate) fn ended(&self, priority: Priority, outcome: Outcome) {
        self.finished[priority.index()][outcome as usize].inc();
    }

    pub(crate) fn waited_for_memory(&self) {
        self.memory_waits.inc();
    }

    pub(crate) fn stats(
        &self,
        queued_by_priority: [usize; Priority::COUNT],
        running: usize,
    ) -> SchedulerStats {
        let finished = |outcome: Outcome| -> u64 {
            self.finished.iter().map(|counters| counters[outcome as usize].get()).sum()
        };
        SchedulerStats {
            submitted: self.submitted.iter().map(Counter::get).sum(),
            queued: queued_by_priority.iter().sum(),
            queued_by_priority,
            running,
            succeeded: finished(Outcome::Succeeded),
            failed: finished(Outcome::Failed),
            cancelled: finished(Outcome::Cancelled),
            timed_out: finished(Outcome::TimedOut),
            memory_waits: self.memory_waits.get(),
        }
    }
}

/// Lets the collector read the lengths of the queue, as long as the scheduler lives.
pub(crate) fn observe(
    metrics: &MetricsCollector,
    shared: &Arc<Shared>,
) -> Result<(), TelemetryError> {
    let queued = metrics
        .gauge("tripod_scheduler_queued", "Tasks that have not started.")
        .labels(["priority"])
        .register()?;
    for priority in Priority::ALL {
        let shared = Arc::downgrade(shared);
        let read = move |shared: Arc<Shared>| shared.queued_at(priority);
        queued.observe(&[priority.as_str()], move || reading(&shared, read))?;
    }
    let running =
        metrics.gauge("tripod_scheduler_running", "Tasks that run or are stopping.").register()?;
    let shared = Arc::downgrade(shared);
    running.observe(&[], move || reading(&shared, |shared| shared.running()))?;
    Ok(())
}

fn reading(shared: &Weak<Shared>, read: impl Fn(Arc<Shared>) -> usize) -> Option<f64> {
    shared.upgrade().map(|shared| read(shared) as f64)
}

fn seconds(
    metrics: &MetricsCollector,
    (name, help): (&str, &str),
) -> Result<[Histogram; Priority::COUNT], TelemetryError> {
    let family = metrics.histogram(name, help).labels(["priority"]).buckets(SECONDS).register()?;
    each(|priority| family.with(&[priority.as_str()]))
}

/// Makes one thing for each priority, or returns the first error.
fn each<M>(
    make: impl FnMut(Priority) -> Result<M, LabelError>,
) -> Result<[M; Priority::COUNT], TelemetryError> {
    let [low, normal, high, critical, emergency] = Priority::ALL.map(make);
    Ok([low?, normal?, high?, critical?, emergency?])
}
