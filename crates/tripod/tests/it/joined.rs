//! One budget binds buffers and tasks alike, and one page shows both.

use std::num::NonZeroUsize;

use tripod::{Drain, Error, MetricsCollector, SubmitError, Task, TaskStatus, Tripod, scheduler};

#[tokio::test(flavor = "current_thread")]
async fn a_buffer_that_is_held_makes_a_task_wait() {
    let tripod = Tripod::builder().memory_budget_bytes(1 << 20).build().unwrap();
    let buffer = tripod.memory().acquire(700 << 10).unwrap();
    let task = Task::with_context(|context| async move { context.memory().unwrap().bytes() });
    let handle = tripod.submit(task.memory_bytes(500 << 10)).unwrap();
    while handle.status() != TaskStatus::WaitingForMemory {
        tokio::task::yield_now().await;
    }
    drop(buffer);
    assert_eq!(handle.await, Ok(500 << 10));
    assert_eq!(tripod.scheduler().stats().memory_waits, 1);
    assert!(tripod.memory().root().peak_bytes() <= 1 << 20);
}

#[tokio::test(flavor = "current_thread")]
async fn the_options_reach_the_legs_and_one_page_shows_them() {
    let metrics = MetricsCollector::new();
    let tripod = Tripod::builder()
        .memory_budget_bytes(1000)
        .concurrency(NonZeroUsize::MIN)
        .queue_limit(1)
        .metrics(metrics.clone())
        .build()
        .unwrap();
    let too_big = tripod.submit(Task::new(async {}).memory_bytes(1001)).unwrap_err();
    assert_eq!(too_big, SubmitError::Unsatisfiable { needed_bytes: 1001, budget_bytes: 1000 });
    let first = tripod.submit(Task::new(async {}).memory_bytes(1000)).unwrap();
    assert_eq!(
        tripod.submit(Task::new(async {})).unwrap_err(),
        SubmitError::QueueFull { limit: 1 }
    );
    first.await.unwrap();
    assert_eq!(tripod.shutdown(Drain::Finish).await.finished, 1);
    let page = metrics.encode_text();
    for line in [
        "tripod_memory_peak_bytes 1000",
        r#"tripod_scheduler_tasks_finished_total{priority="normal",outcome="succeeded"} 1"#,
    ] {
        assert!(page.lines().any(|each| each == line), "{line}\n is missing in\n{page}");
    }
}

#[test]
fn without_a_runtime_the_error_says_so() {
    let error = Tripod::builder().build().unwrap_err();
    assert!(matches!(error, Error::BuildScheduler(scheduler::BuildError::NoRuntime)));
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}
