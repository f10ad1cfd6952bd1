//! Statistics and metrics: the same numbers, at every moment.

use std::time::Duration;

use tripod_metrics::MetricsCollector;
use tripod_scheduler::{Priority, Task, TaskScheduler, TelemetryError};

use crate::support::{occupy, settle, tasks};

#[tokio::test(start_paused = true)]
async fn the_page_and_the_statistics_show_the_same_numbers() {
    let metrics = MetricsCollector::new();
    let scheduler =
        TaskScheduler::builder().concurrency(tasks(1)).metrics(&metrics).build().unwrap();
    scheduler.submit(Task::new(async {})).unwrap().await.unwrap();
    let panics = Task::<()>::new(async { panic!("on purpose") });
    scheduler.submit(panics).unwrap().await.unwrap_err();
    let endless = || Task::new(std::future::pending::<()>());
    scheduler.submit(endless().timeout(Duration::from_secs(3))).unwrap().await.unwrap_err();
    let (gate, _running) = occupy(&scheduler, 1).await;
    let low = scheduler.submit(endless().priority(Priority::Low)).unwrap();
    let _high = scheduler.submit(gate.task().priority(Priority::High)).unwrap();
    let _other = scheduler.submit(gate.task().priority(Priority::High)).unwrap();
    low.cancel();

    let page = metrics.encode_text();
    for line in [
        r#"tripod_scheduler_tasks_submitted_total{priority="normal"} 4"#,
        r#"tripod_scheduler_tasks_submitted_total{priority="high"} 2"#,
        r#"tripod_scheduler_tasks_finished_total{priority="normal",outcome="succeeded"} 1"#,
        r#"tripod_scheduler_tasks_finished_total{priority="normal",outcome="failed"} 1"#,
        r#"tripod_scheduler_tasks_finished_total{priority="normal",outcome="timed_out"} 1"#,
        r#"tripod_scheduler_tasks_finished_total{priority="low",outcome="cancelled"} 1"#,
        r#"tripod_scheduler_queued{priority="high"} 2"#,
        r#"tripod_scheduler_queued{priority="low"} 0"#,
        "tripod_scheduler_running 1",
        "tripod_scheduler_memory_waits_total 0",
        r#"tripod_scheduler_wait_seconds_count{priority="normal"} 4"#,
        r#"tripod_scheduler_run_seconds_count{priority="normal"} 3"#,
        r#"tripod_scheduler_run_seconds_bucket{priority="normal",le="1"} 2"#,
    ] {
        assert!(page.lines().any(|each| each == line), "{line}\n is missing in\n{page}");
    }
    let stats = scheduler.stats();
    assert_eq!((stats.submitted, stats.queued, stats.running), (7, 2, 1));
    assert_eq!(stats.queued_by_priority, [0, 0, 2, 0, 0]);
    assert_eq!((stats.succeeded, stats.failed, stats.cancelled, stats.timed_out), (1, 1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_wait_of_a_task_is_measured_from_its_submission_to_its_start() {
    let metrics = MetricsCollector::new();
    let scheduler =
        TaskScheduler::builder().concurrency(tasks(1)).metrics(&metrics).build().unwrap();
    let (gate, _running) = occupy(&scheduler, 1).await;
    let late = Task::new(async { tokio::time::sleep(Duration::from_secs(20)).await })
        .priority(Priority::Low);
    let late = scheduler.submit(late).unwrap();
    tokio::time::advance(Duration::from_secs(30)).await;
    gate.open(1);
    late.await.unwrap();
    let page = metrics.encode_text();
    for line in [
        r#"tripod_scheduler_wait_seconds_sum{priority="low"} 30"#,
        r#"tripod_scheduler_run_seconds_bucket{priority="low",le="10"} 0"#,
        r#"tripod_scheduler_run_seconds_bucket{priority="low",le="60"} 1"#,
    ] {
        assert!(page.contains(line), "{line}\n is missing in\n{page}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_metrics_do_not_keep_the_scheduler_alive() {
    let metrics = MetricsCollector::new();
    let scheduler = TaskScheduler::builder().metrics(&metrics).build().unwrap();
    assert!(metrics.encode_text().contains("tripod_scheduler_running 0"));
    drop(scheduler);
    settle().await;
    assert!(!metrics.encode_text().contains("tripod_scheduler_running"));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_means_something_else_is_an_error() {
    let metrics = MetricsCollector::new();
    metrics.gauge("tripod_scheduler_running", "Runners of a race.").register().unwrap();
    let error = TaskScheduler::builder().metrics(&metrics).build().unwrap_err();
    let tripod_scheduler::BuildError::Telemetry(TelemetryError::Register(conflict)) = error else {
        panic!("{error}");
    };
    assert!(conflict.to_string().contains("tripod_scheduler_running"));
}
