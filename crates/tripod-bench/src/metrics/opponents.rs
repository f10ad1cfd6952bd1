//! The other projects, one file each: how a user of it records, and how what it holds is read.

pub(super) mod measured;
pub(super) mod metrics_exporter;
pub(super) mod opentelemetry;
pub(super) mod prometheus;
pub(super) mod prometheus_client;
