//! A real Prometheus for the tests, where one is installed.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A server that listens on 127.0.0.1, with its data in a temporary directory; both end with it.
#[derive(Debug)]
pub(crate) struct Prometheus {
    child: Child,
    directory: PathBuf,
    pub(crate) port: u16,
}

impl Prometheus {
    /// Starts one that scrapes `target`, if given; `None` if it is not installed, which is an error
    /// under `CI`.
    pub(crate) fn start(name: &str, target: Option<u16>) -> Option<Self> {
        // The port may be taken between the look and the start; then the test fails, and says so.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory =
            std::env::temp_dir().join(format!("tripod-{name}-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let config = directory.join("prometheus.yml");
        std::fs::write(&config, configuration(target)).unwrap();
        let command = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--enable-feature=native-histograms,exemplar-storage")
            .arg("--web.enable-remote-write-receiver")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match command {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "prometheus is not installed (CI is set)"
                );
                eprintln!("skipped: prometheus is not installed");
                return None;
            }
            command => command.expect("prometheus starts"),
        };
        let log = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (sender, ready) = channel();
        // Reads to the end, so that the server never waits for room in the pipe.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let server = Self { child, directory, port };
        wait_until_ready(&ready);
        Some(server)
    }

    /// What `promtool query instant` says, line by line, sorted.
    pub(crate) fn query(&self, expression: &str) -> Vec<String> {
        let output = Command::new("promtool")
            .args(["query", "instant", &format!("http://127.0.0.1:{}", self.port), expression])
            .output()
            .expect("promtool comes with prometheus");
        assert!(output.status.success(), "{expression}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter(|line| !line.is_empty()).map(str::to_owned);
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        lines
    }

    /// The single value of an expression.
    pub(crate) fn value(&self, expression: &str) -> f64 {
        let lines = self.query(expression);
        assert_eq!(lines.len(), 1, "{expression}: {lines:?}");
        let (_, tail) = lines[0].rsplit_once("=> ").expect("a value");
        let (value, _) = tail.split_once(" @[").expect("a time");
        value.parse().unwrap_or_else(|_| panic!("{expression}: {lines:?}"))
    }

    /// The body that a path of the API answers with.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn configuration(target: Option<u16>) -> String {
    let mut text = "global:\n  scrape_interval: 1s\n".to_owned();
    if let Some(port) = target {
        text += &format!(
            "scrape_configs:\n- job_name: test\n  static_configs:\n  \
             - targets: ['127.0.0.1:{port}']\n"
        );
    }
    text
}

fn wait_until_ready(log: &Receiver<String>) {
    let mut seen = Vec::new();
    loop {
        match log.recv_timeout(Duration::from_secs(60)) {
            Ok(line) if line.contains("Server is ready to receive web requests") => return,
            Ok(line) => seen.push(line),
            Err(error) => panic!("prometheus did not start ({error}):\n{}", seen.join("\n")),
        }
    }
}

/// One request that came in.
#[derive(Debug)]
pub(crate) struct Request {
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Answers every request with what `answer` makes of it (status line and headers without an empty
/// line, and body), one connection a request. Ends with the process.
pub(crate) fn serve(
    answer: impl Fn(&Request) -> (String, Vec<u8>) + Send + 'static,
) -> (u16, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let Ok(request) = read_request(&stream) else {
                continue;
            };
            let (head, body) = answer(&request);
            let length = body.len();
            let head = format!("{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = (&stream).write_all(&[head.as_bytes(), &body].concat());
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    (port, requests)
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    let mut request = Request { head, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |value| value.parse().unwrap());
    request.body = vec![0; length];
    reader.read_exact(&mut request.body)?;
    Ok(request)
}
