//! The scheduler as its users see it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tripod_memory::{Budget, MemoryManager};
use tripod_metrics::MetricsCollector;

use crate::dispatch::dispatch;
use crate::handle::TaskHandle;
use crate::job::{Job, TypedJob};
use crate::lifecycle::{Event, TaskStatus};
use crate::queue::{Queue, Refusal, TaskId};
use crate::shared::Shared;
use crate::shutdown::{Drain, ShutdownReport};
use crate::task::Task;
use crate::telemetry::{self, SchedulerStats, Telemetry, TelemetryError};

/// How many tasks may be queued unless the builder says otherwise.
const QUEUE_LIMIT: usize = 1_000_000;

/// Why a [`TaskScheduler`] could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is no tokio runtime here, and none was given.
    #[error("no tokio runtime: build the scheduler inside of one, or give it a runtime handle")]
    NoRuntime,
    /// The metrics could not be registered.
    #[error("the scheduler's metrics could not be registered: {0}")]
    Telemetry(#[from] TelemetryError),
}

/// Why [`TaskScheduler::submit`] refused a task. The task is dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many tasks are queued as may be.
    #[error("the queue is full ({limit} tasks)")]
    QueueFull {
        /// How many tasks may be queued.
        limit: usize,
    },
    /// The task could never start.
    #[error("task needs {needed_bytes} bytes, more than the whole budget of {budget_bytes}")]
    Unsatisfiable {
        /// What the task asked for.
        needed_bytes: u64,
        /// What the scheduler's memory budget holds when nothing else uses it.
        budget_bytes: u64,
    },
    /// The task needs memory, and the scheduler has no budget to take it from.
    #[error("task needs {needed_bytes} bytes, but the scheduler was built without a memory budget")]
    NoMemoryManager {
        /// What the task asked for.
        needed_bytes: u64,
    },
    /// The scheduler accepts nothing any more.
    #[error("the scheduler is shutting down")]
    ShuttingDown,
}

/// The memory that a scheduler reserves from: made of a [`MemoryManager`] (its root budget) or of
/// a [`Budget`].
#[derive(Clone, Debug)]
pub struct TaskMemory(Budget);

impl From<Budget> for TaskMemory {
    fn from(budget: Budget) -> Self {
        Self(budget)
    }
}

impl From<&Budget> for TaskMemory {
    fn from(budget: &Budget) -> Self {
        Self(budget.clone())
    }
}

impl From<MemoryManager> for TaskMemory {
    fn from(manager: MemoryManager) -> Self {
        Self::from(&manager)
    }
}

impl From<&MemoryManager> for TaskMemory {
    fn from(manager: &MemoryManager) -> Self {
        Self(manager.root().clone())
    }
}

/// Sets up a [`TaskScheduler`]; made by [`TaskScheduler::builder`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing before build()"]
pub struct TaskSchedulerBuilder {
    concurrency: Option<NonZeroUsize>,
    queue_limit: Option<usize>,
    memory: Option<TaskMemory>,
    metrics: Option<MetricsCollector>,
    runtime: Option<Handle>,
}

impl TaskSchedulerBuilder {
    /// Sets how many tasks may run at the same time; default: the available parallelism.
    pub fn concurrency(mut self, tasks: NonZeroUsize) -> Self {
        self.concurrency = Some(tasks);
        self
    }

    /// Sets how many tasks may be queued, running ones not counted; default: 1 000 000. With 0
    /// every task is refused.
    pub fn queue_limit(mut self, tasks: usize) -> Self {
        self.queue_limit = Some(tasks);
        self
    }

    /// Sets where the memory of tasks is reserved; default: nowhere, and a task that needs memory
    /// is refused.
    pub fn memory(mut self, memory: impl Into<TaskMemory>) -> Self {
        self.memory = Some(memory.into());
        self
    }

    /// Sets where the metrics are registered; default: a collector of its own.
    ///
    /// Give each scheduler another collector: two on one would add up their counters, which
    /// [`TaskScheduler::stats`] reads as well, and show the gauges of the one built last.
    pub fn metrics(mut self, metrics: &MetricsCollector) -> Self {
        self.metrics = Some(metrics.clone());
        self
    }

    /// Sets the runtime that polls the tasks; default: the one that `build` is called in.
    ///
    /// Tasks with a timeout or a grace need its time driver. Without one they fail.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Builds the scheduler and spawns its dispatcher.
    ///
    /// # Errors
    /// [`BuildError::NoRuntime`] outside of a tokio runtime if none was set,
    /// [`BuildError::Telemetry`] if the collector has other metrics of the same names.
    pub fn build(self) -> Result<TaskScheduler, BuildError> {
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => Handle::try_current().map_err(|_| BuildError::NoRuntime)?,
        };
        let concurrency = self
            .concurrency
            .unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
        let queue_limit = self.queue_limit.unwrap_or(QUEUE_LIMIT);
        let metrics = self.metrics.unwrap_or_default();
        let telemetry = Telemetry::register(&metrics)?;
        let queue = Queue::new(concurrency.get(), queue_limit);
        let memory = self.memory.map(|memory| memory.0);
        let shared = Arc::new(Shared::new(queue, telemetry, memory, runtime));
        telemetry::observe(&metrics, &shared)?;
        shared.runtime().spawn(dispatch(Arc::clone(&shared)));
        Ok(TaskScheduler { owner: Arc::new(Owner { shared, queue_limit }) })
    }
}

/// Ends with the last [`TaskScheduler`]; the dispatcher, the tasks and the handles hold only what
/// is shared.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    queue_limit: usize,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(live @ 1..) = self.shared.close(Drain::Now) {
            tracing::warn!(live, "the scheduler was dropped without shutdown; tasks are cancelled");
        }
    }
}

