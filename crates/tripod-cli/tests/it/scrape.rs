//! The metrics page of a run, as scrapers read it: by hand in each format, and by a real Prometheus.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Bench, wait, within_deadline};

/// Long enough for a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";
const PROTOBUF: &str = "application/vnd.google.protobuf;\
                        proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// A run of which three commands have succeeded, one has failed, and the last one waits.
struct HeldRun {
    child: Child,
    release: File,
    address: String,
    _bench: Bench,
}

impl HeldRun {
    fn start() -> Self {
        let bench = Bench::new();
        let fifo = bench.fifo();
        let program = format!("case {{}} in hold) cat '{}';; fail) false;; esac", fifo.display());
        let mut child = bench
            .map(&["-j1", "--metrics-addr", "127.0.0.1:0", &program, ":::"])
            .args(["1", "2", "fail", "3", "hold"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("tripod: metrics at http://").expect(&line);
        let address = address.strip_suffix("/metrics").unwrap().to_owned();
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        // Opens when the last command does, so the others have ended.
        let release = within_deadline(move || File::options().write(true).open(fifo).unwrap());
        Self { child, release, address, _bench: bench }
    }

    fn end(self) {
        drop(self.release);
        assert_eq!(wait(self.child).status.code(), Some(1), "one command has failed");
    }
}

/// Answers to a `GET`: head and body.
fn get(address: &str, path: &str, accept: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let body = answer.split_off(end + 4);
    (String::from_utf8(answer).unwrap(), body)
}

#[test]
fn each_format_is_served_to_whom_asks_for_it() {
    let run = HeldRun::start();
    let ask = |accept| get(&run.address, "/metrics", accept);

    let (head, body) = ask("text/plain;version=0.0.4");
    assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    let page = String::from_utf8(body).unwrap();
    assert!(page.contains("# TYPE tripod_map_attempts_total counter\n"), "{page}");
    assert!(page.contains("tripod_map_attempts_total{outcome=\"succeeded\"} 3\n"), "{page}");

    let (head, body) = ask(OPENMETRICS);
    let content_type =
        "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(head.contains(content_type), "{head}");
    let page = String::from_utf8(body).unwrap();
    assert!(page.contains("# TYPE tripod_map_attempts counter\n"), "{page}");
    assert!(page.contains("tripod_map_attempts_total{outcome=\"succeeded\"} 3\n"), "{page}");
    assert!(page.ends_with("# EOF\n"), "{page}");

    let (head, body) = ask(PROTOBUF);
    assert!(head.contains("content-type: application/vnd.google.protobuf; "), "{head}");
    let names = delimited_names(&body);
    assert!(names.iter().any(|name| name == "tripod_map_attempts_total"), "{names:?}");
    assert!(names.is_sorted(), "{names:?}");
    run.end();
}

/// The first field, the name, of each message behind its length.
fn delimited_names(mut bytes: &[u8]) -> Vec<String> {
    fn varint(bytes: &mut &[u8]) -> usize {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().expect("a whole number");
            *bytes = rest;
            value |= usize::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut names = Vec::new();
    while !bytes.is_empty() {
        let length = varint(&mut bytes);
        let (mut message, rest) = bytes.split_at(length);
        assert_eq!(varint(&mut message), 1 << 3 | 2, "field 1 is text");
        let length = varint(&mut message);
        names.push(String::from_utf8(message[..length].to_vec()).unwrap());
        bytes = rest;
    }
    names
}

/// A Prometheus that scrapes one address; it ends with this.
struct Prometheus {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// `None` if it is not installed, which is an error under `CI`.
    fn start(target: &str, arguments: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        let job = format!("{{job_name: tripod, static_configs: [{{targets: ['{target}']}}]}}");
        let text = format!("global: {{scrape_interval: 1s}}\nscrape_configs: [{job}]\n");
        std::fs::write(&config, text).unwrap();
        let child = command(folder.path(), &config).args(arguments).spawn();
        let mut child = match child {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert!(std::env::var_os("CI").is_none(), "prometheus: {error}");
                eprintln!("skipped: prometheus is not installed (Debian package `prometheus`)");
                return None;
            }
            child => child.unwrap(),
        };
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self { child, address: String::new(), _folder: folder };
        server.address = listening_address(log);
        Some(server)
    }

    /// The value of a query that has one series as its result, as soon as it is `expected`.
    fn await_value(&self, query: &str, expected: &str) {
        let started = Instant::now();
        loop {
            let answer = self.api(&format!("/api/v1/query?query={}", escaped(query)));
            let result = &answer["data"]["result"];
            if result.as_array().is_some_and(|all| all.len() == 1)
                && result[0]["value"][1] == expected
            {
                return;
            }
            assert!(started.elapsed() < DEADLINE, "{query} is not {expected}: {answer}");
            std::thread::yield_now();
        }
    }

    /// The types of the metric family of this name, as scraped.
    fn types(&self, family: &str) -> Vec<String> {
        let answer = self.api(&format!("/api/v1/targets/metadata?metric={family}"));
        let data = answer["data"].as_array().cloned().unwrap_or_default();
        data.iter().filter_map(|entry| entry["type"].as_str().map(str::to_owned)).collect()
    }

    fn api(&self, path: &str) -> Value {
        let (head, body) = get(&self.address, path, "application/json");
        serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{error}: {head}"))
    }
}

fn command(folder: &Path, config: &Path) -> Command {
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .args(["--web.listen-address=127.0.0.1:0", "--log.format=json"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Waits until it is ready, and returns where it listens. The log is read to its end, so that the
/// server never waits for room in the pipe.
fn listening_address(log: BufReader<std::process::ChildStderr>) -> String {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            let _ended = sender.send(line);
        }
    });
    let mut seen = Vec::new();
    let mut address = None;
    loop {
        let line = lines.recv_timeout(DEADLINE);
        let line = line.unwrap_or_else(|_| panic!("prometheus is not ready: {seen:#?}"));
        let entry: Value = serde_json::from_str(&line).unwrap_or_default();
        if entry["msg"] == "Listening on" {
            address = entry["address"].as_str().map(str::to_owned);
        }
        if entry["msg"] == "Server is ready to receive web requests." {
            return address.unwrap_or_else(|| panic!("prometheus has no address: {seen:#?}"));
        }
        seen.push(line);
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A query as it may stand in an address.
fn escaped(query: &str) -> String {
    let escape = |byte: u8| {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02x}")
        }
    };
    query.bytes().map(escape).collect()
}

/// What was recorded is what a query says.
fn check_values(prometheus: &Prometheus, address: &str) {
    prometheus.await_value("up", "1");
    for (query, expected) in [
        ("tripod_map_attempts_total{outcome=\"succeeded\"}", "3"),
        ("tripod_map_attempts_total{outcome=\"failed\"}", "1"),
        ("sum(tripod_map_attempts_total) by (job)", "4"),
        ("tripod_map_command_seconds_count", "4"),
        ("tripod_map_command_seconds_bucket{le=\"+Inf\"}", "4"),
        ("tripod_scheduler_running", "1"),
        ("tripod_scheduler_tasks_submitted_total{priority=\"normal\"}", "5"),
    ] {
        prometheus.await_value(query, expected);
    }
    let instance = format!("count(tripod_scheduler_running{{instance=\"{address}\"}})");
    prometheus.await_value(&instance, "1");
}

#[test]
fn prometheus_scrapes_openmetrics_by_default() {
    let run = HeldRun::start();
    if let Some(prometheus) = Prometheus::start(&run.address, &[]) {
        check_values(&prometheus, &run.address);
        // Only OpenMetrics has these: a family without `_total`, and the time of creation.
        assert_eq!(prometheus.types("tripod_map_attempts"), ["counter"]);
        let age = "time() - tripod_map_attempts_created{outcome=\"succeeded\"} < bool 600";
        prometheus.await_value(age, "1");
    }
    run.end();
}

#[test]
fn prometheus_with_native_histograms_scrapes_protobuf() {
    let run = HeldRun::start();
    let feature = "--enable-feature=native-histograms";
    if let Some(prometheus) = Prometheus::start(&run.address, &[feature]) {
        check_values(&prometheus, &run.address);
        assert_eq!(prometheus.types("tripod_map_attempts_total"), ["counter"]);
        let created = "absent(tripod_map_attempts_created)";
        prometheus.await_value(created, "1");
    }
    run.end();
}
