//! Any sequence of calls against a model that only adds and subtracts.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use tripod_memory::{
    AcquireError, Budget, Buffer, MemoryManager, MemoryStats, Reservation, ReserveError,
};

use crate::poll;

const BUDGET: u64 = 1 << 20;
/// The root, its child, and the child's child.
const LIMITS: [u64; 3] = [BUDGET, 600_000, 250_000];
const MANAGERS: usize = 3;
const TTL: Duration = Duration::from_secs(8000);

#[derive(Clone, Debug)]
enum Step {
    Acquire {
        budget: usize,
        len: usize,
        is_try: bool,
    },
    Release {
        which: usize,
    },
    TryReserve {
        budget: usize,
        bytes: u64,
    },
    /// Polls once; a request that has to wait is dropped in line.
    Reserve {
        budget: usize,
        bytes: u64,
    },
    Grow {
        which: usize,
        bytes: u64,
    },
    Shrink {
        which: usize,
        bytes: u64,
    },
    Move {
        from: usize,
        to: usize,
        bytes: u64,
    },
    Unreserve {
        which: usize,
    },
    Collect {
        ticks: u32,
        budget: Duration,
    },
    /// Looks as often as one and a quarter times to live need, while nobody else does anything.
    WaitOut,
    Trim,
}

/// Steps, each at one of the managers.
fn steps(
    lens: impl Strategy<Value = usize> + 'static,
) -> impl Strategy<Value = Vec<(usize, Step)>> {
    let budget = || 0..LIMITS.len();
    let bytes = || prop_oneof![0..2000_u64, 0..300_000_u64, 0..BUDGET + 1000];
    let which = || any::<usize>();
    let duration = prop_oneof![Just(Duration::ZERO), Just(Duration::from_millis(1))];
    let step = prop_oneof![
        8 => (budget(), lens, any::<bool>())
            .prop_map(|(budget, len, is_try)| Step::Acquire { budget, len, is_try }),
        7 => which().prop_map(|which| Step::Release { which }),
        2 => (budget(), bytes()).prop_map(|(budget, bytes)| Step::TryReserve { budget, bytes }),
        2 => (budget(), bytes()).prop_map(|(budget, bytes)| Step::Reserve { budget, bytes }),
        2 => (which(), bytes()).prop_map(|(which, bytes)| Step::Grow { which, bytes }),
        2 => (which(), bytes()).prop_map(|(which, bytes)| Step::Shrink { which, bytes }),
        1 => (which(), which(), bytes()).prop_map(|(from, to, bytes)| Step::Move { from, to, bytes }),
        3 => which().prop_map(|which| Step::Unreserve { which }),
        2 => (0..12_u32, duration).prop_map(|(ticks, budget)| Step::Collect { ticks, budget }),
        1 => Just(Step::WaitOut),
        1 => Just(Step::Trim),
    ];
    vec((0..MANAGERS, step), 1..80)
}

/// A manager, and what it should say.
struct Pair {
    memory: MemoryManager,
    budgets: [Budget; 3],
    buffers: Vec<(Buffer, usize)>,
    reservations: Vec<(Reservation, usize)>,
    now: Instant,
    /// Used and reserved bytes at each budget alone.
    used: [u64; 3],
    reserved: [u64; 3],
    handed_out: u64,
    requested: u64,
    refused: u64,
    waits: u64,
    peak: u64,
    /// Whether every class has spans of one slot, so that nothing but idle slots can be idle.
    is_exact: bool,
}

impl Pair {
    fn new(is_exact: bool) -> Self {
        let memory = MemoryManager::builder()
            .budget_bytes(BUDGET)
            .ttl(TTL)
            .background_collection(false)
            .build()
            .unwrap();
        let child = memory.budget("child").limit_bytes(LIMITS[1]).create().unwrap();
        let grandchild = child.budget("grandchild").limit_bytes(LIMITS[2]).create().unwrap();
        Self {
            budgets: [memory.root().clone(), child, grandchild],
            memory,
            buffers: Vec::new(),
            reservations: Vec::new(),
            now: Instant::now(),
            used: [0; 3],
            reserved: [0; 3],
            handed_out: 0,
            requested: 0,
            refused: 0,
            waits: 0,
            peak: 0,
            is_exact,
        }
    }

    /// What counts against a budget: its own and what is below it.
    fn charged(&self, budget: usize) -> u64 {
        (budget..3).map(|below| self.used[below] + self.reserved[below]).sum()
    }

