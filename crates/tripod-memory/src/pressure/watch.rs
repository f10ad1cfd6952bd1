//! Looks at the pressure for those who want to know, and tells them.
//!
//! The collector looks. Reading the system takes a tenth of a millisecond, so that happens at most once
//! a second, and only while somebody is interested: follows by a subscription, or has asked within the
//! last minute. Whoever asks finds what was seen last; if that is older than a second, the budget is
//! looked at again for them, but not the system.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::judge::Judge;
use super::subscription::Publisher;
use super::{Pressure, PressureSubscription, Readings, SystemMemory};
use crate::collector;
use crate::turn::Turn;

/// How often there is something new to see.
const EVERY: Duration = Duration::from_secs(1);

/// How long who has asked is taken to be interested.
const INTEREST: Duration = Duration::from_secs(60);

/// What of the budget is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BudgetUse {
    pub(crate) used_bytes: u64,
    pub(crate) limit_bytes: u64,
    pub(crate) waiting: usize,
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Watch {
    publisher: Publisher,
    notes: Mutex<Notes>,
    /// Had by who judges and tells, so that what is older is not told later. The wakers that are woken
    /// meanwhile are foreign code.
    turn: Turn,
    /// Whether somebody has asked since the last look.
    is_asked: AtomicBool,
    /// Whether the background collector knows that somebody is interested.
    is_watched: AtomicBool,
}

#[derive(Debug)]
struct Notes {
    judge: Judge,
    system: SystemMemory,
    readings: Readings,
    read_at: Option<Instant>,
    looked_at: Option<Instant>,
    interest_ends: Option<Instant>,
}

impl Watch {
    pub(crate) fn new(system: SystemMemory, limit_bytes: u64) -> Self {
        let notes = Notes {
            judge: Judge::default(),
            system,
            readings: Readings::default(),
            read_at: None,
            looked_at: None,
            interest_ends: None,
        };
        Self {
            publisher: Publisher::new(Pressure { limit_bytes, ..Pressure::default() }),
            notes: Mutex::new(notes),
            turn: Turn::default(),
            is_asked: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        // No foreign code runs under the lock.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at everything if anyone is interested: for the collector.
    pub(crate) fn look(&self, now: Instant, budget: impl FnOnce() -> BudgetUse) {
        let Some(_turn) = self.turn.take() else { return };
        if self.is_of_interest(now) {
            let budget = budget();
            let pressure = self.notes().judge(now, budget, true);
            self.publisher.publish(pressure);
        }
    }

    /// What was seen last, or what the budget says if that was long ago: for whoever asks.
    pub(crate) fn ask(&self, now: Instant, budget: impl FnOnce() -> BudgetUse) -> Pressure {
        self.note_interest();
        let is_old = |at: Instant| now.saturating_duration_since(at) >= EVERY;
        let looked_at = self.notes().looked_at;
        if looked_at.is_none_or(is_old)
            && let Some(_turn) = self.turn.take()
        {
            let budget = budget();
            let pressure = self.notes().judge(now, budget, false);
            self.publisher.publish(pressure);
        }
        self.publisher.current()
    }

    /// What was seen last. It counts as asking.
    pub(crate) fn glance(&self) -> Pressure {
        self.note_interest();
        self.publisher.current()
    }

    /// A subscription that has seen what is published now.
    pub(crate) fn subscribe(&self) -> PressureSubscription {
        let subscription = self.publisher.subscribe();
        self.note_interest();
        subscription
    }

    fn note_interest(&self) {
        self.is_asked.store(true, Ordering::SeqCst);
        if !self.is_watched.swap(true, Ordering::SeqCst) {
            collector::wake();
        }
    }

    /// When to look next; not before a wake if nobody is interested.
    pub(crate) fn interval(&self, now: Instant) -> Option<Duration> {
        // Before the look at who is interested: one who comes meanwhile is seen here, or wakes.
        self.is_watched.store(false, Ordering::SeqCst);
        let is_of_interest = self.is_of_interest(now);
        if is_of_interest {
            self.is_watched.store(true, Ordering::SeqCst);
        }
        is_of_interest.then_some(EVERY)
    }

    pub(crate) fn is_followed(&self) -> bool {
        self.publisher.is_followed()
    }

    pub(crate) fn end(&self) {
        self.publisher.end();
    }

    fn is_of_interest(&self, now: Instant) -> bool {
        let mut notes = self.notes();
        if self.is_asked.swap(false, Ordering::SeqCst) {
            notes.interest_ends = now.checked_add(INTEREST);
        }
        self.publisher.is_followed() || notes.interest_ends.is_some_and(|ends| now < ends)
    }
}

impl Notes {
    fn judge(&mut self, now: Instant, budget: BudgetUse, may_read: bool) -> Pressure {
        let is_due = |at: Instant| now.saturating_duration_since(at) >= EVERY;
        if may_read && self.read_at.is_none_or(is_due) {
            self.readings = self.system.read();
            self.read_at = Some(now);
        }
        self.looked_at = Some(now);
        let BudgetUse { used_bytes, limit_bytes, waiting } = budget;
        self.judge.judge(now, used_bytes, limit_bytes, waiting, &self.readings)
    }
}
