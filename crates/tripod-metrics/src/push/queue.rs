//! Bodies that wait to be delivered, and when to try again; a state machine without clock or network.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The bounds of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most bytes that wait; default 16 MiB.
    pub bytes_max: usize,
    /// The wait after a first failure, doubled with each in a row; default 1 s.
    pub backoff_first: Duration,
    /// The longest wait, unless the receiver asks for more; default 60 s.
    pub backoff_max: Duration,
    /// Where the random part of the waits begins, so that processes do not try in step; default 0.
    /// Give each process its own.
    pub seed: u64,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            bytes_max: 16 << 20,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            seed: 0,
        }
    }
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due<'a> {
    /// Nothing waits.
    Nothing,
    /// Nothing before this moment: the last try failed.
    At(Instant),
    /// Send this body, and [`report`](RetryQueue::report) how it went.
    Now(&'a [u8]),
}

/// How a try went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// The receiver will never take it.
    Rejected,
    /// It may work later, after this time if the receiver named one.
    Failed {
        /// What the receiver asked for.
        retry_after: Option<Duration>,
    },
}

/// Bodies in the order in which they came.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
/// use tripod_metrics::push::{Due, Outcome, QueueLimits, RetryQueue};
///
/// let mut queue = RetryQueue::new(QueueLimits::default());
/// let now = Instant::now();
/// queue.push(b"body".to_vec());
/// assert_eq!(queue.due(now), Due::Now(b"body"));
/// queue.report(now, Outcome::Failed { retry_after: None });
/// assert!(matches!(queue.due(now), Due::At(later) if later > now));
/// assert_eq!(queue.due(now + Duration::from_secs(1)), Due::Now(b"body"));
/// queue.report(now, Outcome::Delivered);
/// assert_eq!(queue.due(now), Due::Nothing);
/// ```
#[derive(Debug, Clone)]
pub struct RetryQueue {
    limits: QueueLimits,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    failures_in_a_row: u32,
    retry_at: Option<Instant>,
    random: u64,
    delivered_count: u64,
    rejected_count: u64,
    dropped_count: u64,
    failed_count: u64,
}

impl RetryQueue {
    /// Creates an empty one.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            random: limits.seed,
            limits,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            failures_in_a_row: 0,
            retry_at: None,
            delivered_count: 0,
            rejected_count: 0,
            dropped_count: 0,
            failed_count: 0,
        }
    }

    /// Puts a body at the end. Where it does not fit, the oldest are dropped; one that is larger
    /// than the whole queue is dropped itself.
    pub fn push(&mut self, body: Vec<u8>) {
        if body.len() > self.limits.bytes_max {
            self.dropped_count += 1;
            return;
        }
        while self.waiting_bytes + body.len() > self.limits.bytes_max {
            self.pop();
            self.dropped_count += 1;
        }
        self.waiting_bytes += body.len();
        self.waiting.push_back(body);
    }

    /// What is to be done at this moment.
    #[must_use]
    pub fn due(&self, now: Instant) -> Due<'_> {
        match (self.waiting.front(), self.retry_at) {
            (None, _) => Due::Nothing,
            (Some(_), Some(retry_at)) if now < retry_at => Due::At(retry_at),
            (Some(body), _) => Due::Now(body),
        }
    }

    /// Says how the body went that was due.
    pub fn report(&mut self, now: Instant, outcome: Outcome) {
        match outcome {
            Outcome::Delivered => self.delivered_count += 1,
            Outcome::Rejected => self.rejected_count += 1,
            Outcome::Failed { retry_after } => {
                self.failed_count += 1;
                let wait = self.backoff().max(retry_after.unwrap_or_default());
                self.retry_at = now.checked_add(wait);
                self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
                return;
            }
        }
        self.pop();
        self.failures_in_a_row = 0;
        self.retry_at = None;
    }

    /// How many bodies wait.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// How many bytes wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// How many bodies were delivered.
    #[must_use]
    pub fn delivered_count(&self) -> u64 {
        self.delivered_count
    }

    /// How many bodies the receiver refused for good.
    #[must_use]
    pub fn rejected_count(&self) -> u64 {
        self.rejected_count
    }

    /// How many bodies were dropped because the queue was full.
    #[must_use]
    pub fn dropped_count(&self) -> u64 {
        self.dropped_count
    }

    /// How many tries failed that were or will be made again.
    #[must_use]
    pub fn failed_count(&self) -> u64 {
        self.failed_count
    }

    fn pop(&mut self) {
        let body = self.waiting.pop_front();
        self.waiting_bytes -= body.map_or(0, |body| body.len());
    }

    /// Between half and the whole of the doubled time.
    fn backoff(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures_in_a_row.min(31));
        let whole = self.limits.backoff_first.saturating_mul(factor).min(self.limits.backoff_max);
        // A step of SplitMix64 (Steele et al. 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = (mixed >> 32) as f64 / f64::from(u32::MAX);
        whole.mul_f64(0.5 + 0.5 * part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(bytes_max: usize) -> RetryQueue {
        RetryQueue::new(QueueLimits { bytes_max, ..QueueLimits::default() })
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_counts_them() {
        let now = Instant::now();
        let mut queue = queue(10);
        for body in [vec![1; 4], vec![2; 4], vec![3; 4], vec![4; 11]] {
            queue.push(body);
        }
        assert_eq!((queue.waiting_count(), queue.waiting_bytes()), (2, 8));
        assert_eq!(queue.dropped_count(), 2);
        assert_eq!(queue.due(now), Due::Now(&[2; 4]));
        queue.push(vec![5; 10]);
        assert_eq!(queue.due(now), Due::Now(&[5; 10]));
        assert_eq!((queue.dropped_count(), queue.waiting_bytes()), (4, 10));
    }

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_a_success() {
        let now = Instant::now();
        let mut queue = queue(10);
        let mut waits = Vec::new();
        for round in [8, 1] {
            queue.push(vec![0]);
            for _ in 0..round {
                queue.report(now, Outcome::Failed { retry_after: None });
                let Due::At(at) = queue.due(now) else {
                    panic!("{queue:?}");
                };
                assert_eq!(queue.due(at), Due::Now(&[0]));
                waits.push((at - now).as_secs_f64());
            }
            queue.report(now, Outcome::Delivered);
            assert_eq!(queue.due(now), Due::Nothing);
        }
        let longest = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 1.0];
        for (wait, longest) in waits.iter().zip(longest) {
            assert!((longest / 2.0..=longest).contains(wait), "{waits:?}");
        }
        assert_ne!(waits[0], waits[8], "the random part differs");
        assert_eq!((queue.failed_count(), queue.delivered_count()), (9, 2));
    }

    #[test]
    fn the_receivers_wish_counts_if_it_is_longer() {
        let now = Instant::now();
        let mut queue = queue(10);
        queue.push(vec![0]);
        let wish = Duration::from_secs(300);
        queue.report(now, Outcome::Failed { retry_after: Some(wish) });
        assert_eq!(queue.due(now), Due::At(now + wish));
    }

    #[test]
    fn a_refused_body_makes_room_for_the_next_at_once() {
        let now = Instant::now();
        let mut queue = queue(10);
        queue.push(vec![1]);
        queue.push(vec![2]);
        queue.report(now, Outcome::Rejected);
        assert_eq!(queue.due(now), Due::Now(&[2]));
        assert_eq!(queue.rejected_count(), 1);
    }
}
