//! Memory that is held when nobody needs it: a thread touches 32 MiB, frees all of it, and parks.
//!
//! Each contender and each length has a process of its own; they wait at the same time. What
//! counts is the resident memory of the process above what it was before the contender was made,
//! read from the system.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use mimalloc::MiMalloc;
use tikv_jemallocator::Jemalloc;

use super::alone::{self, Task};
use super::opponents::allocator::Raw;
use super::source::{Held, Source};
use super::tripod::{self, Pool};
use crate::bar::Bar;
use crate::error::BenchError;
use crate::machine::resident_bytes;
use crate::report::{self, note};

/// What the thread touches.
const TOUCHED_BYTES: usize = 32 << 20;
/// How much of it may be held in the end.
const HELD_MIB_MAX: f64 = 2.0;
const MIB: f64 = (1 << 20) as f64;

const LENGTHS: [(usize, &str); 2] = [(64 << 10, "64 KiB"), (1 << 20, "1 MiB")];

/// Whose memory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Of {
    Tripod,
    Malloc,
    Mimalloc,
    Jemalloc,
}

impl Of {
    pub(crate) const ALL: [Self; 4] = [Self::Tripod, Self::Malloc, Self::Mimalloc, Self::Jemalloc];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tripod => tripod::NAME,
            Self::Malloc => "malloc",
            Self::Mimalloc => "mimalloc",
            Self::Jemalloc => "jemalloc",
        }
    }
}

/// Lets the children wait, and answers with a table and the bars.
///
/// # Errors
/// If a child fails, or has not touched what it was to touch.
pub(crate) fn measure(ttl: Duration, wait: Duration) -> Result<(String, Vec<Bar>), BenchError> {
    note(&format!("idle memory, {} s", wait.as_secs()));
    let (ttl_ms, wait_ms) = (ttl.as_millis() as u64, wait.as_millis() as u64);
    let start = |of| LENGTHS.map(|(len, _)| alone::start(Task::Idle { of, len, ttl_ms, wait_ms }));
    let children: Vec<_> = Of::ALL.into_iter().map(|of| (of, start(of))).collect();
    let mut rows = vec![header()];
    let mut bars = Vec::new();
    for (of, children) in children {
        let mut row = vec![of.word().to_owned()];
        for (child, (_, length)) in children.into_iter().zip(LENGTHS) {
            let [touched, held] = child?.figures()?;
            if touched < TOUCHED_BYTES as f64 {
                let how = format!("its thread touched {touched} bytes of {TOUCHED_BYTES}");
                return Err(BenchError::Differs { command: of.word().to_owned(), how });
            }
            row.extend([touched, held].map(|bytes| format!("{:+.1}", bytes / MIB)));
            if of == Of::Tripod {
                let what = format!("idle, {length}: MiB held after one TTL");
                bars.push(Bar::at_most(what, held / MIB, HELD_MIB_MAX));
            }
        }
        rows.push(row);
    }
    let text = format!(
        "idle: MiB resident above the start, when 32 MiB are touched and {} s after they were freed\n\
         by a thread that then parks; tripod's TTL is {} s\n{}\n",
        wait.as_secs(),
        ttl.as_secs(),
        report::table(&rows),
    );
    Ok((text, bars))
}

fn header() -> Vec<String> {
    let columns =
        LENGTHS.iter().flat_map(|(_, length)| [format!("{length}, touched"), "held".into()]);
    std::iter::once(String::new()).chain(columns).collect()
}

/// Touches, frees, waits; tells the bytes above the start before the end of the first and after the
/// last.
pub(crate) fn hold(of: Of, len: usize, ttl: Duration, wait: Duration) -> [f64; 2] {
    let before = resident_bytes() as f64;
    let [touched, held] = match of {
        Of::Tripod => park(&Pool { memory: tripod::manager_with_ttl(ttl), len }, len, wait),
        Of::Malloc => park(&Raw::new(std::alloc::System, len), len, wait),
        Of::Mimalloc => park(&Raw::new(MiMalloc, len), len, wait),
        Of::Jemalloc => park(&Raw::new(Jemalloc, len), len, wait),
    };
    [touched - before, held - before]
}

/// Everything but the buffers is done by the other thread, and without channels: a block that the
/// measuring allocates last would hold back what an allocator frees below it.
fn park(source: &impl Source, len: usize, wait: Duration) -> [f64; 2] {
    let turn = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut all: Vec<_> = (0..TOUCHED_BYTES / len).map(|_| source.acquire()).collect();
            all.iter_mut().for_each(|held| held.touch(len));
            turn.wait();
            turn.wait();
            drop(all);
            turn.wait();
            turn.wait();
        });
        turn.wait();
        let touched = resident_bytes() as f64;
        turn.wait();
        turn.wait();
        thread::sleep(wait);
        let held = resident_bytes() as f64;
        turn.wait();
        [touched, held]
    })
}
