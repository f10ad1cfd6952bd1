//! What the submitter of a task holds: its result to come, its status, and the way to cancel it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::job::Job;
use crate::lifecycle::{Event, State, TaskStatus};
use crate::queue::TaskId;
use crate::shared::Shared;

/// Why a task has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The task was cancelled before or while it ran.
    #[error("task was cancelled")]
    Cancelled,
    /// The task ran longer than it was allowed to.
    #[error("task ran longer than its timeout of {timeout:?}")]
    TimedOut {
        /// The timeout of the task.
        timeout: Duration,
    },
    /// The task panicked.
    #[error("task panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
}

/// A task that was accepted; awaiting it gives the result.
///
/// When it resolves, the future of the task has been dropped, and its permit and its memory are
/// back. Dropping the handle detaches the task: it goes on, and its result is dropped when it
/// comes. Awaiting is cancel-safe. A handle does not keep the scheduler alive: when the last
/// [`TaskScheduler`](crate::TaskScheduler) is dropped, the handle resolves to
/// [`TaskError::Cancelled`].
///
/// # Panics
/// Polled again after it has resolved.
///
/// # Examples
/// ```
/// use tripod_scheduler::{Task, TaskError, TaskScheduler, TaskStatus};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let scheduler = TaskScheduler::builder().build()?;
/// let mut handle = scheduler.submit(Task::new(std::future::pending::<()>()))?;
/// assert_eq!(handle.status(), TaskStatus::Queued);
/// assert!(handle.cancel());
/// assert_eq!((&mut handle).await, Err(TaskError::Cancelled));
/// assert_eq!(handle.status(), TaskStatus::Cancelled);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the handle detaches the task"]
pub struct TaskHandle<T> {
    id: TaskId,
    job: Arc<dyn Job>,
    shared: Arc<Shared>,
    result: oneshot::Receiver<Result<T, TaskError>>,
}

impl<T> TaskHandle<T> {
    pub(crate) fn new(
        id: TaskId,
        job: Arc<dyn Job>,
        shared: Arc<Shared>,
        result: oneshot::Receiver<Result<T, TaskError>>,
    ) -> Self {
        Self { id, job, shared, result }
    }

    /// Returns the id of the task.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Returns where the task is in its life; works after its end as well.
    #[must_use]
    pub fn status(&self) -> TaskStatus {
        let outcome = || self.job.about().outcome.get().copied();
        // The outcome is written in the same locked step that takes the task out of the queue.
        self.shared
            .status(self.id)
            .or_else(|| outcome().map(|outcome| State::Ended(outcome).into()))
            .unwrap_or(TaskStatus::Cancelled)
    }

    /// Cancels the task; true if this call is what stopped it.
    ///
    /// A queued task ends at once. A running one is told, and ends after at most its
    /// [grace](crate::Task::cancel_grace). After a `true` the handle never resolves to a value.
    /// `false` means that the task has ended or was told to stop before. Costs O(1) amortised.
    pub fn cancel(&self) -> bool {
        self.shared.stop(self.id, Event::CancelRequested)
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let received = Pin::new(&mut self.result).poll(cx);
        // Every task is resolved before its work is dropped; to call a lost one cancelled is true.
        received.map(|result| result.unwrap_or(Err(TaskError::Cancelled)))
    }
}

impl<T> fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle")
            .field("id", &self.id)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
