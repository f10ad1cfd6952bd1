//! Who records goes on, whatever a reader is in the midst of.

use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use tripod_metrics::MetricsCollector;

/// How long something that must not wait may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes a page, says so at its first piece, and then stands still until it is told to go on.
struct Stalled {
    reached: Sender<()>,
    go_on: Receiver<()>,
    page: String,
}

impl fmt::Write for Stalled {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.page.is_empty() {
            self.reached.send(()).unwrap();
            self.go_on.recv().unwrap();
        }
        self.page.push_str(piece);
        Ok(())
    }
}

#[test]
fn nothing_waits_for_a_reader_that_takes_its_page_slowly() {
    let metrics = MetricsCollector::new();
    let jobs = metrics.counter("jobs_total", "Jobs.").labels(["x"]).register().unwrap();
    let sizes = metrics.histogram("size", "Size.").labels(["x"]).register().unwrap();
    let waits = metrics.summary("wait", "Wait.").register().unwrap().plain();
    let held = jobs.with(&["held"]).unwrap();
    let (reached, is_reached) = channel();
    let (may_go_on, go_on) = channel();
    let mut out = Stalled { reached, go_on, page: String::new() };
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            metrics.write_text(&mut out).unwrap();
            out.page
        });
        is_reached.recv_timeout(PATIENCE).unwrap();
        let (done, is_done) = channel();
        let (metrics, jobs, sizes, waits, held) = (&metrics, &jobs, &sizes, &waits, &held);
        scope.spawn(move || {
            held.inc();
            waits.observe(0.5);
            jobs.inc(&["new"]).unwrap();
            sizes.observe(&["new"], 0.5).unwrap();
            metrics.gauge("late", "Late.").register().unwrap().plain().set(1.0);
            metrics.maintain();
            drop(held.clone());
            done.send(metrics.encode_openmetrics()).unwrap();
        });
        let other = is_done.recv_timeout(PATIENCE);
        may_go_on.send(()).unwrap();
        assert!(
            other.expect("a recorder waited for a reader").contains("jobs_total{x=\"new\"} 1\n")
        );
        assert!(reader.join().unwrap().contains("jobs_total{x=\"held\"}"));
    });
}
