//! A trace that nobody recorded: ten minutes of a busy service, with a burst every two.
//!
//! Sizes are a mixture of three log-normal kinds, from 64 B to 4 MiB; lifetimes are a mixture of
//! three exponential ones, from half a second to two minutes, whatever the size. New objects come
//! whenever less is live than should be, so that the live set keeps its size. In a burst it should
//! be thrice that for ten seconds. Two of three objects that come in it go at its end; the third
//! lives on, in the midst of what the others leave behind.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::format::{Event, What};
use crate::random::Random;

const SECOND_US: u64 = 1_000_000;
const LENGTH_US: u64 = 600 * SECOND_US;
const TICK_US: u64 = 10_000;

const LIVE_BYTES: u64 = 256 << 20;
const BURST_TIMES: u64 = 3;
const BURST_EVERY_US: u64 = 120 * SECOND_US;
const BURST_US: u64 = 10 * SECOND_US;
/// What should be live is reached in steps of this much a tick, not at once.
const GROWTH_BYTES_PER_TICK: u64 = 8 << 20;

const BYTES_MIN: f64 = 64.0;
const BYTES_MAX: f64 = (4 << 20) as f64;

/// Share, median in bytes, and standard deviation of the natural logarithm.
const SIZES: [(f64, f64, f64); 3] =
    [(0.60, 256.0, 1.0), (0.30, 8_192.0, 1.0), (0.10, 131_072.0, 1.2)];
/// Share, and mean in microseconds.
const LIFETIMES: [(f64, f64); 3] = [(0.50, 0.5e6), (0.40, 10e6), (0.10, 120e6)];

/// Makes the trace; the same for the same seed.
///
/// # Panics
/// If `seed` is 0.
pub(crate) fn generate(seed: u64) -> Vec<Event> {
    let mut service = Service {
        random: Random::new(seed),
        events: Vec::new(),
        sizes: Vec::new(),
        ends: BinaryHeap::new(),
        live_bytes: 0,
    };
    for tick in 0..LENGTH_US / TICK_US {
        service.tick(tick * TICK_US);
    }
    service.events
}

struct Service {
    random: Random,
    events: Vec<Event>,
    sizes: Vec<u32>,
    /// When objects end, and which.
    ends: BinaryHeap<Reverse<(u64, u32)>>,
    live_bytes: u64,
}

impl Service {
    fn tick(&mut self, now_us: u64) {
        while let Some(Reverse((end_us, id))) = self.ends.peek().copied() {
            if end_us > now_us {
                break;
            }
            self.ends.pop();
            self.live_bytes -= u64::from(self.sizes[id as usize]);
            self.events.push(Event { time_us: now_us, what: What::Free { id } });
        }
        let burst_end_us = burst_end_us(now_us);
        let wanted = LIVE_BYTES * if burst_end_us.is_some() { BURST_TIMES } else { 1 };
        let wanted = wanted.min(self.live_bytes + GROWTH_BYTES_PER_TICK);
        while self.live_bytes < wanted {
            self.allocate(now_us, burst_end_us);
        }
    }

    fn allocate(&mut self, now_us: u64, burst_end_us: Option<u64>) {
        let bytes = self.size();
        let id = u32::try_from(self.sizes.len()).expect("ten minutes have fewer");
        let lifetime_us = self.lifetime_us();
        let end_us = match burst_end_us {
            Some(end_us) if self.random.below(3) != 0.0 => end_us.min(now_us + lifetime_us),
            _ => now_us + lifetime_us,
        };
        self.sizes.push(bytes);
        self.live_bytes += u64::from(bytes);
        self.ends.push(Reverse((end_us, id)));
        self.events.push(Event { time_us: now_us, what: What::Allocate { bytes } });
    }

    fn size(&mut self) -> u32 {
        let place = self.random.unit();
        let [small, medium, large] = SIZES;
        let (_, median, deviation) = match place {
            place if place < small.0 => small,
            place if place < small.0 + medium.0 => medium,
            _ => large,
        };
        let bytes = median * (deviation * self.normal()).exp();
        bytes.clamp(BYTES_MIN, BYTES_MAX) as u32
    }

    fn lifetime_us(&mut self) -> u64 {
        let place = self.random.unit();
        let [short, medium, long] = LIFETIMES;
        let (_, mean_us) = match place {
            place if place < short.0 => short,
            place if place < short.0 + medium.0 => medium,
            _ => long,
        };
        (-(1.0 - self.random.unit()).ln() * mean_us) as u64 + 1
    }

    /// Close to the standard normal distribution: a sum of uniform ones.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.random.unit()).sum::<f64>() - 6.0
    }
}

/// When the burst ends that is on.
fn burst_end_us(now_us: u64) -> Option<u64> {
    let begin_us = now_us / BURST_EVERY_US * BURST_EVERY_US;
    (begin_us > 0 && now_us < begin_us + BURST_US).then_some(begin_us + BURST_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_set_keeps_its_size_but_for_four_bursts() {
        let events = generate(1);
        assert_eq!(events, generate(1));
        let (mut live, mut sizes) = (0_u64, Vec::new());
        let mut peaks = vec![0_u64; 600];
        for event in &events {
            match event.what {
                What::Allocate { bytes } => {
                    sizes.push(bytes);
                    live += u64::from(bytes);
                }
                What::Free { id } => live -= u64::from(sizes[id as usize]),
            }
            let peak = &mut peaks[(event.time_us / SECOND_US) as usize];
            *peak = live.max(*peak);
        }
        let near = |live: u64, wanted: u64| live.abs_diff(wanted) < wanted / 20;
        assert!(near(peaks[60], LIVE_BYTES), "{}", peaks[60]);
        for burst in [120, 240, 360, 480] {
            assert!(near(peaks[burst + 8], 3 * LIVE_BYTES), "{}", peaks[burst + 8]);
            assert!(near(peaks[burst + 60], LIVE_BYTES), "{}", peaks[burst + 60]);
        }
        assert!(sizes.iter().all(|bytes| (64..=4 << 20).contains(bytes)));
        assert!(sizes.len() > 100_000, "{}", sizes.len());
    }
}
