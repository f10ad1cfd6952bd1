//! What a caller says about a task, and what the task sees of itself while it runs.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tripod_memory::Reservation;

use crate::job::Job;
use crate::lifecycle::StopReason;
use crate::priority::Priority;
use crate::queue::TaskId;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The work of a task: a future, or a function that makes one when the task starts.
pub(crate) enum Body<T> {
    Future(BoxFuture<T>),
    WithContext(Box<dyn FnOnce(TaskContext) -> BoxFuture<T> + Send>),
}

/// What a task asks of the scheduler.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) priority: Priority,
    pub(crate) memory_bytes: u64,
    pub(crate) timeout: Option<Duration>,
    pub(crate) cancel_grace: Duration,
}

impl Terms {
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("task")
    }
}

/// A future together with what it needs: priority, memory, and how long it may run.
///
/// Nothing runs before the task is submitted. Dropping an unsubmitted task drops its future.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tripod_scheduler::{Priority, Task};
///
/// let task = Task::new(async { 6 * 7 })
///     .name("answer")
///     .priority(Priority::High)
///     .timeout(Duration::from_secs(5));
/// # drop(task);
/// ```
#[must_use = "a task runs only after it is submitted"]
pub struct Task<T> {
    pub(crate) terms: Terms,
    pub(crate) body: Body<T>,
}

impl<T> Task<T> {
    /// Makes a task of a future.
    pub fn new<F>(future: F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        Self { terms: Terms::default(), body: Body::Future(Box::pin(future)) }
    }

    /// Makes a task of a function that gets a [`TaskContext`] when the task starts.
    ///
    /// Use it for work that cleans up when it is cancelled, or that looks at its memory. A panic
    /// of `start` counts as a panic of the task.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use tripod_scheduler::{Task, TaskScheduler};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let scheduler = TaskScheduler::builder().build()?;
    /// let patient = Task::with_context(|context| async move {
    ///     context.cancelled().await;
    ///     // Up to ten seconds to clean up.
    /// })
    /// .cancel_grace(Duration::from_secs(10));
    /// let handle = scheduler.submit(patient)?;
    /// assert!(handle.cancel());
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_context<S, F>(start: S) -> Self
    where
        S: FnOnce(TaskContext) -> F + Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let start = move |context| -> BoxFuture<T> { Box::pin(start(context)) };
        Self { terms: Terms::default(), body: Body::WithContext(Box::new(start)) }
    }

    /// Names the task in logs and in its context; default: `task`. Names need not be unique.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.terms.name = Some(name.into());
        self
    }

    /// Sets the priority; default: [`Priority::Normal`].
    pub fn priority(mut self, priority: Priority) -> Self {
        self.terms.priority = priority;
        self
    }

    /// Sets the bytes of memory that are reserved before the task starts and given back when it
    /// has ended; default: 0, which needs no memory budget.
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.terms.memory_bytes = bytes;
        self
    }

    /// Limits how long the task may run, counted from its start; default: no limit.
    ///
    /// A task that runs longer is stopped as by a cancel, with the same
    /// [grace](Self::cancel_grace), and ends as [`TimedOut`](crate::TaskError::TimedOut). The time
    /// in the queue does not count. The limit is checked where the future awaits: a future that
    /// blocks its thread is not interrupted.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.terms.timeout = Some(timeout);
        self
    }

    /// Sets how long a running task that is told to stop may go on; default: zero.
    ///
    /// With zero the future is dropped where it awaits. Otherwise
    /// [`TaskContext::cancelled`] resolves and the future is dropped once the grace has passed. Its
    /// permit and its memory come back when it has ended, not before. [`Duration::MAX`] means that
    /// the future is never dropped.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.terms.cancel_grace = grace;
        self
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("terms", &self.terms).finish_non_exhaustive()
    }
}

/// What a running task sees of itself; cheap to clone.
///
/// # Examples
/// ```
/// use tripod_scheduler::{Task, TaskScheduler};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let scheduler = TaskScheduler::builder().build()?;
/// let task = Task::with_context(|context| async move { context.name().to_owned() }).name("index");
/// assert_eq!(scheduler.submit(task)?.await?, "index");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TaskContext {
    id: TaskId,
    job: Arc<dyn Job>,
    memory: Option<Arc<Reservation>>,
}

impl TaskContext {
    pub(crate) fn new(id: TaskId, job: Arc<dyn Job>, memory: Option<Arc<Reservation>>) -> Self {
        Self { id, job, memory }
    }

    /// Returns the id of the task.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Returns the name of the task.
    #[must_use]
    pub fn name(&self) -> &str {
        self.job.about().terms.name()
    }

    /// Returns the priority of the task.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.job.about().terms.priority
    }

    /// Waits until the task is told to stop, by a cancel or by its timeout.
    ///
    /// Cancel-safe; resolves at once if the task was told before. With a
    /// [grace](Task::cancel_grace) of zero the future is dropped instead.
    pub async fn cancelled(&self) {
        self.job.about().stop.wait().await;
    }

    /// Says whether the task was told to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.stop_reason().is_some()
    }

    /// Returns why the task was told to stop, or `None` if it was not.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.job.about().stop.reason()
    }

    /// Returns the memory that was reserved for the task, or `None` if it asked for none.
    ///
    /// A task that turns out to need more asks its reservation for it. What it holds goes back
    /// when the task has ended, even if a clone of this context lives on.
    #[must_use]
    pub fn memory(&self) -> Option<&Reservation> {
        self.memory.as_deref()
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("id", &self.id)
            .field("name", &self.name())
            .field("priority", &self.priority())
            .field("stop_reason", &self.stop_reason())
            .finish_non_exhaustive()
    }
}
