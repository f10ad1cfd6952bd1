//! The numbers of this very process.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tripod_metrics::{MetricsCollector, process};

use crate::promtool;

/// The plain samples of a page that begin with `process_`.
fn read(collector: &MetricsCollector) -> BTreeMap<String, f64> {
    let page = collector.encode_text();
    let samples = page.lines().filter(|line| line.starts_with("process_"));
    let samples = samples.filter_map(|line| line.split_once(' '));
    samples.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
}

#[test]
fn the_numbers_are_those_of_this_process() {
    let collector = MetricsCollector::new();
    process::register(&collector).unwrap();
    promtool::assert_clean(&collector.encode_text());
    let before = read(&collector);
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let started = before["process_start_time_seconds"];
    let now = seconds(SystemTime::now());
    // The test began a moment ago; the time of boot is rounded, and clocks are set.
    assert!((now - 3600.0..now + 5.0).contains(&started), "{started} {now}");
    assert!(before["process_resident_memory_bytes"] > 1e6);
    assert!(before["process_virtual_memory_bytes"] > before["process_resident_memory_bytes"]);
    assert!(before["process_open_fds"] >= 3.0);
    assert!(before["process_max_fds"] >= before["process_open_fds"]);
    assert!(before["process_threads"] >= 1.0);
    assert!(before["process_minor_page_faults_total"] > 0.0);
    assert!(before.contains_key("process_major_page_faults_total"));

    // Until the numbers have grown as they must, which takes the reading some time to age. Other
    // tests open and close files, too, but not hundreds.
    let files: Vec<_> = (0..300).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
    let memory = vec![1_u8; 64 << 20];
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let after = read(&collector);
        let grown = |name: &str| after[name] - before[name];
        if grown("process_cpu_seconds_total") >= 0.05
            && grown("process_open_fds") >= 200.0
            && grown("process_resident_memory_bytes") >= (32 << 20) as f64
            && grown("process_minor_page_faults_total") >= 100.0
        {
            break;
        }
        assert!(Instant::now() < deadline, "{before:?}\n{after:?}");
    }
    drop((files, std::hint::black_box(memory)));
}

#[test]
fn registering_twice_is_fine_and_foreign_families_are_not() {
    let collector = MetricsCollector::new();
    process::register(&collector).unwrap();
    process::register(&collector).unwrap();
    let collector = MetricsCollector::new();
    collector.gauge("process_threads", "Something else.").register().unwrap();
    assert!(process::register(&collector).unwrap_err().to_string().contains("process_threads"));
}
