//! The three drains, and what their reports add up to.

use std::time::Duration;

use tripod_scheduler::{
    Drain, ShutdownReport, SubmitError, Task, TaskError, TaskHandle, TaskScheduler, TaskStatus,
};

use crate::support::{Dropped, Gate, occupy, scheduler, settle};

const SUBMITTED: u64 = 12;

fn counts(report: ShutdownReport) -> [u64; 3] {
    [report.finished, report.cancelled, report.aborted]
}

/// One task has succeeded, one was cancelled in the queue, two run, eight are queued.
async fn twelve_tasks() -> (TaskScheduler, Gate, Vec<TaskHandle<()>>) {
    let scheduler = scheduler(2);
    scheduler.submit(Task::new(async {})).unwrap().await.unwrap();
    let (gate, mut handles) = occupy(&scheduler, 2).await;
    scheduler.submit(gate.task()).unwrap().cancel();
    handles.extend((0..8).map(|_| scheduler.submit(gate.task()).unwrap()));
    assert_eq!(scheduler.stats().submitted, SUBMITTED);
    (scheduler, gate, handles)
}

async fn count_values(handles: Vec<TaskHandle<()>>) -> usize {
    let mut values = 0;
    for handle in handles {
        match handle.await {
            Ok(()) => values += 1,
            Err(error) => assert_eq!(error, TaskError::Cancelled),
        }
    }
    values
}

#[tokio::test(start_paused = true)]
async fn finish_runs_everything_to_its_end() {
    let (scheduler, gate, handles) = twelve_tasks().await;
    gate.open(10);
    let report = scheduler.shutdown(Drain::Finish).await;
    assert_eq!((counts(report), report.total()), ([11, 1, 0], SUBMITTED));
    assert_eq!(count_values(handles).await, 10);
}

#[tokio::test(start_paused = true)]
async fn finish_running_cancels_what_is_queued() {
    let (scheduler, gate, handles) = twelve_tasks().await;
    gate.open(10);
    let report = scheduler.shutdown(Drain::FinishRunning).await;
    assert_eq!((counts(report), report.total()), ([3, 9, 0], SUBMITTED));
    assert_eq!(count_values(handles).await, 2);
}

#[tokio::test(start_paused = true)]
async fn now_cancels_everything() {
    let (scheduler, _gate, handles) = twelve_tasks().await;
    let report = scheduler.shutdown(Drain::Now).await;
    assert_eq!((counts(report), report.total()), ([1, 9, 2], SUBMITTED));
    assert_eq!(count_values(handles).await, 0);
}

#[tokio::test(start_paused = true)]
async fn now_waits_for_graces_and_counts_other_ends_as_finished() {
    let scheduler = scheduler(4);
    let grace = Duration::from_secs(5);
    let panics = Task::new(async { panic!("by itself") });
    let times_out = Task::new(std::future::pending()).timeout(Duration::ZERO);
    let ignores = Task::new(std::future::pending::<()>()).cancel_grace(grace);
    for handle in [panics, times_out].map(|task| scheduler.submit::<()>(task).unwrap()) {
        handle.await.unwrap_err();
    }
    let ignoring = scheduler.submit(ignores).unwrap();
    settle().await;
    let began = tokio::time::Instant::now();
    let report = scheduler.shutdown(Drain::Now).await;
    assert!(began.elapsed() >= grace);
    assert_eq!(counts(report), [2, 0, 1]);
    assert_eq!(ignoring.status(), TaskStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_second_shutdown_waits_for_the_same_report() {
    let (scheduler, gate, _handles) = twelve_tasks().await;
    let first = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.shutdown(Drain::Finish).await }
    });
    let second = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.shutdown(Drain::Finish).await }
    });
    settle().await;
    assert!(!first.is_finished() && !second.is_finished());
    gate.open(10);
    let report = first.await.unwrap();
    assert_eq!(second.await.unwrap(), report);
    assert_eq!(scheduler.shutdown(Drain::Now).await, report, "and long after");
}

#[tokio::test(start_paused = true)]
async fn a_stricter_shutdown_takes_over_a_milder_one() {
    let (scheduler, _gate, _handles) = twelve_tasks().await;
    let mild = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.shutdown(Drain::Finish).await }
    });
    settle().await;
    assert!(!mild.is_finished(), "the gate is closed");
    let report = scheduler.shutdown(Drain::Now).await;
    assert_eq!(counts(report), [1, 9, 2]);
    assert_eq!(mild.await.unwrap(), report);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_accepted_after_a_shutdown_began() {
    let (scheduler, gate, _handles) = twelve_tasks().await;
    let shutdown = scheduler.shutdown(Drain::Finish);
    assert!(scheduler.submit(gate.task()).is_ok(), "it begins when it is first polled");
    let mut shutdown = Box::pin(shutdown);
    assert!(tokio::time::timeout(Duration::ZERO, &mut shutdown).await.is_err());
    assert_eq!(scheduler.submit(gate.task()).unwrap_err(), SubmitError::ShuttingDown);
    gate.open(11);
    assert_eq!(shutdown.await.total(), SUBMITTED + 1);
}

#[tokio::test(start_paused = true)]
async fn an_empty_scheduler_shuts_down_at_once() {
    for drain in [Drain::Finish, Drain::FinishRunning, Drain::Now] {
        let report = scheduler(1).shutdown(drain).await;
        assert_eq!(report.total(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_cancels_a_task_that_waits_for_memory() {
    let memory = crate::support::memory(10);
    let scheduler = crate::support::scheduler_with_memory(1, &memory);
    let _taken = memory.try_reserve(10).unwrap();
    let dropped = Dropped::default();
    let witness = dropped.witness();
    let waiter = Task::new(async move { drop(witness) }).memory_bytes(10);
    let handle = scheduler.submit(waiter).unwrap();
    settle().await;
    assert_eq!(handle.status(), TaskStatus::WaitingForMemory);
    assert_eq!(counts(scheduler.shutdown(Drain::FinishRunning).await), [0, 1, 0]);
    assert!(dropped.is_dropped());
    assert_eq!(handle.await, Err(TaskError::Cancelled));
}
