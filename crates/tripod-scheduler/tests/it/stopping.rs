//! Timeouts, cancels and graces: in every state, and what is back when the handle resolves.

use std::time::Duration;

use tokio::time::Instant;
use tripod_memory::MemoryManager;
use tripod_scheduler::{StopReason, Task, TaskContext, TaskError, TaskScheduler, TaskStatus};

use crate::support::{
    Dropped, Gate, Log, memory, occupy, scheduler, scheduler_with_memory, settle,
};

const SECOND: Duration = Duration::from_secs(1);

/// A future that never ends, and a witness of its drop.
fn endless(dropped: &Dropped) -> impl Future<Output = ()> + Send + use<> {
    let witness = dropped.witness();
    async move {
        let _witness = witness;
        std::future::pending().await
    }
}

fn assert_all_back(scheduler: &TaskScheduler, memory: &MemoryManager, dropped: &Dropped) {
    assert!(dropped.is_dropped(), "the future is still there");
    assert_eq!(memory.root().used_bytes(), 0, "the memory is not back");
    assert_eq!(scheduler.stats().running, 0, "the permit is not back");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_drops_the_future_and_returns_all_before_the_handle_resolves() {
    let memory = memory(100);
    let scheduler = scheduler_with_memory(1, &memory);
    let dropped = Dropped::default();
    let task = Task::new(endless(&dropped)).memory_bytes(80).timeout(5 * SECOND);
    let submitted = Instant::now();
    let mut handle = scheduler.submit(task).unwrap();
    assert_eq!((&mut handle).await, Err(TaskError::TimedOut { timeout: 5 * SECOND }));
    assert_all_back(&scheduler, &memory, &dropped);
    // The timer's wheel turns in milliseconds.
    assert!(submitted.elapsed() - 5 * SECOND < Duration::from_millis(2));
    assert_eq!(handle.status(), TaskStatus::TimedOut);
    assert_eq!(scheduler.stats().timed_out, 1);
}

#[tokio::test(start_paused = true)]
async fn the_time_in_the_queue_is_no_part_of_the_timeout() {
    let scheduler = scheduler(1);
    let (gate, _running) = occupy(&scheduler, 1).await;
    let task = Task::new(async { tokio::time::sleep(SECOND).await }).timeout(2 * SECOND);
    let handle = scheduler.submit(task).unwrap();
    tokio::time::advance(60 * SECOND).await;
    gate.open(1);
    assert_eq!(handle.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_always_ready_for_more_is_timed_out_nevertheless() {
    let scheduler = scheduler(1);
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    sender.send(()).unwrap();
    let busy = Task::new(async move {
        // Uses up tokio's budget in every poll.
        while receiver.recv().await.is_some() {
            sender.send(()).unwrap();
        }
    });
    let mut handle = scheduler.submit(busy.timeout(SECOND)).unwrap();
    settle().await;
    assert_eq!(handle.status(), TaskStatus::Running);
    tokio::time::advance(2 * SECOND).await;
    assert_eq!((&mut handle).await, Err(TaskError::TimedOut { timeout: SECOND }));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_beyond_the_end_of_time_is_none() {
    let scheduler = scheduler(1);
    let task = Task::new(async { tokio::time::sleep(SECOND).await }).timeout(Duration::MAX);
    assert_eq!(scheduler.submit(task).unwrap().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_queued_task_resolves_it_at_once() {
    let scheduler = scheduler(1);
    let (gate, _running) = occupy(&scheduler, 1).await;
    let dropped = Dropped::default();
    let handle = scheduler.submit(Task::new(endless(&dropped))).unwrap();
    assert!(handle.cancel());
    assert!(dropped.is_dropped(), "within the call, not later");
    assert_eq!(handle.status(), TaskStatus::Cancelled);
    assert_eq!(scheduler.status(handle.id()), None);
    assert_eq!(scheduler.stats().queued, 0);
    assert!(!handle.cancel() && !scheduler.cancel(handle.id()), "there is nothing left to stop");
    // Ready without another turn of the runtime.
    assert_eq!(tokio::time::timeout(Duration::ZERO, handle).await, Ok(Err(TaskError::Cancelled)));
    gate.open(1);
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_running_task_without_grace_drops_its_future() {
    let memory = memory(100);
    let scheduler = scheduler_with_memory(1, &memory);
    let dropped = Dropped::default();
    let mut handle = scheduler.submit(Task::new(endless(&dropped)).memory_bytes(100)).unwrap();
    settle().await;
    assert_eq!(handle.status(), TaskStatus::Running);
    assert!(handle.cancel());
    assert_eq!(handle.status(), TaskStatus::Cancelling);
    assert!(!handle.cancel(), "it was told before");
    assert_eq!((&mut handle).await, Err(TaskError::Cancelled));
    assert_all_back(&scheduler, &memory, &dropped);
    assert_eq!(handle.status(), TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_task_cancelled_before_its_first_poll_never_runs() {
    let scheduler = scheduler(1);
    let log = Log::default();
    let inner = log.clone();
    let handle = scheduler.submit(Task::new(async move { inner.write("ran") })).unwrap();
    assert!(handle.cancel());
    assert_eq!(handle.await, Err(TaskError::Cancelled));
    settle().await;
    assert_eq!(log.entries(), [""; 0]);
}

/// Waits for its cancel, then cleans up for two seconds.
async fn clean_up(context: TaskContext, log: Log) {
    context.cancelled().await;
    log.write(format!("told: {:?}", context.stop_reason().unwrap()));
    tokio::time::sleep(2 * SECOND).await;
    log.write("clean");
}

#[tokio::test(start_paused = true)]
async fn a_cooperative_task_finishes_its_cleanup_within_its_grace() {
    let memory = memory(100);
    let scheduler = scheduler_with_memory(1, &memory);
    let log = Log::default();
    let inner = log.clone();
    let task = Task::with_context(move |context| clean_up(context, inner));
    let task = task.cancel_grace(10 * SECOND).memory_bytes(100);
    let mut handle = scheduler.submit(task).unwrap();
    settle().await;
    assert!(handle.cancel());
    let told = Instant::now();
    settle().await;
    assert_eq!(handle.status(), TaskStatus::Cancelling);
    assert_eq!(memory.root().used_bytes(), 100, "it holds its memory until it has ended");
    assert_eq!((&mut handle).await, Err(TaskError::Cancelled));
    assert_eq!(told.elapsed(), 2 * SECOND, "it does not wait for the end of the grace");
    assert_eq!(log.entries(), ["told: Cancelled", "clean"]);
    assert_eq!(memory.root().used_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_gives_the_same_grace() {
    let scheduler = scheduler(1);
    let log = Log::default();
    let inner = log.clone();
    let task = Task::with_context(move |context| clean_up(context, inner));
    let task = task.cancel_grace(10 * SECOND).timeout(SECOND);
    let mut handle = scheduler.submit(task).unwrap();
    assert_eq!((&mut handle).await, Err(TaskError::TimedOut { timeout: SECOND }));
    assert_eq!(log.entries(), ["told: TimedOut", "clean"]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ignores_its_cancel_is_dropped_at_the_end_of_its_grace() {
    let memory = memory(100);
    let scheduler = scheduler_with_memory(1, &memory);
    let dropped = Dropped::default();
    let task = Task::new(endless(&dropped)).cancel_grace(3 * SECOND).memory_bytes(1);
    let mut handle = scheduler.submit(task).unwrap();
    settle().await;
    assert!(handle.cancel());
    let told = Instant::now();
    assert_eq!((&mut handle).await, Err(TaskError::Cancelled));
    assert!(told.elapsed() - 3 * SECOND < Duration::from_millis(2));
    assert_all_back(&scheduler, &memory, &dropped);
}

#[tokio::test(start_paused = true)]
async fn a_task_keeps_its_permit_through_its_grace() {
    let scheduler = scheduler(1);
    let dropped = Dropped::default();
    let first = scheduler.submit(Task::new(endless(&dropped)).cancel_grace(3 * SECOND)).unwrap();
    settle().await;
    let gate = Gate::new();
    let second = scheduler.submit(gate.task()).unwrap();
    assert!(first.cancel());
    tokio::time::advance(2 * SECOND).await;
    settle().await;
    assert_eq!((second.status(), gate.arrivals()), (TaskStatus::Queued, 0));
    tokio::time::advance(2 * SECOND).await;
    gate.until_arrivals(1).await;
    assert_eq!(first.await, Err(TaskError::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn after_a_cancel_that_said_true_no_value_comes() {
    let scheduler = scheduler(1);
    let dropped = Dropped::default();
    let witness = dropped.witness();
    let task = Task::with_context(|context| async move {
        context.cancelled().await;
        witness
    });
    let handle = scheduler.submit(task.cancel_grace(SECOND)).unwrap();
    settle().await;
    assert!(handle.cancel());
    assert_eq!(handle.await.err(), Some(TaskError::Cancelled));
    assert!(dropped.is_dropped());
}

#[tokio::test(start_paused = true)]
async fn the_first_reason_to_stop_decides() {
    let scheduler = scheduler(1);
    let task = Task::new(std::future::pending::<()>()).timeout(SECOND).cancel_grace(5 * SECOND);
    let handle = scheduler.submit(task).unwrap();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(handle.status(), TaskStatus::Cancelling);
    assert!(!handle.cancel());
    assert_eq!(handle.await, Err(TaskError::TimedOut { timeout: SECOND }));
}

#[tokio::test(start_paused = true)]
async fn the_context_knows_its_task() {
    let scheduler = scheduler(1);
    let task = Task::with_context(|context| async move {
        assert!(!context.is_cancelled());
        assert_eq!(context.stop_reason(), None::<StopReason>);
        assert!(context.memory().is_none());
        (context.id(), context.name().to_owned(), context.priority())
    });
    let task = task.name("index").priority(tripod_scheduler::Priority::Critical);
    let handle = scheduler.submit(task).unwrap();
    let id = handle.id();
    let seen = handle.await.unwrap();
    assert_eq!(seen, (id, "index".to_owned(), tripod_scheduler::Priority::Critical));
}
