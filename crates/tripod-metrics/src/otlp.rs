//! Push by OTLP over HTTP, with protobuf bodies (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! Counters go as cumulative monotonic sums, gauges as gauges, histograms with classic buckets as
//! histograms with explicit bounds, those with exponential buckets as exponential histograms, summaries
//! as summaries. Names stay as registered, so that a number can be followed from the page to the
//! backend; units become those of UCUM where there is one (`seconds` becomes `s`).
//!
//! Where it stops: no gRPC, no delta temporality; what a receiver says of points that it took only in
//! part is not read. Why this is not the `opentelemetry-otlp` crate is told in
//! `docs/design/metrics-push.md`.
//!
//! # Examples
//! ```no_run
//! use std::time::Instant;
//! use tripod_metrics::otlp::OtlpPusher;
//! use tripod_metrics::push::{HttpTransport, QueueLimits, Step};
//! # let metrics = tripod_metrics::MetricsCollector::new();
//!
//! let url = "http://127.0.0.1:4318/v1/metrics";
//! let resource = [("service.name", "mail"), ("service.instance.id", "mail-1")];
//! let mut pusher =
//!     OtlpPusher::new(url, resource, QueueLimits::default(), HttpTransport::default());
//! pusher.push(&metrics.snapshot()); // every few seconds
//! while let Step::Delivered | Step::Rejected { .. } = pusher.step(Instant::now()) {}
//! ```

mod points;
#[cfg(test)]
mod tests;

use std::time::Instant;

use crate::push::{Pusher, QueueLimits, RetryQueue, Step, Transport};
use crate::snapshot::{FamilySnapshot, SeriesSnapshot, Snapshot, Value};
use crate::wire::{self, Message, unix_nanos};

/// The most series of one request.
pub const SERIES_PER_REQUEST_MAX: usize = 2000;

/// The most buckets of one sign in an exponential histogram, empty ones between others included; one
/// with more is sent at a lower resolution.
pub const EXPONENTIAL_BUCKETS_MAX: i32 = 160;

/// The header that each request needs.
pub const HEADERS: [(&str, &str); 1] = [("Content-Type", "application/x-protobuf")];

/// Of counts since the start, not since the last report.
const TEMPORALITY_CUMULATIVE: u64 = 2;

/// Sends snapshots to a receiver of OTLP.
///
/// Answers 429, 502, 503 and 504, and none at all, lead to another try; any other error drops the
/// request, as the specification asks.
#[derive(Debug)]
pub struct OtlpPusher<T> {
    resource: Vec<(String, String)>,
    pusher: Pusher<T>,
}

impl<T: Transport> OtlpPusher<T> {
    /// Creates one that posts to `url`, such as `http://127.0.0.1:4318/v1/metrics`.
    ///
    /// `resource` says who is measured; it should have `service.name`, and `service.instance.id`
    /// where several processes have the same name.
    #[must_use]
    pub fn new<'a>(
        url: impl Into<String>,
        resource: impl IntoIterator<Item = (&'a str, &'a str)>,
        limits: QueueLimits,
        transport: T,
    ) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let is_retryable = |status| matches!(status, 429 | 502 | 503 | 504);
        let headers = HEADERS.map(owned).to_vec();
        Self {
            resource: resource.into_iter().map(owned).collect(),
            pusher: Pusher::new(url, headers, is_retryable, limits, transport),
        }
    }

    /// Adds a header to all requests, such as `Authorization`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.pusher.add_header(name, value);
        self
    }

    /// Queues the requests for a snapshot; where the queue is full, the oldest are dropped.
    pub fn push(&mut self, snapshot: &Snapshot) {
        let bodies = encode(snapshot, &self.resource);
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

/// Encodes a snapshot as `ExportMetricsServiceRequest`s of at most [`SERIES_PER_REQUEST_MAX`] series,
/// with the attributes of the resource, names with values.
#[must_use]
pub fn encode(snapshot: &Snapshot, resource: &[(String, String)]) -> Vec<Vec<u8>> {
    let time_nanos = unix_nanos(snapshot.time) as u64;
    let encode_request = |metrics: Vec<Metric<'_>>| {
        let mut body = Vec::new();
        wire::put(&mut body, |request| {
            request.message(1, |message| {
                write_resource_metrics(message, resource, &metrics, time_nanos)
            });
        });
        body
    };
    cut_into_requests(snapshot).into_iter().map(encode_request).collect()
}

/// Series of one family whose values have one shape; never none.
struct Metric<'a> {
    family: &'a FamilySnapshot,
    series: &'a [SeriesSnapshot],
}

fn cut_into_requests(snapshot: &Snapshot) -> Vec<Vec<Metric<'_>>> {
    let mut requests = Vec::new();
    let mut room = 0;
    for family in &snapshot.families {
        for mut rest in family.series.chunk_by(|a, b| shape(&a.value) == shape(&b.value)) {
            while !rest.is_empty() {
                if room == 0 {
                    requests.push(Vec::new());
                    room = SERIES_PER_REQUEST_MAX;
                }
                let (series, later) = rest.split_at(room.min(rest.len()));
                room -= series.len();
                rest = later;
                if let Some(request) = requests.last_mut() {
                    request.push(Metric { family, series });
                }
            }
        }
    }
    requests
}

/// The field of a `Metric` message in which such values stand.
fn shape(value: &Value) -> u32 {
    match value {
        Value::Gauge(_) => 5,
        Value::Counter(_) | Value::FloatCounter(_) => 7,
        Value::Histogram(_) => 9,
        Value::Exponential(_) => 10,
        Value::Summary(_) => 11,
    }
}

fn write_resource_metrics(
    message: &mut Message<'_>,
    resource: &[(String, String)],
    metrics: &[Metric<'_>],
    time_nanos: u64,
) {
    message.message(1, |message| write_attributes(message, 1, resource));
    message.message(2, |message| {
        message.message(1, |scope| {
            scope.text(1, env!("CARGO_PKG_NAME"));
            scope.text(2, env!("CARGO_PKG_VERSION"));
        });
        for metric in metrics {
            message.message(2, |message| write_metric(message, metric, time_nanos));
        }
    });
}

fn write_metric(message: &mut Message<'_>, metric: &Metric<'_>, time_nanos: u64) {
    let Metric { family, series } = metric;
    message.text(1, &family.name);
    message.text(2, &family.help);
    message.text(3, family.unit.as_deref().map_or("", ucum));
    let shape = shape(&series[0].value);
    message.message(shape, |message| {
        for one in *series {
            message.message(1, |point| points::write(point, one, time_nanos));
        }
        if matches!(shape, 7 | 9 | 10) {
            message.uint(2, TEMPORALITY_CUMULATIVE);
        }
        if shape == 7 {
            message.uint(3, 1); // Monotonic.
        }
    });
}

fn write_attributes(message: &mut Message<'_>, field: u32, attributes: &[(String, String)]) {
    for (name, value) in attributes {
        message.message(field, |message| {
            message.text(1, name);
            message.message(2, |message| message.text(1, value));
        });
    }
}

/// The unit as the Unified Code for Units of Measure has it, or as it is.
fn ucum(unit: &str) -> &str {
    match unit {
        "seconds" => "s",
        "bytes" => "By",
        "ratio" => "1",
        "celsius" => "Cel",
        "meters" => "m",
        "volts" => "V",
        "amperes" => "A",
        "joules" => "J",
        "grams" => "g",
        other => other,
    }
}
