//! One running task: its polls, its timeout, its grace and its end.
//!
//! [`Run`] is what tokio polls. However it ends (value, panic, dropped by us or by the runtime) it
//! goes through [`Run::end`] exactly once: the future is dropped, then the memory and the permit
//! go back, then the handle resolves.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tripod_memory::Reservation;

use crate::handle::TaskError;
use crate::job::{About, Job, Outlet, TypedJob};
use crate::lifecycle::{Event, Outcome};
use crate::panics::{catch, drop_quietly};
use crate::queue::TaskId;
use crate::shared::Shared;
use crate::task::{Body, TaskContext};

/// How the future of a task came to its end.
enum End<T> {
    Returned(T),
    Panicked(String),
    Dropped,
}

/// The future that runs one task.
pub(crate) struct Run<T: Send + 'static> {
    shared: Arc<Shared>,
    id: TaskId,
    job: Arc<TypedJob<T>>,
    memory: Option<Arc<Reservation>>,
    /// `None` once the task has ended.
    work: Option<(Body<T>, Outlet<T>)>,
    started_at: Instant,
    watch: Watch,
}

/// What wakes a task apart from its own future; nothing is armed before its first `Pending`.
#[derive(Default)]
struct Watch {
    is_armed: bool,
    is_stopping: bool,
    /// The timeout, and after a stop the end of the grace.
    timer: Option<Pin<Box<Sleep>>>,
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Watch {
    fn arm(&mut self, about: &About, started_at: Instant) {
        self.is_armed = true;
        self.stop = Some(Box::pin(about.stop.wait_owned()));
        if !self.is_stopping {
            self.timer = about.terms.timeout.and_then(|timeout| timer(started_at, timeout));
        }
    }

    fn start_grace(&mut self, grace: Duration) {
        self.is_stopping = true;
        self.timer = timer(Instant::now(), grace);
    }

    fn has_timer_fired(&mut self, cx: &mut Context<'_>) -> bool {
        self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }

    fn listen(&mut self, cx: &mut Context<'_>) {
        if let Some(stop) = &mut self.stop
            && stop.as_mut().poll(cx).is_ready()
        {
            self.stop = None;
        }
    }
}

/// A timer, or none if the time lies beyond what the clock can name.
fn timer(from: Instant, after: Duration) -> Option<Pin<Box<Sleep>>> {
    from.checked_add(after).map(|deadline| Box::pin(sleep_until(deadline)))
}

impl<T: Send + 'static> Run<T> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        id: TaskId,
        job: Arc<TypedJob<T>>,
        body: Body<T>,
        outlet: Outlet<T>,
        memory: Option<Reservation>,
    ) -> Self {
        let memory = memory.map(Arc::new);
        let (work, watch) = (Some((body, outlet)), Watch::default());
        let started_at = Instant::now();
        shared.note_start(job.about(), started_at);
        Self { shared, id, job, memory, work, started_at, watch }
    }

    /// Polls the future once, unless the task has to stop; `Ready` is how it ended.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<End<T>> {
        // Before the future, which may use up tokio's budget of this poll: a timer that is polled
        // without budget never fires.
        if self.must_drop(cx) {
            return Poll::Ready(End::Dropped);
        }
        if let Poll::Ready(value) = self.poll_future(cx) {
            return Poll::Ready(End::Returned(value));
        }
        if !self.watch.is_armed {
            self.watch.arm(self.job.about(), self.started_at);
            if self.must_drop(cx) {
                return Poll::Ready(End::Dropped);
            }
        }
        Poll::Pending
    }

    /// Says whether the future may not be polled again, and sees to it that `cx` is woken when
    /// that changes.
    fn must_drop(&mut self, cx: &mut Context<'_>) -> bool {
        let about = self.job.about();
        if about.stop.reason().is_none() {
            if self.watch.has_timer_fired(cx) {
                self.watch.timer = None;
                self.shared.stop(self.id, Event::TimeoutPassed);
            } else {
                self.watch.listen(cx);
            }
        }
        if about.stop.reason().is_none() {
            return false;
        }
        let grace = about.terms.cancel_grace;
        if grace.is_zero() {
            return true;
        }
        if !self.watch.is_stopping {
            self.watch.start_grace(grace);
        }
        self.watch.has_timer_fired(cx)
    }

    fn poll_future(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let (body, _) = self.work.as_mut().expect("a task that has ended is not polled");
        if let Body::Future(future) = body {
            return future.as_mut().poll(cx);
        }
        let job: Arc<dyn Job> = Arc::clone(&self.job) as Arc<dyn Job>;
        let context = TaskContext::new(self.id, job, self.memory.clone());
        let placeholder = Body::Future(Box::pin(std::future::pending()));
        let Body::WithContext(start) = std::mem::replace(body, placeholder) else {
            unreachable!("the other kind was handled above");
        };
        let mut future = start(context);
        let polled = future.as_mut().poll(cx);
        *body = Body::Future(future);
        polled
    }

    /// Ends the task; does nothing the second time.
    fn end(&mut self, end: End<T>) {
        let Some((body, outlet)) = self.work.take() else {
            return;
        };
        drop_quietly(body, "the future of a task");
        self.watch = Watch::default();
        self.give_memory_back();
        let (event, value, message) = match end {
            End::Returned(value) => (Event::Returned, Some(value), String::new()),
            End::Panicked(message) => (Event::Panicked, None, message),
            End::Dropped => (Event::Dropped, None, String::new()),
        };
        let settled = self.shared.finish(self.id, event, self.started_at.elapsed());
        let terms = &self.job.about().terms;
        let result = match (settled.outcome, value) {
            (Outcome::Succeeded, Some(value)) => Ok(value),
            (Outcome::Failed, _) => {
                tracing::error!(task = terms.name(), id = %self.id, message, "a task panicked");
                Err(TaskError::Panicked { message })
            }
            (Outcome::TimedOut, value) => {
                drop_quietly(value, "the value of a task that timed out");
                Err(TaskError::TimedOut { timeout: terms.timeout.unwrap_or_default() })
            }
            (Outcome::Succeeded | Outcome::Cancelled, value) => {
                drop_quietly(value, "the value of a cancelled task");
                Err(TaskError::Cancelled)
            }
        };
        if let Err(unwanted) = outlet.send(result) {
            drop_quietly(unwanted, "the value of a detached task");
        }
        self.shared.announce(settled.report);
    }

    /// Gives the memory back even if a clone of the context lives on.
    fn give_memory_back(&mut self) {
        if let Some(Err(shared)) = self.memory.take().map(Arc::try_unwrap) {
            shared.shrink(u64::MAX);
        }
    }
}

impl<T: Send + 'static> Future for Run<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let end = match catch(|| self.step(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(end)) => end,
            Err(message) => End::Panicked(message),
        };
        self.end(end);
        Poll::Ready(())
    }
}

impl<T: Send + 'static> Drop for Run<T> {
    /// A runtime that shuts down drops what it runs.
    fn drop(&mut self) {
        self.end(End::Dropped);
    }
}
