//! The manager's numbers in a collector.
//!
//! Events are counted by the collector's own counters, which [`MemoryStats`](crate::MemoryStats) reads
//! too; bytes are read out of the ledger when they are exported. So each number has one home.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tripod_metrics::{
    Counter, Family, Gauge, Histogram, LabelError, MetricsCollector, RegisterError,
};

use crate::budget::Record;
use crate::engine::{Engine, Sums};

/// The counters, and the families that budgets are added to.
#[derive(Debug)]
pub(crate) struct Meter {
    acquires: Family<Counter>,
    pub(crate) refused: Counter,
    pub(crate) waits: Counter,
    collections: Histogram,
    collected_bytes: Counter,
    bytes: Family<Gauge>,
    peak_bytes: Family<Gauge>,
    budget_bytes: Family<Gauge>,
    budget_used_bytes: Family<Gauge>,
}

/// Why a collector did not take the manager's metrics.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeterError {
    /// A name is taken by something else.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A series is set by hand elsewhere.
    #[error(transparent)]
    Label(#[from] LabelError),
}

impl Meter {
    pub(crate) fn new(metrics: &MetricsCollector) -> Result<Self, MeterError> {
        let acquires = metrics
            .counter("tripod_memory_acquires_total", "Buffers asked for, by what came of it.")
            .labels(["result"])
            .register()?;
        let waits = metrics
            .counter(
                "tripod_memory_reservation_waits_total",
                "Requests for a reservation that had to wait in line.",
            )
            .register()?;
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            metrics.gauge(name, help).labels(labels.iter().copied()).register()
        };
        Ok(Self {
            refused: acquires.with(&["refused"])?,
            acquires,
            waits: waits.with(&[])?,
            collections: metrics
                .histogram(
                    "tripod_memory_collection_seconds",
                    "Time that one step of the collection of idle memory took.",
                )
                .buckets([1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2])
                .register()?
                .with(&[])?,
            collected_bytes: metrics
                .counter(
                    "tripod_memory_collected_bytes_total",
                    "Bytes given back to the system because they were idle for too long.",
                )
                .register()?
                .with(&[])?,
            bytes: gauge(
                "tripod_memory_bytes",
                "Bytes reserved, handed out as buffers, and idle in pools.",
                &["state"],
            )?,
            peak_bytes: gauge(
                "tripod_memory_peak_bytes",
                "The most bytes that were ever reserved, handed out and idle together.",
                &[],
            )?,
            budget_bytes: gauge(
                "tripod_memory_budget_bytes",
                "Limit of a budget in bytes; absent if unlimited.",
                &["budget"],
            )?,
            budget_used_bytes: gauge(
                "tripod_memory_budget_used_bytes",
                "Bytes reserved and handed out through a budget and those below it.",
                &["budget"],
            )?,
        })
    }

    /// Counts one collection.
    pub(crate) fn collected(&self, took: Duration, bytes: u64) {
        self.collections.observe(took.as_secs_f64());
        self.collected_bytes.add(bytes);
    }

    /// Lets the collector read the sums of `engine` for as long as it lives.
    pub(crate) fn watch_sums(&self, engine: &Arc<Engine>) -> Result<(), LabelError> {
        let count = |result: &str, read: fn(Sums) -> u64| {
            let engine = Arc::downgrade(engine);
            self.acquires.observe(&[result], move || Some(read(engine.upgrade()?.sums())))
        };
        count("hit", |sums| sums.acquires.saturating_sub(sums.misses))?;
        count("miss", |sums| sums.misses)?;
        let observe = |family: &Family<Gauge>, labels: &[&str], read: fn(Sums) -> u64| {
            let engine = Arc::downgrade(engine);
            family.observe(labels, move || Some(read(engine.upgrade()?.sums()) as f64))
        };
        observe(&self.bytes, &["reserved"], |sums| sums.reserved)?;
        observe(&self.bytes, &["used"], |sums| sums.used)?;
        observe(&self.bytes, &["idle"], |sums| sums.idle)?;
        observe(&self.peak_bytes, &[], |sums| sums.peak)
    }

    /// Lets the collector read the budget of `record`. A second call replaces the first.
    pub(crate) fn watch_budget(
        &self,
        engine: &Arc<Engine>,
        record: &Arc<Record>,
    ) -> Result<(), LabelError> {
        let (alive, limit_bytes) = (Arc::downgrade(engine), record.limit_bytes);
        self.budget_bytes.observe(&[&record.path], move || {
            (alive.strong_count() > 0 && limit_bytes < u64::MAX).then_some(limit_bytes as f64)
        })?;
        let (engine, node): (Weak<Engine>, _) = (Arc::downgrade(engine), record.node);
        self.budget_used_bytes
            .observe(&[&record.path], move || Some(engine.upgrade()?.node_bytes(node).0 as f64))
    }
}
