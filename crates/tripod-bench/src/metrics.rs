//! Subject `metrics`: `tripod-metrics` against the metrics crates of the ecosystem.
//!
//! What is measured is the processor time of the threads that record, per operation; they have a
//! processor each. All contenders of a row take turns, and after each turn the metric is read: who
//! did not record every operation ends the comparison. Handles, label values and results go through
//! `black_box`, and label values and observations are made before the clock starts.
//!
//! The bars are ratios to the best opponent of the same run, and a few absolute figures.

use std::io::Write;
use std::time::Duration;

use clap::Args;

use crate::bar::Bar;
use crate::error::BenchError;
use crate::row::{self, Limit, Row, Unit};
use crate::{cpu, machine};
use opponents::{measured, metrics_exporter, opentelemetry, prometheus, prometheus_client};
use page::MakePage;

mod allocator;
mod floors;
mod history;
mod opponents;
mod page;
mod scrape;
mod stream;
mod tripod;
mod workload;

/// Compares `tripod-metrics` with prometheus, prometheus-client, metrics, measured and
/// opentelemetry_sdk.
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Fewer and shorter rounds, for trying out: no basis for a claim
    #[arg(long)]
    pub(crate) quick: bool,
}

/// How much is measured.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Amount {
    of_row: row::Amount,
    page_series: usize,
}

impl Amount {
    fn of(args: &MetricsArgs) -> Self {
        if args.quick {
            let of_row = row::Amount { rounds: 3, burst: Duration::from_millis(3) };
            Self { of_row, page_series: 20_000 }
        } else {
            let of_row = row::Amount { rounds: 9, burst: Duration::from_millis(30) };
            Self { of_row, page_series: 100_000 }
        }
    }
}

/// Measures row by row, writes a table of each and returns the bars.
///
/// # Errors
/// If a contender did not do the work of the others, or nothing can be written.
pub(crate) fn run(args: &MetricsArgs, out: &mut impl Write) -> Result<Vec<Bar>, BenchError> {
    let amount = Amount::of(args);
    let caution = if args.quick { "caution   a quick run, no basis for a claim\n" } else { "" };
    let (machine, precedence) = (machine::describe(), cpu::precedence());
    print(out, &format!("{machine}tools     {VERSIONS}\nthreads   {precedence}\n{caution}\n"))?;
    let mut bars = Vec::new();
    let mut add = |out: &mut _, (text, own): (String, Vec<Bar>)| {
        bars.extend(own);
        print(out, &text)
    };
    for row in rows() {
        add(out, row().measure(amount.of_row)?)?;
    }
    let made = page::make(&pages(), amount.page_series)?;
    let further_thread_bytes = tripod::further_thread_bytes(amount.page_series);
    add(out, page::measure(&made, &amount, further_thread_bytes)?)?;
    add(out, scrape::measure(&made, &amount)?)?;
    add(out, history::measure()?)?;
    add(out, stream::measure()?)?;
    Ok(bars)
}

/// As Cargo.lock has them; the lock file stands behind each record by its commit.
const VERSIONS: &str = "prometheus 0.14, prometheus-client 0.26, metrics 0.24 with \
     metrics-exporter-prometheus 0.18,\n          measured 0.0.25, opentelemetry_sdk 0.33 with \
     opentelemetry-prometheus 0.33";

fn print(out: &mut impl Write, text: &str) -> Result<(), BenchError> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(BenchError::Output)
}

/// Each is made when its turn comes, so that none lies in the caches of another.
fn rows() -> [fn() -> Row; 6] {
    [counter, typed_labels, text_labels, histogram, summary, timer]
}

fn counter() -> Row {
    Row {
        title: "counter inc",
        threads: &[1, 2],
        contenders: vec![
            tripod::counter(),
            prometheus::counter(),
            prometheus_client::counter(),
            metrics_exporter::counter(),
            measured::counter(),
            opentelemetry::counter(),
            opentelemetry::bound_counter(),
            floors::atomic(),
            floors::own_cell(),
        ],
        unit: Unit::CPU_NANOS,
        limits: vec![
            Limit::Figure { threads: 1, at_most: 1.2 },
            Limit::OfBest { threads: 1, at_most: 0.25 },
            Limit::OfBest { threads: 2, at_most: 0.10 },
        ],
    }
}

fn typed_labels() -> Row {
    Row {
        title: "counter inc, 2 typed labels looked up",
        threads: &[1, 2],
        contenders: vec![
            tripod::typed_labels(),
            prometheus::labels(),
            prometheus_client::typed_labels(),
            metrics_exporter::static_labels(),
            measured::typed_labels(),
            opentelemetry::static_labels(),
            floors::label_values(),
        ],
        unit: Unit::CPU_NANOS,
        limits: vec![Limit::OfBest { threads: 1, at_most: 0.10 }],
    }
}

fn text_labels() -> Row {
    Row {
        title: "counter inc, 2 string labels looked up",
        threads: &[1, 2],
        contenders: vec![
            tripod::text_labels(),
            prometheus::labels(),
            prometheus_client::text_labels(),
            metrics_exporter::text_labels(),
            measured::text_labels(),
            opentelemetry::text_labels(),
            floors::label_values(),
        ],
        unit: Unit::CPU_NANOS,
        limits: vec![Limit::OfBest { threads: 1, at_most: 0.35 }],
    }
}

fn histogram() -> Row {
    Row {
        title: "histogram observe, 12 buckets",
        threads: &[1, 2],
        contenders: vec![
            tripod::histogram(),
            prometheus::histogram(),
            prometheus_client::histogram(),
            metrics_exporter::histogram(),
            measured::histogram(),
            opentelemetry::histogram(),
            opentelemetry::bound_histogram(),
            floors::observations(),
        ],
        unit: Unit::CPU_NANOS,
        limits: vec![
            Limit::OfBest { threads: 1, at_most: 0.30 },
            Limit::OfBest { threads: 2, at_most: 0.15 },
        ],
    }
}

/// Of the opponents, only `metrics` has summaries.
fn summary() -> Row {
    Row {
        title: "summary observe",
        threads: &[1, 2],
        contenders: vec![tripod::summary(), metrics_exporter::summary(), floors::observations()],
        unit: Unit::CPU_NANOS,
        limits: vec![
            Limit::OfBest { threads: 1, at_most: 0.20 },
            Limit::OfBest { threads: 2, at_most: 0.06 },
        ],
    }
}

fn timer() -> Row {
    Row {
        title: "timer start and stop",
        threads: &[1, 2],
        contenders: vec![
            tripod::timer(),
            prometheus::timer(),
            measured::timer(),
            prometheus_client::timer_by_hand(),
            metrics_exporter::timer_by_hand(),
            floors::two_clock_reads(),
        ],
        unit: Unit::CPU_NANOS,
        limits: vec![Limit::OfBest { threads: 1, at_most: 0.5 }],
    }
}

fn pages() -> [MakePage; 6] {
    [
        tripod::page,
        prometheus::page,
        prometheus_client::page,
        metrics_exporter::page,
        measured::page,
        opentelemetry::page,
    ]
}
