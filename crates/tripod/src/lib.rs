//! Memory, tasks and metrics on one engine.
//!
//! [`Tripod::builder`] joins three legs: a [`MemoryManager`] with a hard budget, a
//! [`TaskScheduler`] that starts a task only when its turn has come and its memory is reserved, and
//! a [`MetricsCollector`] that both report to. Each leg is a crate of its own, here as the modules
//! [`memory`], [`scheduler`] and [`metrics`]; their main types stand at the root.
//!
//! Where it stops: it adds no behaviour to the legs. What holds for each is said there.
//!
//! # Features
//! All are off by default, and each is passed on to the leg that has it:
//! - `allocator-api2` adds [`Budget`]`::allocator` to [`memory`], with which collections that take an
//!   allocator of that crate, `hashbrown`'s among them, live in pooled memory.
//! - `facade`, `history`, `http`, `otlp`, `process`, `promql`, `remote-write`, `tokio` and `tracing` are
//!   those of [`metrics`], whose front page says what each is.
//!
//! # Examples
//! ```
//! use std::num::NonZeroUsize;
//! use tripod::{Drain, Priority, Task, Tripod};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tripod::Error> {
//! let tripod = Tripod::builder()
//!     .memory_budget_bytes(256 << 20)
//!     .concurrency(NonZeroUsize::new(4).expect("4 is not 0"))
//!     .build()?;
//!
//! let index = Task::new(async { "indexed" }).priority(Priority::High).memory_bytes(64 << 20);
//! assert_eq!(tripod.submit(index)?.await?, "indexed");
//!
//! assert_eq!(tripod.shutdown(Drain::Finish).await.finished, 1);
//! assert!(tripod.metrics().encode_text().contains("tripod_memory_peak_bytes 67108864\n"));
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    feature = "allocator-api2",
    doc = r#"
With `allocator-api2` a collection lives in pooled memory, under a budget:
```
use tripod::MemoryManager;
use tripod::memory::allocator_api2::vec::Vec;

let memory = MemoryManager::builder().build()?;
let index = memory.budget("index").limit_bytes(64 << 10).create()?;
let mut numbers = Vec::new_in(index.allocator());
numbers.extend(0..1000_u64);
assert_eq!(index.used_bytes(), 8192);
# Ok::<(), tripod::Error>(())
```
"#
)]

mod error;

use std::num::NonZeroUsize;

pub use tripod_memory as memory;
pub use tripod_metrics as metrics;
pub use tripod_scheduler as scheduler;

pub use error::Error;
pub use memory::{Budget, Buffer, MemoryManager, MemoryStats, Reservation};
pub use metrics::{Counter, Family, Gauge, Histogram, MetricsCollector, TEXT_CONTENT_TYPE};
pub use scheduler::{
    Drain, Priority, SchedulerStats, ShutdownReport, StopReason, SubmitError, Task, TaskContext,
    TaskError, TaskHandle, TaskId, TaskScheduler, TaskStatus,
};

/// Sets up a [`Tripod`]; made by [`Tripod::builder`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing before build()"]
pub struct TripodBuilder {
    memory_budget_bytes: Option<u64>,
    concurrency: Option<NonZeroUsize>,
    queue_limit: Option<usize>,
    metrics: Option<MetricsCollector>,
}

impl TripodBuilder {
    /// Sets how many bytes buffers and tasks may hold together; default: unlimited.
    pub fn memory_budget_bytes(mut self, bytes: u64) -> Self {
        self.memory_budget_bytes = Some(bytes);
        self
    }

    /// Sets how many tasks may run at the same time; default: the available parallelism.
    pub fn concurrency(mut self, tasks: NonZeroUsize) -> Self {
        self.concurrency = Some(tasks);
        self
    }

    /// Sets how many tasks may be queued, running ones not counted; default: 1 000 000.
    pub fn queue_limit(mut self, tasks: usize) -> Self {
        self.queue_limit = Some(tasks);
        self
    }

    /// Sets the collector that the legs report to; default: one of its own. Give each `Tripod`
    /// another one.
    pub fn metrics(mut self, metrics: MetricsCollector) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Builds the three legs. The scheduler runs its tasks on the tokio runtime this is called in.
    ///
    /// # Errors
    /// [`Error::BuildScheduler`] outside of a tokio runtime; that or [`Error::BuildMemory`] if the
    /// collector has other metrics of the same names; [`Error::BuildMemory`] for a budget that the
    /// memory manager refuses.
    pub fn build(self) -> Result<Tripod, Error> {
        let metrics = self.metrics.unwrap_or_default();
        let mut memory = MemoryManager::builder().metrics(&metrics);
        if let Some(bytes) = self.memory_budget_bytes {
            memory = memory.budget_bytes(bytes);
        }
        let memory = memory.build()?;
        let mut scheduler = TaskScheduler::builder().memory(&memory).metrics(&metrics);
        if let Some(tasks) = self.concurrency {
            scheduler = scheduler.concurrency(tasks);
        }
        if let Some(tasks) = self.queue_limit {
            scheduler = scheduler.queue_limit(tasks);
        }
        Ok(Tripod { memory, scheduler: scheduler.build()?, metrics })
    }
}

/// Holds a memory manager, a task scheduler and a metrics collector that know of each other.
///
/// Cheap to clone; all clones share the same three. When the last one is dropped without a
/// [`shutdown`](Self::shutdown), every task is cancelled.
///
/// # Examples
/// ```
/// use tripod::{Task, Tripod};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tripod::Error> {
/// let tripod = Tripod::builder().build()?;
/// let buffer = tripod.memory().acquire(4096)?;
/// let handle = tripod.submit(Task::new(async move { buffer.len() }))?;
/// assert_eq!(handle.await?, 4096);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tripod {
    memory: MemoryManager,
    scheduler: TaskScheduler,
    metrics: MetricsCollector,
}

impl Tripod {
    /// Starts to set up a `Tripod`.
    pub fn builder() -> TripodBuilder {
        TripodBuilder::default()
    }

    /// Returns the memory leg.
    #[must_use]
    pub fn memory(&self) -> &MemoryManager {
        &self.memory
    }

    /// Returns the scheduler leg.
    #[must_use]
    pub fn scheduler(&self) -> &TaskScheduler {
        &self.scheduler
    }

    /// Returns the metrics leg.
    #[must_use]
    pub fn metrics(&self) -> &MetricsCollector {
        &self.metrics
    }

    /// Queues a task; see [`TaskScheduler::submit`].
    ///
    /// # Errors
    /// The same: memory that could never come, a full queue, a shutdown that has begun.
    pub fn submit<T: Send + 'static>(&self, task: Task<T>) -> Result<TaskHandle<T>, SubmitError> {
        self.scheduler.submit(task)
    }

    /// Ends the tasks as `drain` says and waits for it; see [`TaskScheduler::shutdown`].
    pub async fn shutdown(&self, drain: Drain) -> ShutdownReport {
        self.scheduler.shutdown(drain).await
    }
}
