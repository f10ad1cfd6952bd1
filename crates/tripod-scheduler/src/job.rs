//! One accepted task, without and with the type of its result.
//!
//! The queue keeps an [`Arc<dyn Job>`](Job) for each task. Its work is taken exactly once: by
//! [`Job::launch`] when the task starts, or by [`Job::discard`] when it ends before. The state
//! machine decides which of the two; both run without any lock held, because they run foreign
//! code.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tripod_memory::Reservation;

use crate::handle::TaskError;
use crate::lifecycle::{Outcome, StopReason};
use crate::panics::drop_quietly;
use crate::queue::TaskId;
use crate::run::Run;
use crate::shared::Shared;
use crate::task::{Body, Task, Terms};

/// What is known about a task whatever its result.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) terms: Terms,
    pub(crate) submitted_at: Instant,
    pub(crate) stop: StopSignal,
    /// Written under the lock of the queue, in the step that takes the task out of it.
    pub(crate) outcome: OnceLock<Outcome>,
}

/// Tells a running task to stop: first the reason is set, then whoever waits is woken.
///
/// The token behind it is made when somebody first needs it, so that a task which ends at its
/// first poll never pays for one.
#[derive(Debug, Default)]
pub(crate) struct StopSignal {
    /// Written under the lock of the queue, in the step that moves the task to `Stopping`.
    reason: OnceLock<StopReason>,
    token: OnceLock<CancellationToken>,
}

impl StopSignal {
    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    /// Sets the reason; the first one stays.
    pub(crate) fn set_reason(&self, reason: StopReason) {
        // The state machine lets a task be told only once, so this is never refused.
        let _ = self.reason.set(reason);
    }

    /// Wakes whoever waits, after [`set_reason`](Self::set_reason) and without a lock.
    pub(crate) fn wake(&self) {
        self.token().cancel();
    }

    pub(crate) async fn wait(&self) {
        self.token().cancelled().await;
    }

    pub(crate) fn wait_owned(&self) -> WaitForCancellationFutureOwned {
        self.token().clone().cancelled_owned()
    }

    fn token(&self) -> &CancellationToken {
        self.token.get_or_init(CancellationToken::new)
    }
}

/// A task as the queue, the dispatcher and the handle see it.
pub(crate) trait Job: Send + Sync {
    fn about(&self) -> &About;

    /// Runs the work on the scheduler's runtime; the permit and the memory are its own now.
    fn launch(self: Arc<Self>, shared: &Arc<Shared>, id: TaskId, memory: Option<Reservation>);

    /// Drops the work of a task that was cancelled before it started, and resolves its handle.
    fn discard(&self);
}

pub(crate) type Outlet<T> = oneshot::Sender<Result<T, TaskError>>;

/// A [`Job`] whose result is a `T`.
pub(crate) struct TypedJob<T> {
    about: About,
    work: Mutex<Option<(Body<T>, Outlet<T>)>>,
}

impl<T: Send + 'static> TypedJob<T> {
    pub(crate) fn new(task: Task<T>, outlet: Outlet<T>) -> Self {
        let about = About {
            terms: task.terms,
            submitted_at: Instant::now(),
            stop: StopSignal::default(),
            outcome: OnceLock::new(),
        };
        Self { about, work: Mutex::new(Some((task.body, outlet))) }
    }

    fn take_work(&self) -> (Body<T>, Outlet<T>) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.take().expect("a task is started or discarded, once")
    }
}

impl<T: Send + 'static> Job for TypedJob<T> {
    fn about(&self) -> &About {
        &self.about
    }

    fn launch(self: Arc<Self>, shared: &Arc<Shared>, id: TaskId, memory: Option<Reservation>) {
        let (body, outlet) = self.take_work();
        let run = Run::new(Arc::clone(shared), id, self, body, outlet, memory);
        shared.runtime().spawn(run);
    }

    fn discard(&self) {
        let (body, outlet) = self.take_work();
        drop_quietly(body, "the future of a cancelled task");
        // A refused send only means that nobody waits for the result.
        let _ = outlet.send(Err(TaskError::Cancelled));
    }
}
