//! The metrics of a run, beside those of the scheduler and of memory.

use std::sync::Arc;

use tripod::MetricsCollector;
use tripod::metrics::{Counter, Family, Histogram};

use super::command::{Finished, Outcome};
use super::watch::Watch;

/// Upper bounds in seconds, from a millisecond to an hour.
const SECONDS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0];

/// Upper bounds in bytes: powers of four from 1 MiB to 64 GiB.
const BYTES: [f64; 9] = [
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
    17_179_869_184.0,
    68_719_476_736.0,
];

/// Counts what the commands of a run did.
#[derive(Debug)]
pub(crate) struct Telemetry {
    attempts: Family<Counter>,
    seconds: Histogram,
    peak_bytes: Histogram,
}

impl Telemetry {
    /// Registers the metrics with `metrics`.
    ///
    /// # Errors
    /// A phrase, if a name is taken: a bug.
    pub(crate) fn register(metrics: &MetricsCollector, watch: &Arc<Watch>) -> Result<Self, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let used = metrics.gauge(
            "tripod_map_memory_used_bytes",
            "Memory of all running commands, as of the last look.",
        );
        let watch = Arc::downgrade(watch);
        let used = used.register().map_err(|error| text(&error))?;
        used.observe(&[], move || Some(watch.upgrade()?.totals().used_bytes as f64))
            .map_err(|error| text(&error))?;
        let attempts = metrics
            .counter("tripod_map_attempts_total", "Commands that have ended, by how they ended.")
            .labels(["outcome"])
            .register()
            .map_err(|error| text(&error))?;
        let seconds = metrics
            .histogram("tripod_map_command_seconds", "How long commands ran.")
            .buckets(SECONDS)
            .register()
            .map_err(|error| text(&error))?;
        let peak_bytes = metrics
            .histogram(
                "tripod_map_command_peak_bytes",
                "Peak memory of commands, where it could be measured.",
            )
            .buckets(BYTES)
            .register()
            .map_err(|error| text(&error))?;
        Ok(Self { attempts, seconds: seconds.plain(), peak_bytes: peak_bytes.plain() })
    }

    /// Counts a command that has ended, to be run again or not.
    pub(crate) fn record(&self, finished: &Finished) {
        let outcome = match finished.outcome {
            _ if finished.outcome.is_success() => "succeeded",
            Outcome::Exited(_) => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::OutOfMemory => "out_of_memory",
            Outcome::Killed => "killed",
            Outcome::Starved(_) | Outcome::Error(_) => "error",
        };
        if let Ok(attempts) = self.attempts.with(&[outcome]) {
            attempts.inc();
        }
        self.seconds.observe(finished.wall_time.as_secs_f64());
        if let Some(bytes) = finished.memory_peak_bytes {
            self.peak_bytes.observe(bytes as f64);
        }
    }
}
