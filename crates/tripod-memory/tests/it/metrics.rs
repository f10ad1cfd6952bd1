use tripod_memory::MemoryManager;
use tripod_metrics::MetricsCollector;

use crate::in_line;

fn lines(metrics: &MetricsCollector) -> Vec<String> {
    let page = metrics.encode_text();
    let ours = page.lines().filter(|line| line.starts_with("tripod_memory_"));
    ours.map(str::to_owned).collect()
}

#[test]
fn the_page_says_what_the_stats_say() {
    let metrics = MetricsCollector::new();
    let builder = MemoryManager::builder().budget_bytes(20_000).metrics(&metrics);
    let memory = builder.background_collection(false).build().unwrap();
    let child = memory.budget("child").limit_bytes(5000).create().unwrap();

    drop(memory.acquire(4096).unwrap());
    let _hit = memory.acquire(4000).unwrap();
    drop(memory.acquire(8192).unwrap());
    memory.acquire(20_001).unwrap_err();
    let _held = child.try_reserve(5000).unwrap();
    let _waits = in_line(child.reserve(1));

    let expected = [
        r#"tripod_memory_acquires_total{result="hit"} 1"#,
        r#"tripod_memory_acquires_total{result="miss"} 2"#,
        r#"tripod_memory_acquires_total{result="refused"} 1"#,
        r#"tripod_memory_budget_bytes{budget="child"} 5000"#,
        r#"tripod_memory_budget_bytes{budget="root"} 20000"#,
        r#"tripod_memory_budget_used_bytes{budget="child"} 5000"#,
        r#"tripod_memory_budget_used_bytes{budget="root"} 9096"#,
        r#"tripod_memory_bytes{state="idle"} 8192"#,
        r#"tripod_memory_bytes{state="reserved"} 5000"#,
        r#"tripod_memory_bytes{state="used"} 4096"#,
        "tripod_memory_collected_bytes_total 0",
        "tripod_memory_peak_bytes 17288",
        "tripod_memory_reservation_waits_total 1",
    ];
    let mut lines = lines(&metrics);
    lines.retain(|line| !line.starts_with("tripod_memory_collection_seconds"));
    lines.sort();
    assert_eq!(lines, expected);
    let stats = memory.stats();
    assert_eq!((stats.hits, stats.misses, stats.refused, stats.waits), (1, 2, 1, 1));
    assert_eq!((stats.reserved_bytes, stats.used_bytes, stats.idle_bytes), (5000, 4096, 8192));
    assert_eq!((stats.committed_bytes, stats.peak_bytes, stats.waiting), (17_288, 17_288, 1));
    assert_eq!((stats.requested_bytes, stats.fragmentation()), (16_288, 3.0));
}

#[test]
fn a_manager_that_is_gone_leaves_no_gauge_behind() {
    let metrics = MetricsCollector::new();
    let memory = MemoryManager::builder().metrics(&metrics).build().unwrap();
    assert!(lines(&metrics).iter().any(|line| line.starts_with("tripod_memory_bytes")));
    assert!(
        !lines(&metrics).iter().any(|line| line.starts_with("tripod_memory_budget_bytes")),
        "an unlimited budget has no limit to show"
    );
    drop(memory);
    let left = lines(&metrics);
    let counted = |line: &String| line.contains("_total") || line.contains("_seconds");
    assert!(left.iter().all(counted), "{left:?}");
}

#[test]
fn a_name_that_is_taken_is_an_error_of_the_build() {
    let metrics = MetricsCollector::new();
    metrics.gauge("tripod_memory_bytes", "Something else.").register().unwrap();
    let error = MemoryManager::builder().metrics(&metrics).build().unwrap_err();
    assert!(error.to_string().starts_with("memory manager has no metrics: "), "{error}");
}
