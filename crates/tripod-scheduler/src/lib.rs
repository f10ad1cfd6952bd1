//! Priority tasks on tokio, with limits and with admission by memory.
//!
//! A [`TaskScheduler`] takes [`Task`]s (futures with a [`Priority`], a memory need and a timeout)
//! and starts them on a tokio runtime: the highest priority first, in the order of submission
//! within one, never more at a time than its concurrency, and each one only once its memory is
//! reserved. A [`TaskHandle`] awaits the result and cancels the task.
//!
//! What it guarantees:
//! - a task's permit and memory are back before its handle resolves, however it ended;
//! - a timed-out or cancelled future is dropped, not left running;
//! - a panic, in a future or in a destructor, ends its own task and nothing else;
//! - every accepted task is in exactly one count of the [`ShutdownReport`].
//!
//! Where it stops: it orders the *start* of tasks; which started task is polled next is up to
//! tokio. A future that blocks its thread cannot be stopped. Nothing survives the process. The
//! life of a task is drawn in `docs/task-lifecycle.md`, the choices behind this form in
//! `docs/design/scheduler.md`.
//!
//! # Examples
//! ```
//! use tripod_memory::MemoryManager;
//! use tripod_scheduler::{Priority, Task, TaskScheduler};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let memory = MemoryManager::builder().budget_bytes(64 << 20).build()?;
//! let scheduler = TaskScheduler::builder().memory(&memory).build()?;
//! let task = Task::with_context(|context| async move {
//!     context.memory().map_or(0, |memory| memory.bytes())
//! })
//! .priority(Priority::High)
//! .memory_bytes(16 << 20);
//! assert_eq!(scheduler.submit(task)?.await?, 16 << 20);
//! assert_eq!(memory.root().used_bytes(), 0);
//! # Ok(())
//! # }
//! ```

mod dispatch;
mod handle;
mod job;
mod lifecycle;
mod panics;
mod priority;
mod queue;
mod run;
mod scheduler;
mod shared;
mod shutdown;
mod task;
mod telemetry;

pub use handle::{TaskError, TaskHandle};
pub use lifecycle::{StopReason, TaskStatus};
pub use priority::{ParsePriorityError, Priority};
pub use queue::TaskId;
pub use scheduler::{BuildError, SubmitError, TaskMemory, TaskScheduler, TaskSchedulerBuilder};
pub use shutdown::{Drain, ShutdownReport};
pub use task::{Task, TaskContext};
pub use telemetry::{SchedulerStats, TelemetryError};
