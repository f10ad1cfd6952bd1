//! The judgement of `promtool check metrics`, where it is installed.

use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use tripod_metrics::MetricsCollector;

/// Runs promtool on a page; `None` if it is not installed, which is an error under `CI`.
pub(crate) fn promtool(page: &str) -> Option<Output> {
    let command = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match command {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "promtool is not installed (CI is set)");
            eprintln!("skipped: promtool is not installed");
            return None;
        }
        command => command.expect("promtool starts"),
    };
    // The end of input is the drop of `stdin`; promtool writes nothing before it.
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(page.as_bytes()).expect("promtool reads the page");
    drop(stdin);
    Some(child.wait_with_output().expect("promtool ends"))
}

/// Fails if promtool has anything to say about a page.
pub(crate) fn assert_clean(page: &str) {
    let Some(output) = promtool(page) else {
        return;
    };
    assert!(output.status.success(), "{output:?}\n{page}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}\n{page}");
}

#[test]
fn promtool_finds_nothing_to_say_about_a_page_with_everything() {
    let nasty =
        "quotes \" and \\ and \\n and \n\n, {braces=\"x\"} # \t\r é 漢 \u{1F600} \u{10ffff}";
    let metrics = MetricsCollector::builder().constant_label("zone", nasty).build().unwrap();
    let jobs = metrics.counter("jobs_total", nasty).labels(["x", "y"]).register().unwrap();
    let open = metrics.gauge("open", nasty).labels(["x"]).register().unwrap();
    let seconds = metrics.histogram("run_seconds", nasty).labels(["x"]).register().unwrap();
    jobs.with(&["ab", "c"]).unwrap().add(u64::MAX);
    jobs.with(&["a", "bc"]).unwrap().add((1 << 53) + 1);
    for value in ["", nasty, "\\", "\"", "\n", "\\\"", "\\n"] {
        jobs.with(&[value, nasty]).unwrap().inc();
        open.with(&[value]).unwrap().set(f64::MIN_POSITIVE);
        seconds.with(&[value]).unwrap().observe(f64::INFINITY);
        seconds.with(&[value]).unwrap().observe(0.005);
    }
    open.observe(&["observed"], || Some(f64::NAN)).unwrap();
    open.with(&["large"]).unwrap().set(-1e300);

    assert_clean(&metrics.encode_text());
}

#[test]
fn promtool_would_have_found_something() {
    let Some(output) =
        promtool("# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"\\q\"} 1\n")
    else {
        return;
    };
    assert!(!output.status.success(), "{output:?}");
}
