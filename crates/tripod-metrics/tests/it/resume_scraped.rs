//! What a real Prometheus makes of a process that is killed and started again.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing there")]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tripod_metrics::MetricsCollector;

use crate::resume::{Killed, Progress, as_child, child, end_if_orphan, memory};

/// Rounds of counting that the child does before it says so.
const UNSAID_MAX: u64 = 1000;
/// What the test may take on a busy machine; it takes about 9 s, 5 of which Prometheus needs to begin.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
#[ignore = "is run as a child by the test below, and never ends by itself"]
fn child_that_serves() {
    let Some((directory, progress)) = as_child() else { return };
    let address = std::env::var("TRIPOD_RESUME_ADDRESS").unwrap();
    let (metrics, _) = MetricsCollector::builder().build_resumed(directory).unwrap();
    let hits = metrics.counter("hits_total", "Hits.").labels(["path"]).register().unwrap();
    let hits = hits.with(&["/"]).unwrap();
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for round in 1.. {
            hits.inc();
            if u64::is_multiple_of(round, UNSAID_MAX) {
                progress.put(0, round);
                end_if_orphan();
                // Slowly enough for the other tests to have the processor too.
                std::thread::yield_now();
            }
        }
    });
    for connection in listener.incoming() {
        answer(connection.unwrap(), &metrics.encode_text());
    }
}

/// Answers one request with a page.
fn answer(mut connection: TcpStream, page: &str) {
    let mut request: Vec<u8> = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match connection.read(&mut part) {
            Ok(length @ 1..) => request.extend(&part[..length]),
            _ => return,
        }
    }
    let length = page.len();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8";
    // Whoever has gone away meanwhile needs no answer.
    let _sent =
        write!(connection, "{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}");
}

/// An address that nobody listened on a moment ago.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A Prometheus that scrapes `target` every second; `None` if it is not installed, which is an error
/// under `CI`.
fn prometheus(place: &Path, target: &str) -> Option<(Killed, String)> {
    let (config, address) = (place.join("prometheus.yml"), free_address());
    let job = format!("- job_name: it\n    static_configs: [{{targets: [\"{target}\"]}}]");
    let text = format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n  {job}\n");
    fs::write(&config, text).unwrap();
    let spawned: std::io::Result<Child> = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", place.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match spawned {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "prometheus is not installed (CI is set)");
            eprintln!("skipped: prometheus is not installed");
            None
        }
        spawned => Some((Killed(spawned.expect("prometheus starts")), address)),
    }
}

/// The answer of Prometheus to a query, as JSON; empty if it cannot be had yet.
fn query(address: &str, expression: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut connection = TcpStream::connect(address)?;
        let path = format!("/api/v1/query?query={expression}");
        write!(connection, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().unwrap_or_default()
}

/// The values of all samples in an answer: each is a time without quotes and a number in quotes.
fn values(answer: &str) -> Vec<f64> {
    let Some((_, samples)) = answer.split_once("\"value") else { return Vec::new() };
    let (_, samples) = samples.split_once('[').unwrap_or_default();
    let quoted = samples.split('"').skip(1).step_by(2);
    quoted.map_while(|value| value.parse().ok()).collect()
}

/// Waits until `address` has at least `most` samples of the child; returns them.
fn wait_for_samples(address: &str, most: usize, deadline: Instant) -> Vec<f64> {
    loop {
        let samples = values(&query(address, "hits_total[5m]"));
        if samples.len() >= most {
            return samples;
        }
        assert!(Instant::now() < deadline, "{} of {most} samples in time", samples.len());
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

#[test]
fn prometheus_sees_no_restart_of_a_counter_when_its_process_is_killed() {
    let deadline = Instant::now() + LIMIT;
    let place = tempfile::tempdir_in(memory()).unwrap();
    let (directory, path) = (place.path().join("cells"), place.path().join("progress"));
    let target = free_address();
    let Some((_prometheus, address)) = prometheus(place.path(), &target) else {
        return;
    };
    let start = || {
        let progress = Progress::create(&path);
        let mut command = child("resume_scraped::child_that_serves", &directory, &path);
        (Killed(command.env("TRIPOD_RESUME_ADDRESS", &target).spawn().unwrap()), progress)
    };
    let (first, progress) = start();
    let before = wait_for_samples(&address, 2, deadline);
    drop(first);
    let said_before = progress.get(0);
    let (second, progress) = start();
    let samples = wait_for_samples(&address, before.len() + 2, deadline);
    let resets = values(&query(&address, "resets(hits_total[5m])"));
    drop(second);

    assert!(samples.is_sorted(), "a counter never falls: {samples:?}");
    assert_eq!(resets, [0.0], "{samples:?}");
    let most = said_before + progress.get(0) + 2 * UNSAID_MAX;
    let (at_kill, last) = (samples[before.len() - 1], samples[samples.len() - 1]);
    assert!(last <= most as f64, "{last} of at most {most}: nothing was counted twice");
    assert!(at_kill > 0.0 && last > said_before as f64, "{last} of at least {said_before}");
}

#[test]
fn values_are_found_in_an_answer() {
    let of =
        |result: &str| values(&format!(r#"{{"data":{{"result":[{{"metric":{{"a":"b"}},{result}"#));
    assert_eq!(of(r#""values":[[1.5,"3"],[2.5,"4e2"]]}]}}"#), [3.0, 400.0]);
    assert_eq!(of(r#""value":[1.5,"0"]}]}}"#), [0.0]);
    assert!(values("").is_empty());
}