/// Runs async tasks by priority, never more at once than it may, and each one only when its
/// memory is there.
///
/// Tasks start in the order of their [`Priority`](crate::Priority), and in the order of their
/// submission within one. Strictly so: if the next task waits for its memory, nothing behind it
/// starts. Priority decides which task starts next, not which started task is polled next: that
/// is up to tokio.
///
/// Cheap to clone; all clones are the same scheduler. When the last one is dropped without a
/// [`shutdown`](Self::shutdown), everything that has not ended is cancelled, with a warning in the
/// log. To submit a task and to end one cost O(1), and wake the dispatcher at most once. An idle
/// scheduler does nothing at all.
///
/// # Examples
/// ```
/// use std::num::NonZeroUsize;
/// use tripod_scheduler::{Drain, Priority, Task, TaskScheduler};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let scheduler = TaskScheduler::builder().concurrency(NonZeroUsize::MIN).build()?;
/// let report = scheduler.submit(Task::new(async { "report" }).priority(Priority::Low))?;
/// let alarm = scheduler.submit(Task::new(async { "alarm" }).priority(Priority::Emergency))?;
/// assert_eq!(alarm.await?, "alarm");
/// assert_eq!(report.await?, "report");
/// assert_eq!(scheduler.shutdown(Drain::Finish).await.finished, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TaskScheduler {
    owner: Arc<Owner>,
}

impl TaskScheduler {
    /// Starts to set up a scheduler.
    pub fn builder() -> TaskSchedulerBuilder {
        TaskSchedulerBuilder::default()
    }

    /// Queues a task; it starts when a permit is free, its turn has come and its memory is there.
    ///
    /// Never waits and may be called from any thread. Costs O(1).
    ///
    /// # Errors
    /// [`SubmitError::NoMemoryManager`] and [`SubmitError::Unsatisfiable`] for memory that could
    /// never come, [`SubmitError::QueueFull`] at the queue limit, [`SubmitError::ShuttingDown`]
    /// after the first call of [`shutdown`](Self::shutdown).
    ///
    /// # Examples
    /// ```
    /// use tripod_scheduler::{SubmitError, Task, TaskScheduler};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let scheduler = TaskScheduler::builder().build()?;
    /// assert_eq!(scheduler.submit(Task::new(async { 6 * 7 }))?.await?, 42);
    ///
    /// let refused = scheduler.submit(Task::new(async {}).memory_bytes(1 << 20)).unwrap_err();
    /// assert_eq!(refused, SubmitError::NoMemoryManager { needed_bytes: 1 << 20 });
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit<T: Send + 'static>(&self, task: Task<T>) -> Result<TaskHandle<T>, SubmitError> {
        self.check_memory(task.terms.memory_bytes)?;
        let shared = &self.owner.shared;
        let (outlet, result) = oneshot::channel();
        let job: Arc<dyn Job> = Arc::new(TypedJob::new(task, outlet));
        match shared.submit(Arc::clone(&job)) {
            Ok(id) => Ok(TaskHandle::new(id, job, Arc::clone(shared), result)),
            Err((Refusal::Closed, _)) => Err(SubmitError::ShuttingDown),
            Err((Refusal::Full, _)) => {
                Err(SubmitError::QueueFull { limit: self.owner.queue_limit })
            }
        }
    }

    fn check_memory(&self, needed_bytes: u64) -> Result<(), SubmitError> {
        if needed_bytes == 0 {
            return Ok(());
        }
        let Some(budget) = self.owner.shared.memory() else {
            return Err(SubmitError::NoMemoryManager { needed_bytes });
        };
        let budget_bytes = budget.limit_bytes();
        if needed_bytes > budget_bytes {
            return Err(SubmitError::Unsatisfiable { needed_bytes, budget_bytes });
        }
        Ok(())
    }

    /// Returns where a task is in its life, or `None` once it has ended.
    ///
    /// Only live tasks are known here; a [`TaskHandle`] knows its final status as well.
    #[must_use]
    pub fn status(&self, id: TaskId) -> Option<TaskStatus> {
        self.owner.shared.status(id)
    }

    /// Cancels a task, as [`TaskHandle::cancel`] does; true if this call is what stopped it.
    pub fn cancel(&self, id: TaskId) -> bool {
        self.owner.shared.stop(id, Event::CancelRequested)
    }

    /// Returns the counts of this moment; they always add up.
    #[must_use]
    pub fn stats(&self) -> SchedulerStats {
        self.owner.shared.stats()
    }

    /// Accepts nothing more, ends what is there as `drain` says, and waits until all has ended.
    ///
    /// The report counts every task that was ever accepted. A further call waits for the same
    /// report; a stricter `drain` takes over, a milder one changes nothing. The shutdown begins
    /// when the returned future is first polled, and goes on if it is dropped after that. A task
    /// that awaits the shutdown of its own scheduler waits for itself.
    ///
    /// # Examples
    /// ```
    /// use tripod_scheduler::{Drain, SubmitError, Task, TaskScheduler};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let scheduler = TaskScheduler::builder().build()?;
    /// let handle = scheduler.submit(Task::new(async { "done" }))?;
    /// let report = scheduler.shutdown(Drain::Finish).await;
    /// assert_eq!((report.finished, report.total()), (1, 1));
    /// assert_eq!(handle.await?, "done");
    /// assert_eq!(scheduler.submit(Task::new(async {})).unwrap_err(), SubmitError::ShuttingDown);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self, drain: Drain) -> ShutdownReport {
        self.owner.shared.close(drain);
        self.owner.shared.drained().await
    }
}
