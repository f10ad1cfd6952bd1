//! One stack of idle objects behind its lock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ages::Ages;

/// The most objects that move from one shard to another at once.
const MOVED_MAX: usize = 16;

/// A stack of idle objects. The last to come is the first to go; the first to come expires first.
#[repr(align(128))]
#[derive(Debug)]
pub(crate) struct Shard<T> {
    /// How many objects there are. Written under the lock alone, and read without it by who chooses a
    /// shard: what it says may be over by then, so whoever acts on it looks again under the lock. Relaxed
    /// for that reason.
    len: AtomicUsize,
    room: usize,
    stack: Mutex<Stack<T>>,
}

#[derive(Debug)]
struct Stack<T> {
    /// The top is at the back.
    idle: VecDeque<T>,
    ages: Ages,
    counts: Counts,
    /// Takes nothing any more.
    closed: bool,
}

/// What has passed through a shard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Objects taken off the stack for a caller.
    pub(crate) hits: u64,
    /// Objects that a caller put onto the stack.
    pub(crate) returned: u64,
    /// Objects that expired.
    pub(crate) expired: u64,
    /// Objects there now.
    pub(crate) idle: u64,
}

impl<T> Shard<T> {
    /// An empty shard for at most `room` objects.
    pub(crate) fn new(room: usize) -> Self {
        let stack = Stack {
            idle: VecDeque::new(),
            ages: Ages::default(),
            counts: Counts::default(),
            closed: false,
        };
        Self { len: AtomicUsize::new(0), room, stack: Mutex::new(stack) }
    }

    /// Takes the object that came last.
    pub(crate) fn pop(&self) -> Option<T> {
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut stack = self.lock();
        let object = stack.idle.pop_back()?;
        stack.counts.hits += 1;
        self.popped(&mut stack);
        Some(object)
    }

    /// Takes the upper half, to be kept elsewhere: up to [`MOVED_MAX`] objects, the oldest first.
    pub(crate) fn pop_half(&self) -> VecDeque<T> {
        if self.len.load(Ordering::Relaxed) == 0 {
            return VecDeque::new();
        }
        let mut stack = self.lock();
        let len = stack.idle.len();
        let half = stack.idle.split_off(len - len.div_ceil(2).min(MOVED_MAX));
        self.popped(&mut stack);
        half
    }

    /// Puts an object that a caller had on top, or gives it back if there is no room for it.
    pub(crate) fn push(&self, object: T) -> Result<(), T> {
        if self.len.load(Ordering::Relaxed) >= self.room {
            return Err(object);
        }
        let mut stack = self.lock();
        self.push_locked(&mut stack, object)?;
        stack.counts.returned += 1;
        Ok(())
    }

    /// Takes one object of `moved` for a caller and keeps the others, as far as there is room; those for
    /// which there is none stay in `moved`.
    pub(crate) fn take_over(&self, moved: &mut VecDeque<T>) -> Option<T> {
        let wanted = moved.pop_back()?;
        let mut stack = self.lock();
        stack.counts.hits += 1;
        while let Some(object) = moved.pop_front() {
            if let Err(refused) = self.push_locked(&mut stack, object) {
                moved.push_front(refused);
                break;
            }
        }
        Some(wanted)
    }

    /// Keeps what another shard had, as far as there is room.
    pub(crate) fn keep(&self, moved: &mut VecDeque<T>) {
        if self.len.load(Ordering::Relaxed) >= self.room {
            return;
        }
        let mut stack = self.lock();
        while let Some(object) = moved.pop_front() {
            if let Err(refused) = self.push_locked(&mut stack, object) {
                moved.push_front(refused);
                return;
            }
        }
    }

    /// Notes what rests here, so that it expires one TTL from now.
    pub(crate) fn look(&self, now: Instant, ttl: Duration) {
        let mut stack = self.lock();
        let height = stack.idle.len();
        stack.ages.look(now, ttl, height);
    }

    /// Takes the object at the bottom if it has been idle for the TTL.
    pub(crate) fn pop_expired(&self, now: Instant, ttl: Duration) -> Option<T> {
        let mut stack = self.lock();
        let height = stack.idle.len();
        if stack.ages.look(now, ttl, height) == 0 {
            return None;
        }
        let object = stack.idle.pop_front();
        stack.ages.removed_from_bottom();
        stack.counts.expired += 1;
        self.len.store(stack.idle.len(), Ordering::Relaxed);
        object
    }

    /// Gives back memory that the stack itself has taken for more objects than it has now.
    pub(crate) fn shrink(&self) {
        let mut stack = self.lock();
        let len = stack.idle.len();
        if stack.idle.capacity() / 4 > len {
            stack.idle.shrink_to(len * 2);
        }
    }

    /// Takes everything out, and nothing in any more.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let mut stack = self.lock();
        stack.closed = true;
        stack.ages = Ages::default();
        self.len.store(0, Ordering::Relaxed);
        std::mem::take(&mut stack.idle)
    }

    pub(crate) fn counts(&self) -> Counts {
        let stack = self.lock();
        Counts { idle: stack.idle.len() as u64, ..stack.counts }
    }

    fn push_locked(&self, stack: &mut Stack<T>, object: T) -> Result<(), T> {
        let has_room = !stack.closed && stack.idle.len() < self.room;
        // No memory for the stack to grow is no reason to end the process: the object is dropped.
        if !has_room || stack.idle.try_reserve(1).is_err() {
            return Err(object);
        }
        stack.idle.push_back(object);
        self.len.store(stack.idle.len(), Ordering::Relaxed);
        Ok(())
    }

    fn popped(&self, stack: &mut Stack<T>) {
        let len = stack.idle.len();
        stack.ages.popped_to(len);
        self.len.store(len, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Stack<T>> {
        // No foreign code runs under the lock, so nothing of a user's can have poisoned it.
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
