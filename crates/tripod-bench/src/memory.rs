//! Subject `memory`: `tripod-memory` against allocators and pools of buffers.
//!
//! All contenders of a row do the same with buffers of the same length, take turns, and are first
//! shown to yield buffers that are long enough, writable and apart. What is measured is processor
//! time per acquire and release, the handle's drop included, except where a row says otherwise.
//! Tripod has a hard budget and its statistics on, and each row of it tells how many buffers did not
//! come out of the pool.
//!
//! The allocator of this process counts what it is asked for, which costs `malloc, Vec` and
//! `BytesMut` about a nanosecond; `malloc, as called` goes past it.
#![expect(
    clippy::inline_always,
    reason = "a call of the harness would be part of the figure of some contenders and not of others"
)]

use std::io::Write;
use std::time::Duration;

use clap::Args;
use tripod_memory::MemoryManager;

use crate::bar::Bar;
use crate::error::BenchError;
use crate::row::{Amount, Row};
use crate::{cpu, machine};
pub(crate) use alone::{AloneArgs, answer};
use tripod::HandedOut;

mod across;
mod alone;
mod budget;
mod collect;
mod floors;
mod idle;
mod opponents;
mod replay;
mod ring;
mod rows;
mod source;
mod trace;
mod tripod;

/// Compares `tripod-memory` with allocators, and with the pools of other crates.
#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    /// Fewer and shorter rounds, for trying out: no basis for a claim
    #[arg(long)]
    pub(crate) quick: bool,

    /// Only what has TEXT in its title, for trying out: no basis for a claim
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
}

impl MemoryArgs {
    fn wants(&self, title: &str) -> bool {
        self.only.as_deref().is_none_or(|only| title.contains(only))
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Amounts {
    of_row: Amount,
    /// Of idle memory: its TTL, and when it is looked at.
    idle_ttl: Duration,
    idle_wait: Duration,
    collect_rounds: u32,
    /// How long a thread acquires before the collection begins.
    collect_alone: Duration,
}

impl Amounts {
    fn of(args: &MemoryArgs) -> Self {
        if args.quick {
            Self {
                of_row: Amount { rounds: 3, burst: Duration::from_millis(3) },
                idle_ttl: Duration::from_secs(2),
                idle_wait: Duration::from_secs(3),
                collect_rounds: 1,
                collect_alone: Duration::from_millis(100),
            }
        } else {
            Self {
                of_row: Amount { rounds: 11, burst: Duration::from_millis(30) },
                idle_ttl: Duration::from_secs(10),
                idle_wait: Duration::from_secs(14),
                collect_rounds: 5,
                collect_alone: Duration::from_millis(300),
            }
        }
    }
}

/// As Cargo.lock has them; the lock file stands behind each record by its commit.
const VERSIONS: &str = "mimalloc 3 (crate 0.1.52), jemalloc 5 (tikv-jemallocator 0.7.0), opool 0.2, \
     commonware-runtime 2026.7.0,\n          lockfree-object-pool 0.1, object-pool 0.6, \
     sharded-slab 0.1, crossbeam-queue 0.3, bytes 1.12";

/// Measures row by row, writes a table of each and returns the bars.
///
/// # Errors
/// If a contender did not do the work of the others, or nothing can be written.
pub(crate) fn run(args: &MemoryArgs, out: &mut impl Write) -> Result<Vec<Bar>, BenchError> {
    let is_whole = !args.quick && args.only.is_none();
    let caution = if is_whole { "" } else { "caution   a part of a run, no basis for a claim\n" };
    let (machine, precedence) = (machine::describe(), cpu::precedence());
    print(out, &format!("{machine}tools     {VERSIONS}\nthreads   {precedence}\n{caution}\n"))?;
    let amounts = Amounts::of(args);
    let mut bars = Vec::new();
    let mut add = |(text, own): (String, Vec<Bar>)| {
        bars.extend(own);
        print(out, &text)
    };
    let is_alone = machine::processors().get() < 2;
    for row in rows::OWN.iter().chain(&rows::ACROSS) {
        let memory = tripod::manager();
        let mut row = row(&memory);
        if is_alone {
            row.threads_max(1);
        }
        if args.wants(row.title) {
            add(measure(&row, &memory, amounts.of_row)?)?;
        }
    }
    if args.wants("idle") {
        add(idle::measure(amounts.idle_ttl, amounts.idle_wait)?)?;
    }
    if args.wants("collection") {
        add(collect::measure(amounts.collect_rounds, amounts.collect_alone)?)?;
    }
    if args.wants("trace") {
        add(replay::measure()?)?;
    }
    Ok(bars)
}

/// Measures a row whose Tripod is `memory`; bars hold for what did not come out of its pool, and for
/// what stays there.
fn measure(
    row: &Row,
    memory: &MemoryManager,
    amount: Amount,
) -> Result<(String, Vec<Bar>), BenchError> {
    if row.threads.is_empty() {
        return Ok((format!("{}: needs two processors, and there is one\n\n", row.title), vec![]));
    }
    let before = HandedOut::until_now(memory);
    let (text, mut bars) = row.measure(amount)?;
    bars.extend(before.bars(row.title, memory));
    Ok((text, bars))
}

fn print(out: &mut impl Write, text: &str) -> Result<(), BenchError> {
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(BenchError::Output)
}
