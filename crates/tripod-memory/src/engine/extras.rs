//! What the collector looks after besides idle memory: leases, object pools, accounts, the pressure
//! and the line.
//!
//! None of it is touched on the way of a buffer. No code of the user runs with a lock held: not the
//! `Drop` of a pooled object, not a spiller, not the waker of a task.
//!
//! | what | looked at | by |
//! |---|---|---|
//! | leases | when the next one ends | `lease.rs` |
//! | object pools | eight times in their time to live, unless they have nothing idle or out | `pools` |
//! | accounts, the pressure | once a second if there are any, or anyone wants to know | `counting/charge.rs`, `pressure/watch.rs` |
//! | the line | when somebody enters it, and ten times a second while somebody waits and can be helped | here |

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::Engine;
use super::collect::Collected;
use crate::collector;
use crate::counting::Followed;
use crate::lease::Leases;
use crate::ledger::ROOT;
use crate::pressure::{BudgetUse, Pressure, SystemMemory, Watch};
use crate::spill::{Spillers, Wanted};

mod pools;

use pools::Pools;

/// How often accounts are looked at.
const ACCOUNTS_EVERY: Duration = Duration::from_secs(1);

/// How often spillers are asked again while somebody waits.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How often all spillers are asked in a row, as long as that helps.
const ROUNDS_MAX: usize = 16;

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Extras {
    pub(crate) leases: Leases,
    pub(crate) pools: Pools,
    pub(crate) accounts: Accounts,
    pub(crate) spillers: Spillers,
    pub(crate) watch: Watch,
    /// A statistic that guards nothing: Relaxed.
    pub(super) waker_panics: AtomicU64,
}

impl Extras {
    pub(crate) fn new(system: SystemMemory, limit_bytes: u64) -> Self {
        Self {
            leases: Leases::new(),
            pools: Pools::default(),
            accounts: Accounts::default(),
            spillers: Spillers::default(),
            watch: Watch::new(system, limit_bytes),
            waker_panics: AtomicU64::new(0),
        }
    }

    /// How often code of the user has panicked.
    pub(crate) fn panics(&self) -> u64 {
        let wakers = self.waker_panics.load(Ordering::Relaxed);
        self.spillers.panics() + self.pools.panics() + wakers
    }
}

/// The accounts that a reservation follows, for as long as that is held.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<Vec<Weak<Followed>>>);

impl Accounts {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Followed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, followed: &Arc<Followed>) {
        self.lock().push(Arc::downgrade(followed));
    }

    fn all(&self) -> Vec<Arc<Followed>> {
        let mut accounts = self.lock();
        accounts.retain(|followed| followed.strong_count() > 0);
        accounts.iter().filter_map(Weak::upgrade).collect()
    }

    fn is_empty(&self) -> bool {
        self.lock().iter().all(|followed| followed.strong_count() == 0)
    }

    /// Bytes of all accounts that there was no room for.
    pub(crate) fn uncharged_bytes(&self) -> u64 {
        self.all().iter().map(|followed| followed.uncharged_bytes()).sum()
    }
}

impl Engine {
    /// Ends leases and drops objects whose time is over, until `is_over`.
    pub(super) fn collect_extras(
        &self,
        now: Instant,
        is_over: &impl Fn() -> bool,
        collected: &mut Collected,
    ) -> bool {
        let extras = &self.extras;
        let (leases, all_leases) = extras.leases.expire(now, is_over, |buffer| {
            // Here, so that no lease is gone and not counted.
            self.meter.expired_leases.inc();
            buffer.into_iter().for_each(|buffer| self.leaks.forget_buffer(buffer));
        });
        let (objects, all_objects) = extras.pools.collect(now, is_over);
        collected.leases += leases;
        collected.objects += objects;
        all_leases && all_objects
    }

    /// Looks at what is no memory of ours. Spillers take the time they take.
    pub(super) fn look_around(&self, now: Instant) -> u64 {
        self.extras.accounts.all().iter().for_each(|followed| followed.catch_up());
        self.extras.watch.look(now, || self.budget_use());
        self.relieve()
    }

    /// Asks spillers until nobody waits any more or it does not help; answers what they say they gave
    /// back.
    fn relieve(&self) -> u64 {
        if self.extras.spillers.is_empty() {
            return 0;
        }
        let mut spilled = 0;
        for _ in 0..ROUNDS_MAX {
            let before = self.line();
            if before.1.is_empty() {
                break;
            }
            let wanted = |_| self.wanted();
            spilled += self.extras.spillers.relieve(wanted);
            if self.line() == before {
                break;
            }
        }
        self.meter.spilled_bytes.add(spilled);
        spilled
    }

    /// How many wait, and what they lack, by the budget where they do, beyond what is idle.
    fn line(&self) -> (usize, Vec<(usize, u64)>) {
        let state = self.lock();
        let idle = state.reclaimable_bytes();
        let beyond_idle = |(node, bytes): (usize, u64)| match node {
            ROOT => (node, bytes.saturating_sub(idle).max(1)),
            _ => (node, bytes),
        };
        (state.ledger.waiting(), state.ledger.shortages().map(beyond_idle).collect())
    }

    fn wanted(&self) -> Vec<Wanted> {
        let (_, shortages) = self.line();
        let parents: Arc<[Option<usize>]> =
            self.lock().records.iter().map(|record| record.parent).collect();
        let wanted = |(node, bytes)| {
            let parents = Arc::clone(&parents);
            let is_within = move |other| {
                let mut path = std::iter::successors(Some(other), |&step: &usize| parents[step]);
                path.any(|step| step == node)
            };
            Wanted { bytes, is_within: Box::new(is_within) }
        };
        shortages.into_iter().map(wanted).collect()
    }

    fn budget_use(&self) -> BudgetUse {
        let sums = self.sums();
        BudgetUse {
            used_bytes: sums.reserved + sums.used,
            limit_bytes: self.root().limit_bytes,
            waiting: sums.waiting,
        }
    }

    /// The pressure as seen last; see [`Watch::ask`].
    pub(crate) fn pressure(&self) -> Pressure {
        self.extras.watch.ask(Instant::now(), || self.budget_use())
    }

    /// Wakes the collector if someone is interested in the line.
    pub(crate) fn wake_for_line(&self) {
        if self.extras.watch.is_followed() || !self.extras.spillers.is_empty() {
            collector::wake();
        }
    }

    /// Whether there is nothing to collect; else in how long the background collector comes by again.
    pub(crate) fn rest(&self, now: Instant, sleep_max: Duration) -> Option<Duration> {
        let (is_idle, waits) = {
            let mut state = self.lock();
            // Then the next commit wakes the collector.
            state.collection.is_at_rest = state.ledger.committed() == 0;
            (state.collection.is_at_rest, state.ledger.waits().any)
        };
        let extras = &self.extras;
        let idle = (!is_idle).then(|| self.ttl.tick().min(sleep_max));
        let line = (waits && !extras.spillers.is_empty()).then_some(ASK_EVERY);
        let accounts = (!extras.accounts.is_empty()).then_some(ACCOUNTS_EVERY);
        let others = [idle, line, accounts, extras.pools.interval(), extras.watch.interval(now)];
        let sleep = others.into_iter().flatten().min().map(|sleep| sleep.min(sleep_max));
        extras.leases.plan(now, sleep)
    }

    /// Ends what ends with the last handle.
    pub(super) fn close_extras(&self) {
        self.extras.leases.clear();
        self.extras.pools.clear();
        self.extras.watch.end();
    }
}
