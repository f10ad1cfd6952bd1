//! What keeps the scheduler and its tasks alive, and what does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tripod_scheduler::{BuildError, Drain, Task, TaskError, TaskScheduler, TaskStatus};

use crate::support::{Dropped, occupy, scheduler, settle};

#[test]
fn outside_of_a_runtime_one_must_be_given() {
    assert!(matches!(TaskScheduler::builder().build(), Err(BuildError::NoRuntime)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let scheduler = TaskScheduler::builder().runtime(runtime.handle().clone()).build().unwrap();
    let handle = scheduler.submit(Task::new(async { 6 * 7 })).unwrap();
    assert_eq!(runtime.block_on(handle), Ok(42));
}

#[test]
fn without_a_time_driver_a_task_with_a_timeout_fails_and_says_why() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let scheduler = TaskScheduler::builder().runtime(runtime.handle().clone()).build().unwrap();
    let task = Task::new(std::future::pending::<()>()).timeout(std::time::Duration::from_secs(1));
    let result = runtime.block_on(scheduler.submit(task).unwrap());
    let Err(TaskError::Panicked { message }) = result else { panic!("{result:?}") };
    assert!(message.contains("timers are disabled"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_scheduler_cancels_everything() {
    let scheduler = scheduler(1);
    let (_gate, running) = occupy(&scheduler, 1).await;
    let dropped = Dropped::default();
    let witness = dropped.witness();
    let queued = scheduler.submit(Task::new(async move { drop(witness) })).unwrap();
    let clone = scheduler.clone();
    drop(scheduler);
    settle().await;
    assert_eq!(running[0].status(), TaskStatus::Running, "a clone is still there");
    drop(clone);
    assert!(dropped.is_dropped());
    assert_eq!(queued.await, Err(TaskError::Cancelled));
    for handle in running {
        assert_eq!(handle.await, Err(TaskError::Cancelled));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_scheduler_leaves_no_task_in_the_runtime() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let scheduler = scheduler(2);
    let (_gate, _handles) = occupy(&scheduler, 2).await;
    assert_eq!(metrics.num_alive_tasks(), before + 3, "two tasks and the dispatcher");
    drop(scheduler);
    settle().await;
    assert_eq!(metrics.num_alive_tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_handle_detaches_its_task() {
    let scheduler = scheduler(1);
    let (gate, handles) = occupy(&scheduler, 1).await;
    drop(handles);
    settle().await;
    assert_eq!(scheduler.stats().running, 1);
    gate.open(1);
    settle().await;
    assert_eq!(scheduler.stats().succeeded, 1);
}

#[tokio::test(start_paused = true)]
async fn the_result_of_a_detached_task_is_dropped() {
    let scheduler = scheduler(1);
    let dropped = Dropped::default();
    let witness = dropped.witness();
    drop(scheduler.submit(Task::new(async move { witness })).unwrap());
    settle().await;
    assert!(dropped.is_dropped());
}

#[test]
fn a_runtime_that_ends_resolves_every_handle() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (scheduler, running, queued) = runtime.block_on(async {
        let scheduler = scheduler(1);
        let (gate, mut running) = occupy(&scheduler, 1).await;
        let queued = scheduler.submit(gate.task()).unwrap();
        (scheduler, running.remove(0), queued)
    });
    drop(runtime);
    let stats = scheduler.stats();
    assert_eq!((stats.running, stats.queued, stats.cancelled), (0, 0, 2));
    let elsewhere = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let report = elsewhere.block_on(scheduler.shutdown(Drain::Finish));
    assert_eq!((report.cancelled, report.aborted, report.total()), (1, 1, 2));
    for handle in [running, queued] {
        assert_eq!(elsewhere.block_on(handle), Err(TaskError::Cancelled));
    }
    assert!(scheduler.submit(Task::new(async {})).is_err(), "nothing would ever run it");
}

/// A current-thread runtime that counts how often its thread wakes up.
fn counting_runtime() -> (tokio::runtime::Runtime, Arc<AtomicUsize>) {
    let unparks = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&unparks);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_unpark(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    (runtime, unparks)
}

#[test]
fn an_idle_scheduler_makes_no_wakeups() {
    let wakeups_in_an_hour = |build: fn() -> Option<TaskScheduler>| {
        let (runtime, unparks) = counting_runtime();
        runtime.block_on(async {
            let scheduler = build();
            if let Some(scheduler) = &scheduler {
                scheduler.submit(Task::new(async {})).unwrap().await.unwrap();
            }
            settle().await;
            let before = unparks.load(Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
            unparks.load(Ordering::SeqCst) - before
        })
    };
    // A timer of the scheduler's would end the paused sleep early and show as a further wakeup.
    assert_eq!(wakeups_in_an_hour(|| Some(scheduler(4))), wakeups_in_an_hour(|| None));
}
