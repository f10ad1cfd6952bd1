//! Which task starts next, and how many run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tripod_scheduler::{Priority, SubmitError, Task, TaskScheduler, TaskStatus};

use crate::support::{Gate, Log, occupy, scheduler, settle, tasks};

fn note(log: &Log, entry: impl Into<String>) -> Task<()> {
    let (log, entry) = (log.clone(), entry.into());
    Task::new(async move { log.write(entry) })
}

#[tokio::test(start_paused = true)]
async fn emergency_task_overtakes_a_full_low_queue() {
    let scheduler = scheduler(1);
    let (gate, _running) = occupy(&scheduler, 1).await;
    let log = Log::default();
    let mut handles = Vec::new();
    for number in 0..1000 {
        let task = note(&log, format!("low {number}")).priority(Priority::Low);
        handles.push(scheduler.submit(task).unwrap());
    }
    for priority in [Priority::Normal, Priority::Critical, Priority::High, Priority::Emergency] {
        let task = note(&log, priority.to_string()).priority(priority);
        handles.push(scheduler.submit(task).unwrap());
    }
    gate.open(1);
    for handle in handles {
        handle.await.unwrap();
    }
    let low = (0..1000).map(|number| format!("low {number}"));
    let expected: Vec<String> = ["emergency", "critical", "high", "normal"]
        .map(String::from)
        .into_iter()
        .chain(low)
        .collect();
    assert_eq!(log.entries(), expected);
}

#[tokio::test(start_paused = true)]
async fn the_concurrency_is_reached_and_never_passed() {
    let scheduler = scheduler(3);
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (0..100)
        .map(|number| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            let task = Task::new(async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                for _ in 0..number % 7 {
                    tokio::task::yield_now().await;
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
            scheduler.submit(task.priority(Priority::ALL[number % 5])).unwrap()
        })
        .collect();
    for handle in handles {
        handle.await.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert_eq!(scheduler.stats().running, 0);
}

#[tokio::test(start_paused = true)]
async fn the_queue_limit_refuses_what_is_beyond_it_and_forgets_what_left() {
    let scheduler = TaskScheduler::builder().concurrency(tasks(1)).queue_limit(2).build().unwrap();
    let (gate, running) = occupy(&scheduler, 1).await;
    let queued = [scheduler.submit(gate.task()).unwrap(), scheduler.submit(gate.task()).unwrap()];
    let urgent = gate.task().priority(Priority::Emergency);
    assert_eq!(scheduler.submit(urgent).unwrap_err(), SubmitError::QueueFull { limit: 2 });

    assert!(queued[0].cancel());
    let third = scheduler.submit(gate.task()).unwrap();
    assert_eq!(scheduler.submit(gate.task()).unwrap_err(), SubmitError::QueueFull { limit: 2 });
    gate.open(3);
    for handle in running {
        handle.await.unwrap();
    }
    third.await.unwrap();
    assert_eq!(scheduler.stats().submitted, 4);
}

#[tokio::test(start_paused = true)]
async fn a_finished_task_makes_room_for_the_next_one_at_once() {
    let scheduler = scheduler(2);
    let (gate, _running) = occupy(&scheduler, 2).await;
    let next = Gate::new();
    let handle = scheduler.submit(next.task()).unwrap();
    settle().await;
    assert_eq!(handle.status(), TaskStatus::Queued);
    gate.open(1);
    next.until_arrivals(1).await;
    assert_eq!(handle.status(), TaskStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn a_task_may_submit_and_await_others() {
    let scheduler = scheduler(2);
    let inner = scheduler.clone();
    let task = Task::new(async move { inner.submit(Task::new(async { 6 * 7 })).unwrap().await });
    assert_eq!(scheduler.submit(task).unwrap().await.unwrap(), Ok(42));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_tasks_are_all_accounted_for() {
    let scheduler = scheduler(4);
    let sum = Arc::new(AtomicUsize::new(0));
    let handles: Vec<_> = (0..10_000)
        .map(|number| {
            let sum = Arc::clone(&sum);
            let task = Task::new(async move {
                sum.fetch_add(number, Ordering::SeqCst);
                number
            });
            scheduler.submit(task.priority(Priority::ALL[number % 5])).unwrap()
        })
        .collect();
    for (number, handle) in handles.into_iter().enumerate() {
        assert_eq!(handle.await, Ok(number));
    }
    assert_eq!(sum.load(Ordering::SeqCst), 10_000 * 9_999 / 2);
    let stats = scheduler.stats();
    assert_eq!((stats.submitted, stats.succeeded), (10_000, 10_000));
    assert_eq!((stats.queued, stats.running), (0, 0));
}
