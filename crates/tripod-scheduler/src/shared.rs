//! What the scheduler, its dispatcher, its tasks and its handles share.
//!
//! The queue is the only thing behind the lock. Under it, counters move and the outcome and the
//! stop reason of a task are written, so that they agree with the queue at every moment; foreign
//! code (futures, destructors, wakers) never runs under it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, SetOnce};
use tokio::time::Instant;
use tripod_memory::{Budget, Reserve};

use crate::job::{About, Job};
use crate::lifecycle::{Event, Outcome, StopReason, TaskStatus};
use crate::priority::Priority;
use crate::queue::{Next, Queue, Refusal, Stopped, Submitted, TaskId};
use crate::shutdown::{Drain, ShutdownReport};
use crate::telemetry::{SchedulerStats, Telemetry};

type Jobs = Queue<Arc<dyn Job>>;

pub(crate) struct Shared {
    queue: Mutex<Jobs>,
    /// Wakes the dispatcher; a second wake before it has looked costs one atomic step.
    work: Notify,
    /// Set when the queue is closed and its last task has ended.
    drained: SetOnce<ShutdownReport>,
    telemetry: Telemetry,
    memory: Option<Budget>,
    runtime: Handle,
}

/// How a task that ran has ended, and the report if it was the last one.
pub(crate) struct Settled {
    pub(crate) outcome: Outcome,
    pub(crate) report: Option<ShutdownReport>,
}

impl Shared {
    pub(crate) fn new(
        queue: Jobs,
        telemetry: Telemetry,
        memory: Option<Budget>,
        runtime: Handle,
    ) -> Self {
        let (work, drained) = (Notify::new(), SetOnce::new());
        Self { queue: Mutex::new(queue), work, drained, telemetry, memory, runtime }
    }

    /// No foreign code runs under the lock, so a poisoned one can only come from a failed assertion
    /// of the queue, which changes nothing before it asserts.
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn memory(&self) -> Option<&Budget> {
        self.memory.as_ref()
    }

    /// Queues a task, or hands it back with the reason.
    pub(crate) fn submit(&self, job: Arc<dyn Job>) -> Result<TaskId, (Refusal, Arc<dyn Job>)> {
        let (priority, bytes) = (job.about().terms.priority, job.about().terms.memory_bytes);
        let Submitted { id, wake } = {
            let mut queue = self.lock();
            let submitted = queue.submit(priority, bytes, job)?;
            self.telemetry.submitted(priority);
            submitted
        };
        if wake {
            self.work.notify_one();
        }
        Ok(id)
    }

    pub(crate) fn next(&self) -> Next<Arc<dyn Job>> {
        self.lock().next()
    }

    pub(crate) fn start(&self, id: TaskId) -> Option<Arc<dyn Job>> {
        self.lock().start(id)
    }

    pub(crate) fn wait_for_memory(&self, id: TaskId) {
        if self.lock().wait_for_memory(id) {
            self.telemetry.waited_for_memory();
        }
    }

    /// Asks for the memory of a task; `None` if the scheduler has no budget.
    pub(crate) fn reserve(&self, bytes: u64) -> Option<Reserve> {
        self.memory.as_ref().map(|budget| budget.reserve(bytes))
    }

    pub(crate) async fn work(&self) {
        self.work.notified().await;
    }

    pub(crate) fn note_start(&self, about: &About, started_at: Instant) {
        let waited = started_at.saturating_duration_since(about.submitted_at);
        self.telemetry.started(about.terms.priority, waited);
    }

    /// Tells a task to stop; true if this call is the one that did.
    pub(crate) fn stop(&self, id: TaskId, event: Event) -> bool {
        let (stopped, report) = {
            let mut queue = self.lock();
            let stopped = queue.stop(id, event);
            self.note_stop(&stopped, event);
            (stopped, queue.ended())
        };
        match stopped {
            Stopped::Unchanged => return false,
            Stopped::Signal { payload } => payload.about().stop.wake(),
            Stopped::Removed { payload, wake, drained } => {
                if wake {
                    self.work.notify_one();
                }
                payload.discard();
                self.announce(drained.then_some(report));
            }
        }
        true
    }

    /// Writes down, still under the lock, what the queue decided.
    fn note_stop(&self, stopped: &Stopped<Arc<dyn Job>>, event: Event) {
        match stopped {
            Stopped::Removed { payload, .. } => self.note_end(payload, Outcome::Cancelled),
            Stopped::Signal { payload } => payload.about().stop.set_reason(match event {
                Event::TimeoutPassed => StopReason::TimedOut,
                _ => StopReason::Cancelled,
            }),
            Stopped::Unchanged => {}
        }
    }

    fn note_end(&self, job: &Arc<dyn Job>, outcome: Outcome) {
        let about = job.about();
        // The queue lets a task end only once, so this is never refused.
        let _ = about.outcome.set(outcome);
        self.telemetry.ended(about.terms.priority, outcome);
    }

    /// Takes the permit of a running task back.
    pub(crate) fn finish(&self, id: TaskId, event: Event, ran: Duration) -> Settled {
        let (finished, report) = {
            let mut queue = self.lock();
            let finished = queue.finish(id, event);
            self.note_end(&finished.payload, finished.outcome);
            (finished, queue.ended())
        };
        if finished.wake {
            self.work.notify_one();
        }
        self.telemetry.ran(finished.payload.about().terms.priority, ran);
        Settled { outcome: finished.outcome, report: finished.drained.then_some(report) }
    }

    /// Closes the queue; returns how many tasks were live if it was open before.
    pub(crate) fn close(&self, drain: Drain) -> Option<usize> {
        let (closed, report, live) = {
            let mut queue = self.lock();
            let live = (!queue.is_closed()).then(|| queue.queued() + queue.running());
            let closed = queue.close(drain);
            for job in &closed.removed {
                self.note_end(job, Outcome::Cancelled);
            }
            for job in &closed.signal {
                job.about().stop.set_reason(StopReason::Cancelled);
            }
            (closed, queue.ended(), live)
        };
        self.work.notify_one();
        for job in closed.signal {
            job.about().stop.wake();
        }
        for job in closed.removed {
            job.discard();
        }
        self.announce(closed.drained.then_some(report));
        live
    }

    /// Publishes the report of the last task that ended.
    pub(crate) fn announce(&self, report: Option<ShutdownReport>) {
        if let Some(report) = report {
            // A second shutdown of a drained scheduler finds the same report there already.
            let _ = self.drained.set(report);
        }
    }

    pub(crate) async fn drained(&self) -> ShutdownReport {
        *self.drained.wait().await
    }

    /// The status of a task that has not ended.
    pub(crate) fn status(&self, id: TaskId) -> Option<TaskStatus> {
        self.lock().status(id)
    }

    pub(crate) fn queued_at(&self, priority: Priority) -> usize {
        self.lock().queued_at(priority)
    }

    pub(crate) fn running(&self) -> usize {
        self.lock().running()
    }

    /// All numbers of one moment: counters move only under the lock.
    pub(crate) fn stats(&self) -> SchedulerStats {
        let queue = self.lock();
        let queued = Priority::ALL.map(|priority| queue.queued_at(priority));
        self.telemetry.stats(queued, queue.running())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
