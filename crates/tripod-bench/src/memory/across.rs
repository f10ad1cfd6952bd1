//! Buffers that are acquired on one thread and released on another.
//!
//! A producer acquires buffers and sends them through a ring to a consumer, which releases them.
//! Each has a processor of its own. The figure is the wall time of the slower of the two, per
//! buffer: both spin when they have to wait, so processor time would count the waiting twice.

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::ring::{Consumer, Producer, Ring};
use super::source::{Held, Source, check};
use crate::burst::{Burst, Start, Took};
use crate::contender::{Contender, Side};
use crate::cpu;

/// Wall and processor time of an end.
type Times = (Duration, Duration);

/// Sends buffers of a source; with `is_touched`, the producer writes a byte of each page.
pub(crate) fn contender<S: Source>(
    name: &'static str,
    side: Side,
    len: usize,
    is_touched: bool,
    source: S,
) -> Contender
where
    for<'a> S::Held<'a>: Send,
{
    let source = Arc::new(source);
    let checked = Arc::clone(&source);
    let burst = move |burst| {
        send(burst, || {
            let mut held = black_box(&*source).acquire();
            if is_touched {
                held.touch(len);
            }
            black_box(held.start());
            held
        })
    };
    Contender::timed(name, side, burst).checked_by(move || check(&*checked, len))
}

/// Sends numbers: what remains without buffers.
pub(crate) fn ring_alone() -> Contender {
    let burst = |burst| {
        let mut number = 0_u128;
        send(burst, move || {
            number += 1;
            black_box(number)
        })
    };
    Contender::timed("(the ring alone)", Side::Beside, burst)
}

fn send<T: Send>(burst: Burst, make: impl FnMut() -> T + Send) -> Took {
    let mut ring = Ring::new();
    let start = Start::new(2);
    let (producer, consumer) = ring.split();
    let ends: [Times; 2] = thread::scope(|scope| {
        let producer = scope.spawn(|| produce(producer, burst, &start, make));
        let consumer = scope.spawn(|| consume(consumer, burst, &start));
        [producer.join(), consumer.join()].map(|end| end.expect("no end panics"))
    });
    let slower = ends.iter().map(|(wall, _)| wall.as_secs_f64()).fold(0.0, f64::max);
    let ratios = ends.iter().map(|(wall, cpu)| wall.as_secs_f64() / cpu.as_secs_f64());
    Took { ns: slower * 1e9 / burst.operations as f64, wall_per_cpu: ratios.fold(0.0, f64::max) }
}

fn produce<T>(
    mut producer: Producer<'_, T>,
    burst: Burst,
    start: &Start,
    mut make: impl FnMut() -> T,
) -> Times {
    cpu::pin(0);
    timed(burst, start, || producer.push(make()))
}

fn consume<T>(mut consumer: Consumer<'_, T>, burst: Burst, start: &Start) -> Times {
    cpu::pin(1);
    timed(burst, start, || drop(black_box(consumer.pop())))
}

fn timed(burst: Burst, start: &Start, mut operation: impl FnMut()) -> Times {
    for _ in 0..burst.warm_up {
        operation();
    }
    cpu::take_precedence();
    start.wait();
    let (wall, cpu) = (Instant::now(), cpu::thread_time());
    for _ in 0..burst.operations {
        operation();
    }
    (wall.elapsed(), cpu::thread_time() - cpu)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn all_that_is_made_is_released_on_the_other_side() {
        struct Counted<'a>(&'a AtomicU64);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let released = AtomicU64::new(0);
        let burst = Burst { threads: 2, operations: 3_000, warm_up: 300 };
        let took = send(burst, || Counted(&released));
        assert_eq!(released.load(Ordering::SeqCst), 3_300);
        assert!(took.ns > 0.0, "{took:?}");
    }
}
