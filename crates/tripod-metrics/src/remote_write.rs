//! Push by Prometheus remote-write 1.0
//! (<https://prometheus.io/docs/specs/prw/remote_write_spec/>): protobuf `WriteRequest`s, compressed as
//! a Snappy block.
//!
//! Series get the names that the text page shows; histograms with exponential buckets go as native
//! ones, at most 160 buckets each. Numbers are doubles here, so whole ones above 2^53 are rounded.
//! A series that is in a snapshot no more is marked stale, so that queries stop to see it at once.
//! Where it stops: no metadata and no created times, for which version 1.0 has no place of their own.
//!
//! # Examples
//! ```no_run
//! use std::time::Instant;
//! use tripod_metrics::push::{HttpTransport, QueueLimits, Step};
//! use tripod_metrics::remote_write::RemoteWriter;
//! # let metrics = tripod_metrics::MetricsCollector::new();
//!
//! let url = "http://127.0.0.1:9090/api/v1/write";
//! let mut writer = RemoteWriter::new(url, QueueLimits::default(), HttpTransport::default());
//! writer.push(&metrics.snapshot()); // every few seconds
//! while let Step::Delivered | Step::Rejected { .. } = writer.step(Instant::now()) {}
//! ```

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use crate::protobuf::NATIVE_BUCKETS_MAX;
use crate::push::{Pusher, QueueLimits, RetryQueue, Step, Transport};
use crate::samples::{self, Sample};
use crate::snapshot::spans;
use crate::snapshot::{Exemplar, ExponentialSnapshot, SeriesSnapshot, Snapshot, Value};
use crate::wire::{self, Message, unix_ms};

/// The most series of one request, as Prometheus itself sends them.
pub const SERIES_PER_REQUEST_MAX: usize = 2000;

/// The headers that each request needs.
pub const HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];

/// A NaN that is a value.
const NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// The NaN that ends a series, and must mean nothing else.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Sends snapshots to a receiver of remote-write.
///
/// Answers 429 and 5xx, and none at all, lead to another try; any other error drops the request, as
/// the specification asks. Requests are sent in order, so a receiver sees no sample out of order.
#[derive(Debug)]
pub struct RemoteWriter<T> {
    pusher: Pusher<T>,
    sent: Sent,
}

impl<T: Transport> RemoteWriter<T> {
    /// Creates one that writes to `url`, such as `http://127.0.0.1:9090/api/v1/write`.
    #[must_use]
    pub fn new(url: impl Into<String>, limits: QueueLimits, transport: T) -> Self {
        let headers = HEADERS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let is_retryable = |status| status == 429 || (500..600).contains(&status);
        let pusher = Pusher::new(url, headers, is_retryable, limits, transport);
        Self { pusher, sent: Sent::default() }
    }

    /// Adds a header to all requests, such as `Authorization`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.pusher.add_header(name, value);
        self
    }

    /// Queues the requests for a snapshot; where the queue is full, the oldest are dropped.
    ///
    /// Keeps the labels of its series, about as many bytes as the text page has for them, to mark
    /// those that are missing next time.
    pub fn push(&mut self, snapshot: &Snapshot) {
        let mut batches = Batches::new(snapshot.time, std::mem::take(&mut self.sent));
        batches.add_all(snapshot);
        self.queue_requests(batches);
    }

    /// Queues marks that all series sent so far have ended, for a process that is about to.
    pub fn end(&mut self, time: SystemTime) {
        let batches = Batches::new(time, std::mem::take(&mut self.sent));
        self.queue_requests(batches);
    }

    fn queue_requests(&mut self, mut batches: Batches) {
        batches.mark_ended();
        let (bodies, sent) = batches.finish();
        self.sent = sent;
        bodies.into_iter().for_each(|body| self.pusher.push(body));
    }

    /// Sends at most one request and waits for the answer; see [`Pusher::step`].
    pub fn step(&mut self, now: Instant) -> Step {
        self.pusher.step(now)
    }

    /// What waits, and what became of the rest.
    #[must_use]
    pub fn queue(&self) -> &RetryQueue {
        self.pusher.queue()
    }
}

/// Encodes a snapshot as the bodies of requests of at most [`SERIES_PER_REQUEST_MAX`] series.
#[must_use]
pub fn encode(snapshot: &Snapshot) -> Vec<Vec<u8>> {
    let mut batches = Batches::new(snapshot.time, Sent::default());
    batches.add_all(snapshot);
    batches.finish().0
}

/// The series of the last snapshot, by their encoded labels.
#[derive(Debug, Default)]
struct Sent {
    /// With the round that last had the series.
    rounds: HashMap<Box<[u8]>, u64>,
    round: u64,
}

/// Series that are written one by one, cut into requests.
#[derive(Debug)]
struct Batches {
    time_ms: i64,
    sent: Sent,
    labels: Vec<u8>,
    series_count: usize,
    current: Vec<u8>,
    bodies: Vec<Vec<u8>>,
}

impl Batches {
    fn new(time: SystemTime, mut sent: Sent) -> Self {
        sent.round += 1;
        Self {
            time_ms: unix_ms(time),
            sent,
            labels: Vec::new(),
            series_count: 0,
            current: Vec::new(),
            bodies: Vec::new(),
        }
    }

    fn add_all(&mut self, snapshot: &Snapshot) {
        for family in &snapshot.families {
            for series in &family.series {
                write_series(self, &family.name, series);
            }
        }
    }

