//! Allocates and touches memory, then lets go of it: a stand-in for a command that needs much.
//!
//! `hog MIB [SECONDS]` grows by 1 MiB at a time up to MIB, holds that for SECONDS (default 0), and
//! prints what it held. The growth is paced at about 1 GiB/s, which is what programs do that
//! compute what they write.

use std::hint::black_box;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mebibytes = arguments.next().and_then(|text| text.parse::<usize>().ok());
    let hold = arguments.next().map_or(Ok(0.0), |text| text.parse::<f64>());
    let (Some(mebibytes), Ok(hold)) = (mebibytes, hold) else {
        eprintln!("usage: hog MIB [SECONDS]");
        return ExitCode::from(2);
    };
    let clock = Instant::now();
    let mut held = Vec::new();
    for grown in 0..mebibytes {
        let mut block = vec![0_u8; MIB];
        for page in block.chunks_mut(PAGE) {
            page[0] = 1;
        }
        held.push(block);
        let due = Duration::from_millis(grown as u64);
        std::thread::sleep(due.saturating_sub(clock.elapsed()));
    }
    std::thread::sleep(Duration::from_secs_f64(hold));
    let held_mebibytes: usize = black_box(&held).iter().map(|block| block.len() / MIB).sum();
    match writeln!(std::io::stdout(), "{held_mebibytes}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
