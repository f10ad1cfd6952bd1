//! The thread that tells a collector the time.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::collector::MetricsCollector;

/// Describes a [`Sampler`] before it is started.
#[derive(Debug)]
#[must_use = "a sampler does nothing until it is started"]
pub struct SamplerBuilder {
    collector: MetricsCollector,
    interval: Duration,
}

/// A thread that maintains a collector at a fixed interval, until it is dropped.
#[derive(Debug)]
pub struct Sampler {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SamplerBuilder {
    pub(crate) fn new(collector: MetricsCollector) -> Self {
        Self { collector, interval: Duration::from_secs(1) }
    }

    /// Sets how often; default: every second.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub fn start(self) -> io::Result<Sampler> {
        let (stop, stopped) = channel();
        let Self { collector, interval } = self;
        let run = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                collector.maintain();
            }
        };
        let thread = std::thread::Builder::new().name("metrics-sampler".to_owned()).spawn(run)?;
        Ok(Sampler { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