    /// Whether `bytes` fit on the whole path, with everything idle out of the way.
    fn fits(&self, budget: usize, bytes: u64) -> bool {
        (0..=budget).all(|above| self.charged(above).saturating_add(bytes) <= LIMITS[above])
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Acquire { budget, len, is_try } => self.acquire(budget, len, is_try),
            Step::Release { which } if !self.buffers.is_empty() => {
                let (buffer, budget) = self.buffers.swap_remove(which % self.buffers.len());
                self.used[budget] -= buffer.capacity() as u64;
            }
            Step::TryReserve { budget, bytes } => {
                let answer = self.budgets[budget].try_reserve(bytes);
                self.reserved(budget, bytes, answer);
            }
            Step::Reserve { budget, bytes } => self.reserve(budget, bytes),
            Step::Grow { which, bytes } if !self.reservations.is_empty() => self.grow(which, bytes),
            Step::Shrink { which, bytes } if !self.reservations.is_empty() => {
                let (reservation, budget) = self.reservation(which);
                let expected = bytes.min(reservation.bytes());
                assert_eq!(reservation.shrink(bytes), expected);
                self.reserved[budget] -= expected;
            }
            Step::Move { from, to, bytes } if !self.reservations.is_empty() => {
                let (from_index, to_index) =
                    (from % self.reservations.len(), to % self.reservations.len());
                let ((from, at), (to, other)) =
                    (&self.reservations[from_index], &self.reservations[to_index]);
                let is_moved = at == other && from_index != to_index;
                let expected = if is_moved { bytes.min(from.bytes()) } else { 0 };
                assert_eq!(from.move_to(to, bytes), expected);
            }
            Step::Unreserve { which } if !self.reservations.is_empty() => {
                let which = which % self.reservations.len();
                let (reservation, budget) = self.reservations.swap_remove(which);
                self.reserved[budget] -= reservation.bytes();
            }
            Step::Collect { ticks, budget } => {
                self.now += TTL / 8 * ticks;
                self.memory.collect(self.now, budget);
            }
            Step::WaitOut => self.wait_out(),
            Step::Trim => {
                let idle = self.memory.stats().idle_bytes;
                let trimmed = self.memory.trim();
                assert!(trimmed <= idle);
                assert!(!self.is_exact || trimmed == idle, "{trimmed} of {idle}");
            }
            _ => {}
        }
    }

    fn reservation(&self, which: usize) -> (&Reservation, usize) {
        let (reservation, budget) = &self.reservations[which % self.reservations.len()];
        (reservation, *budget)
    }

    fn acquire(&mut self, budget: usize, len: usize, is_try: bool) {
        let at = &self.budgets[budget];
        let answer = if is_try { at.try_acquire(len) } else { at.acquire(len) };
        match answer {
            Ok(buffer) => {
                let capacity = buffer.capacity() as u64;
                assert_eq!(buffer.len(), len);
                assert!(capacity >= len as u64 && self.fits(budget, capacity));
                self.used[budget] += capacity;
                self.handed_out += u64::from(len > 0);
                self.requested += len as u64;
                self.buffers.push((buffer, budget));
            }
            Err(error) => {
                let (AcquireError::OverBudget { needed_bytes, .. }
                | AcquireError::Unsatisfiable { needed_bytes, .. }) = error
                else {
                    panic!("{error}");
                };
                self.refused += 1;
                let is_true = !self.fits(budget, needed_bytes);
                assert!(is_true || is_try || !self.is_exact, "{error}");
            }
        }
    }

    fn reserve(&mut self, budget: usize, bytes: u64) {
        let mut reserve = self.budgets[budget].reserve(bytes);
        match poll(&mut reserve) {
            std::task::Poll::Ready(answer) => self.reserved(budget, bytes, answer),
            std::task::Poll::Pending => {
                assert!(!self.is_exact || !self.fits(budget, bytes), "{bytes} wait for nothing");
                self.waits += 1;
            }
        }
    }

    fn reserved(&mut self, budget: usize, bytes: u64, answer: Result<Reservation, ReserveError>) {
        let fits = self.fits(budget, bytes);
        match answer {
            Ok(reservation) => {
                assert!(fits && reservation.bytes() == bytes);
                self.reserved[budget] += bytes;
                self.reservations.push((reservation, budget));
            }
            Err(ReserveError::Unsatisfiable { .. }) => assert!(bytes > LIMITS[budget]),
            Err(error) => assert!(!fits || !self.is_exact, "{error}"),
        }
    }

    fn grow(&mut self, which: usize, bytes: u64) {
        let (reservation, budget) = self.reservation(which);
        let before = reservation.bytes();
        let answer = reservation.try_grow(bytes);
        let grown = if answer.is_ok() { bytes } else { 0 };
        assert_eq!(reservation.bytes(), before + grown);
        let fits = self.fits(budget, bytes);
        assert!(if answer.is_ok() { fits } else { !fits || !self.is_exact }, "{answer:?}");
        self.reserved[budget] += grown;
    }

    fn wait_out(&mut self) {
        for _ in 0..11 {
            self.now += TTL / 8;
            while !self.memory.collect(self.now, Duration::from_millis(1)).is_finished {}
        }
        assert!(!self.is_exact || self.memory.stats().idle_bytes == 0, "{:?}", self.memory.stats());
    }

    fn check(&mut self) {
        let stats = self.memory.stats();
        let sum = |own: &[u64; 3]| own.iter().sum::<u64>();
        let MemoryStats { reserved_bytes, used_bytes, idle_bytes, committed_bytes, .. } = stats;
        assert_eq!((used_bytes, reserved_bytes), (sum(&self.used), sum(&self.reserved)));
        assert_eq!(used_bytes + reserved_bytes + idle_bytes, committed_bytes);
        assert!(committed_bytes <= stats.peak_bytes && stats.peak_bytes <= BUDGET);
        assert!(stats.peak_bytes >= self.peak);
        self.peak = stats.peak_bytes;
        assert_eq!(stats.hits + stats.misses, self.handed_out);
        assert_eq!(stats.requested_bytes, self.requested);
        assert_eq!((stats.refused, stats.waits, stats.waiting), (self.refused, self.waits, 0));
        for (index, budget) in self.budgets.iter().enumerate() {
            assert_eq!(budget.used_bytes(), self.charged(index), "{}", budget.path());
            assert!(budget.peak_bytes() <= LIMITS[index]);
        }
        self.check_classes(&stats);
    }

    /// The classes add up to the whole.
    fn check_classes(&self, stats: &MemoryStats) {
        let classes = self.memory.class_stats();
        let sum = |of: fn(&tripod_memory::ClassStats) -> u64| classes.iter().map(of).sum::<u64>();
        assert_eq!(sum(|class| class.hits), stats.hits);
        assert_eq!(sum(|class| class.misses), stats.misses);
        assert_eq!(sum(|class| class.used_bytes), stats.used_bytes);
        assert_eq!(sum(|class| class.requested_bytes), stats.requested_bytes);
        assert_eq!(
            sum(|class| class.committed_bytes),
            stats.committed_bytes - stats.reserved_bytes
        );
    }

    fn end(mut self) {
        self.buffers.clear();
        self.reservations.clear();
        (self.used, self.reserved) = ([0; 3], [0; 3]);
        self.check();
        let idle = self.memory.stats().idle_bytes;
        assert_eq!(self.memory.trim(), idle);
        assert_eq!(self.memory.stats().committed_bytes, 0);
    }
}

#[track_caller]
fn check(steps: &[(usize, Step)], is_exact: bool) {
    let mut pairs: Vec<_> = (0..MANAGERS).map(|_| Pair::new(is_exact)).collect();
    for (index, step) in steps {
        pairs[*index].apply(step);
        pairs.iter_mut().for_each(Pair::check);
    }
    pairs.into_iter().for_each(Pair::end);
}

/// Lengths whose buffers are whole pages, one in a span; the last are above the largest class.
fn whole_pages() -> impl Strategy<Value = usize> {
    let sizes = [1, 2, 3, 4, 5, 6, 7, 8, 16, 20, 32, 64, 128].map(|pages: usize| pages << 12);
    let single = sizes.into_iter().filter(|size| ![5 << 12, 7 << 12].contains(size));
    proptest::sample::select(single.collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn with_whole_pages_every_answer_is_the_models(steps in steps(whole_pages())) {
        check(&steps, true);
    }

    #[test]
    fn with_any_length_nothing_is_lost_and_no_limit_passed(
        steps in steps(prop_oneof![0..200_usize, 0..20_000_usize, 0..600_000_usize])
    ) {
        check(&steps, false);
    }
}
