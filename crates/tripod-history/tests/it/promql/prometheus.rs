//! A real Prometheus: started on a free port with an empty directory, written to by its
//! remote-write protocol (the only one that carries stale markers), and asked over HTTP.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tripod_history::SeriesPoints;

use super::client::Client;
use super::compare::Answer;
use super::grammar::Query;

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Prometheus {
    child: Child,
    pub(crate) client: Client,
    directory: PathBuf,
}

impl Prometheus {
    /// Starts one, or says why not and returns `None` if the program is missing and `CI` is unset.
    pub(crate) fn start() -> Option<Self> {
        let directory = unique_directory();
        std::fs::create_dir_all(&directory).expect("a directory for the data");
        let config = directory.join("prometheus.yml");
        std::fs::write(&config, "global: {}\n").expect("a configuration");
        let port = free_port();
        let spawned = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-remote-write-receiver", "--storage.tsdb.retention.time=100y"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "prometheus is missing: {error}");
                eprintln!("skipped: prometheus cannot be started: {error}");
                return None;
            }
        };
        let mut started = Self { child, client: Client { port }, directory };
        started.wait_until_ready();
        Some(started)
    }

    /// Reads the log until it says that the server is ready.
    fn wait_until_ready(&mut self) {
        let log = BufReader::new(self.child.stderr.take().expect("a pipe"));
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            // Goes on to read when nobody listens any more, so that the pipe never fills.
            for line in log.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut seen = Vec::new();
        while let Ok(line) = receiver.recv_timeout(START_MAX) {
            if line.contains("Server is ready to receive web requests") {
                return;
            }
            seen.push(line);
        }
        panic!("prometheus did not start:\n{}", seen.join("\n"));
    }

    /// Writes all samples at once.
    pub(crate) fn write(&self, series: &[SeriesPoints]) {
        // In the order of their labels, which then is the order in which its head returns them.
        let mut sorted: Vec<&SeriesPoints> = series.iter().collect();
        sorted.sort_by(|a, b| a.labels.cmp(&b.labels));
        let body = uncompressed_snappy(&write_request(&sorted));
        let headers = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n\
                       X-Prometheus-Remote-Write-Version: 0.1.0\r\n";
        let reply = self.client.request("POST", "/api/v1/write", headers, &body);
        assert_eq!(reply.status, 204, "remote write: {}", reply.body);
    }

    /// Asks a query; the error is what Prometheus says.
    pub(crate) fn ask(&self, query: &Query) -> Result<Answer, String> {
        let reply = match query {
            Query::Instant { text, time_ms } => {
                self.client.form("/api/v1/query", &[("query", text), ("time", &seconds(*time_ms))])
            }
            Query::Range { text, start_ms, end_ms, step_ms } => self.client.form(
                "/api/v1/query_range",
                &[
                    ("query", text),
                    ("start", &seconds(*start_ms)),
                    ("end", &seconds(*end_ms)),
                    ("step", &seconds(*step_ms)),
                ],
            ),
        };
        let json: Value = serde_json::from_str(&reply.body).expect("JSON");
        if json["status"] == "success" {
            return Ok(Answer::from_json(&json["data"]));
        }
        let text = |field: &str| json[field].as_str().unwrap_or_default();
        Err(format!("{}: {}", text("errorType"), text("error")))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn unique_directory() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("tripod-promql-{}-{number}", std::process::id()))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// The protobuf message `prometheus.WriteRequest`.
fn write_request(series: &[&SeriesPoints]) -> Vec<u8> {
    let mut request = Vec::new();
    for SeriesPoints { labels, points } in series {
        let mut message = Vec::new();
        for (name, value) in labels.iter() {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut message, 1, &label);
        }
        for point in points {
            let mut sample = vec![1 << 3 | 1];
            sample.extend(point.value.to_le_bytes());
            sample.push(2 << 3);
            varint(&mut sample, point.time_ms as u64);
            field(&mut message, 2, &sample);
        }
        field(&mut request, 1, &message);
    }
    request
}

/// A field of bytes.
fn field(into: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    into.push(number << 3 | 2);
    varint(into, bytes.len() as u64);
    into.extend(bytes);
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// A snappy block of literals only, which is what a sender that compresses nothing may send.
fn uncompressed_snappy(bytes: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    varint(&mut block, bytes.len() as u64);
    for chunk in bytes.chunks(1 << 16) {
        // Tag 61: a literal whose length less one follows in two bytes.
        block.push(61 << 2);
        block.extend(((chunk.len() - 1) as u16).to_le_bytes());
        block.extend(chunk);
    }
    block
}
