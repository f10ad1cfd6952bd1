//! Panics of futures, of destructors and of results.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tripod_scheduler::{Drain, Task, TaskError, TaskScheduler, TaskStatus};

use crate::support::{Dropped, Gate, scheduler, settle};

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

/// Ends at once, or never, and panics when it is dropped.
struct PanickyFuture {
    ends: bool,
    _bomb: PanicsOnDrop,
}

impl Future for PanickyFuture {
    type Output = u32;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u32> {
        if self.ends { Poll::Ready(7) } else { Poll::Pending }
    }
}

fn panicky(ends: bool) -> Task<u32> {
    Task::new(PanickyFuture { ends, _bomb: PanicsOnDrop })
}

/// Two tasks at once meet at a gate: both permits are there.
async fn assert_two_run_together(scheduler: &TaskScheduler) {
    let gate = Gate::new();
    let handles = [(); 2].map(|()| scheduler.submit(gate.task()).unwrap());
    gate.until_arrivals(2).await;
    gate.open(2);
    for handle in handles {
        handle.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_panics_cost_no_permit() {
    let scheduler = scheduler(2);
    let handles: Vec<_> = (0..100)
        .map(|number| {
            let task = Task::<()>::new(async move {
                if number % 2 == 0 {
                    tokio::task::yield_now().await;
                }
                panic!("number {number}");
            });
            scheduler.submit(task).unwrap()
        })
        .collect();
    for (number, mut handle) in handles.into_iter().enumerate() {
        let message = format!("number {number}");
        assert_eq!((&mut handle).await, Err(TaskError::Panicked { message }));
        assert_eq!(handle.status(), TaskStatus::Failed);
    }
    assert_eq!(scheduler.stats().failed, 100);
    assert_two_run_together(&scheduler).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_future_is_made_is_a_panic_of_the_task() {
    let scheduler = scheduler(1);
    let task = Task::with_context(|context| {
        assert_eq!(context.name(), "another name", "at the start");
        std::future::ready(())
    });
    let Err(TaskError::Panicked { message }) = scheduler.submit(task).unwrap().await else {
        panic!("the task did not fail");
    };
    assert!(message.contains("at the start"), "{message}");
    assert_eq!(scheduler.stats().running, 0);
}

#[tokio::test(start_paused = true)]
async fn a_future_that_panics_while_it_is_dropped_keeps_its_outcome() {
    let scheduler = scheduler(2);
    for _ in 0..100 {
        assert_eq!(scheduler.submit(panicky(true)).unwrap().await, Ok(7));

        let running = scheduler.submit(panicky(false)).unwrap();
        settle().await;
        assert!(running.cancel());
        assert_eq!(running.await, Err(TaskError::Cancelled));

        let queued = scheduler.submit(panicky(false)).unwrap();
        assert!(queued.cancel());
        assert_eq!(queued.await, Err(TaskError::Cancelled));

        let timed = panicky(false).timeout(Duration::from_secs(1));
        let timeout = Duration::from_secs(1);
        assert_eq!(scheduler.submit(timed).unwrap().await, Err(TaskError::TimedOut { timeout }));
    }
    assert_two_run_together(&scheduler).await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_panics_while_it_is_dropped_costs_no_permit() {
    let scheduler = scheduler(2);
    for _ in 0..100 {
        drop(scheduler.submit(Task::new(async { PanicsOnDrop })).unwrap());
    }
    settle().await;
    assert_two_run_together(&scheduler).await;
    assert_eq!(scheduler.stats().succeeded, 102);

    drop(scheduler.submit(Task::new(async { PanicsOnDrop })).unwrap());
    let shutdown = scheduler.shutdown(Drain::Finish);
    let report = tokio::time::timeout(Duration::from_secs(1), shutdown).await;
    assert_eq!(report.expect("the last task is reported all the same").total(), 103);
}

#[tokio::test(start_paused = true)]
async fn what_a_panic_carries_may_panic_too() {
    let scheduler = scheduler(1);
    let task = Task::<()>::new(async { std::panic::panic_any(PanicsOnDrop) });
    let Err(TaskError::Panicked { message }) = scheduler.submit(task).unwrap().await else {
        panic!("the task did not fail");
    };
    assert_eq!(message, "the panic carries no text");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_grace_is_not_hidden() {
    let scheduler = scheduler(1);
    let task = Task::<()>::with_context(|context| async move {
        context.cancelled().await;
        panic!("while cleaning up");
    });
    let handle = scheduler.submit(task.cancel_grace(Duration::from_secs(1))).unwrap();
    settle().await;
    assert!(handle.cancel());
    let message = "while cleaning up".to_owned();
    assert_eq!(handle.await, Err(TaskError::Panicked { message }));
}

#[tokio::test(start_paused = true)]
async fn what_a_panicking_future_held_is_dropped() {
    let scheduler = scheduler(1);
    let dropped = Dropped::default();
    let witness = dropped.witness();
    let task = Task::<()>::new(async move {
        let _witness = witness;
        panic!("with something held");
    });
    assert!(scheduler.submit(task).unwrap().await.is_err());
    assert!(dropped.is_dropped());
}
