//! The dispatcher: one task of the runtime that starts tasks as the queue decides.
//!
//! It sleeps until somebody wakes it or the memory of the next task comes; it has no timer. There
//! is at most one request for memory at a time, that of the head of the queue, and it stays in its
//! place in the line as long as the head stays the same.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tripod_memory::{Reservation, Reserve, ReserveError};

use crate::lifecycle::Event;
use crate::queue::{Next, TaskId};
use crate::shared::Shared;
use crate::shutdown::Drain;

/// Cancels what is queued when the dispatcher ends, because nothing would start it any more.
///
/// When the dispatcher ends by itself, nothing is queued. When the runtime drops it, whatever
/// waits for a handle must not wait for ever.
struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(Drain::FinishRunning);
    }
}

/// The request for the memory of the task that starts next.
struct Waiting {
    id: TaskId,
    request: Pin<Box<Reserve>>,
}

/// Starts tasks until the queue is closed and empty.
pub(crate) async fn dispatch(shared: Arc<Shared>) {
    let guard = CloseOnDrop(shared);
    let shared = &guard.0;
    let mut waiting: Option<Waiting> = None;
    loop {
        match shared.next() {
            Next::Start { id, payload } => payload.launch(shared, id, None),
            Next::Reserve { id, bytes } => {
                // A request for another task leaves the line before the new one enters it.
                if waiting.as_ref().is_some_and(|waiting| waiting.id != id) {
                    waiting = None;
                }
                let request = waiting.take().or_else(|| request(shared, id, bytes));
                waiting = match request {
                    Some(request) => start_with_memory(shared, request).await,
                    None => None,
                };
            }
            Next::Idle => {
                waiting = None;
                shared.work().await;
            }
            Next::Closed => return,
        }
        // Lets the started tasks run when very many can start at once.
        tokio::task::coop::consume_budget().await;
    }
}

fn request(shared: &Shared, id: TaskId, bytes: u64) -> Option<Waiting> {
    let request = shared.reserve(bytes).map(Box::pin);
    debug_assert!(request.is_some(), "a task that needs memory is refused without a budget");
    request.map(|request| Waiting { id, request })
}

/// Starts the task once it has its memory; hands the request back if the dispatcher was woken
/// before.
async fn start_with_memory(shared: &Arc<Shared>, mut waiting: Waiting) -> Option<Waiting> {
    let id = waiting.id;
    match granted(shared, &mut waiting).await {
        None => return Some(waiting),
        Some(Ok(memory)) => {
            // If the head has changed meanwhile, the memory goes back here.
            if let Some(job) = shared.start(id) {
                job.launch(shared, id, Some(memory));
            }
        }
        Some(Err(error)) => {
            // Checked when the task was submitted, and limits do not change.
            tracing::error!(task = %id, %error, "a task was cancelled for want of memory");
            shared.stop(id, Event::CancelRequested);
        }
    }
    None
}

/// Waits for the memory or for a wake; `None` is a wake.
async fn granted(
    shared: &Shared,
    waiting: &mut Waiting,
) -> Option<Result<Reservation, ReserveError>> {
    let mut woken = pin!(shared.work());
    std::future::poll_fn(|cx| {
        if let Poll::Ready(granted) = waiting.request.as_mut().poll(cx) {
            return Poll::Ready(Some(granted));
        }
        shared.wait_for_memory(waiting.id);
        woken.as_mut().poll(cx).map(|()| None)
    })
    .await
}