    fn add(&mut self, labels: &[(&str, &str)], write_rest: impl FnOnce(&mut Message<'_>)) {
        let mut encoded = std::mem::take(&mut self.labels);
        encoded.clear();
        wire::put(&mut encoded, |series| write_labels(series, labels));
        match self.sent.rounds.get_mut(&*encoded) {
            Some(round) => *round = self.sent.round,
            None => {
                self.sent.rounds.insert(encoded.as_slice().into(), self.sent.round);
            }
        }
        self.add_encoded(&encoded, write_rest);
        self.labels = encoded;
    }

    fn add_encoded(&mut self, labels: &[u8], write_rest: impl FnOnce(&mut Message<'_>)) {
        if self.series_count == SERIES_PER_REQUEST_MAX {
            self.cut();
        }
        self.series_count += 1;
        // A request is its fields one after the other, so they can be written apart.
        wire::put(&mut self.current, |request| {
            request.message(1, |series| {
                series.fields(labels);
                write_rest(series);
            });
        });
    }

    /// Ends the series that were there in the round before and are not in this one.
    fn mark_ended(&mut self) {
        let round = self.sent.round;
        let ended = self.sent.rounds.extract_if(|_, last| *last != round);
        let ended: Vec<Box<[u8]>> = ended.map(|(labels, _)| labels).collect();
        let time_ms = self.time_ms;
        for labels in ended {
            self.add_encoded(&labels, |series| {
                write_sample(series, f64::from_bits(STALE_BITS), time_ms);
            });
        }
    }

    fn cut(&mut self) {
        self.series_count = 0;
        let request = std::mem::take(&mut self.current);
        let body = snap::raw::Encoder::new().compress_vec(&request);
        // It fails only beyond 4 GiB, which labels of 2,000 series would have to fill.
        self.bodies.extend(body.ok());
    }

    fn finish(mut self) -> (Vec<Vec<u8>>, Sent) {
        if self.series_count > 0 {
            self.cut();
        }
        (self.bodies, self.sent)
    }
}

fn write_series(batches: &mut Batches, name: &str, series: &SeriesSnapshot) {
    let time_ms = batches.time_ms;
    if let Value::Exponential(histogram) = &series.value {
        let labels = sorted(pairs(&series.labels).chain([("__name__", name)]));
        let histogram = histogram.clone().reduce_to(NATIVE_BUCKETS_MAX);
        batches.add(&labels, |series| {
            write_exemplars(series, &histogram.exemplars);
            series.message(4, |message| write_native(message, &histogram, time_ms));
        });
        return;
    }
    let mut bucket_index = 0;
    samples::for_each(&series.value, |sample| {
        let Sample { suffix, extra, number } = sample;
        let full_name = format!("{name}{suffix}");
        let named = extra.into_iter().chain([("__name__", full_name.as_str())]);
        let labels = sorted(pairs(&series.labels).chain(named));
        let exemplar = exemplar_of(&series.value, suffix, &mut bucket_index);
        batches.add(&labels, |series| {
            write_sample(series, without_meaning(number.as_f64()), time_ms);
            write_exemplars(series, exemplar);
        });
    });
}

/// The exemplar of the bucket whose turn it is, if the sample is one.
fn exemplar_of<'a>(
    value: &'a Value,
    suffix: &str,
    bucket_index: &mut usize,
) -> Option<&'a Exemplar> {
    let Value::Histogram(histogram) = value else {
        return None;
    };
    let index = *bucket_index;
    *bucket_index += 1;
    let mut exemplars = histogram.exemplars.iter();
    let found = exemplars.find(|(bucket, _)| suffix == "_bucket" && *bucket == index);
    found.map(|(_, exemplar)| exemplar)
}

fn pairs(labels: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// In the order of the names, as the receiver asks.
fn sorted<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(&'a str, &'a str)> {
    let mut labels: Vec<_> = labels.collect();
    labels.sort_unstable();
    labels
}

fn write_labels(message: &mut Message<'_>, labels: &[(&str, &str)]) {
    for (name, value) in labels {
        message.message(1, |message| {
            message.text(1, name);
            message.text(2, value);
        });
    }
}

fn write_sample(series: &mut Message<'_>, value: f64, time_ms: i64) {
    series.message(2, |message| {
        message.double(1, value);
        message.int(2, time_ms);
    });
}

fn write_exemplars<'a>(
    series: &mut Message<'_>,
    exemplars: impl IntoIterator<Item = &'a Exemplar>,
) {
    for exemplar in exemplars {
        let labels = sorted(pairs(&exemplar.labels));
        series.message(3, |message| {
            write_labels(message, &labels);
            message.double(2, without_meaning(exemplar.value));
            message.int(3, unix_ms(exemplar.time));
        });
    }
}

fn write_native(message: &mut Message<'_>, histogram: &ExponentialSnapshot, time_ms: i64) {
    message.uint(1, histogram.count);
    message.double(3, without_meaning(histogram.sum));
    message.sint(4, histogram.schema.into());
    message.double(5, histogram.zero_threshold);
    message.uint(6, histogram.zero_count);
    for (field, buckets) in [(8, &histogram.negative), (11, &histogram.positive)] {
        let spans = spans(buckets);
        for (offset, length) in &spans.spans {
            message.message(field, |message| {
                message.sint(1, (*offset).into());
                message.uint(2, (*length).into());
            });
        }
        message.packed_sint(field + 1, &spans.deltas);
    }
    message.int(15, time_ms);
}

fn without_meaning(value: f64) -> f64 {
    if value.is_nan() { f64::from_bits(NAN_BITS) } else { value }
}

#[cfg(test)]
mod tests;
