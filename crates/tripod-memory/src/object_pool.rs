//! Typed objects that are expensive to make, kept for the next one who needs one.
//!
//! An [`ObjectPool`] keeps idle objects in shards: each thread has one it starts with, and each is a
//! stack behind a short lock of its own. An object that was taken on one thread and comes back on
//! another rests in the shard of the other; who finds their own shard empty moves half of another
//! one over.
//!
//! # What holds
//! - No code of the user (`make`, `reset`, the `Drop` of an object) runs with a lock held. A panic in it
//!   costs the object it concerned and nothing else.
//! - There are never more idle objects than `idle_max`, and a new one is made only if no shard was seen
//!   with one.
//! - Taking and giving back read no clock. [`ObjectPool::collect`] is told the time and notes how high
//!   each stack is; what still lies below that height one TTL later has not moved ([`ages`]).
//! - On one thread, taking and giving back write to memory that other threads leave alone: the shard,
//!   its counts, and a count of references of its own ([`Lane`]).
//!
//! # Where it stops
//! It does not know how large an object is, so no budget counts it. It has no thread of its own: nothing
//! expires unless somebody collects, as a manager does for the pools that are built of it. Locks are the standard library's under loom, too: each guards one
//! stack, no order between two of them matters, and so there is nothing for a model to try.

mod ages;
mod inner;
mod shard;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::manager::MemoryManager;

use self::inner::{Inner, Make, Reset};

/// How long an object may rest if the builder is not told otherwise.
const TTL_DEFAULT: Duration = Duration::from_secs(30);

/// How many objects may rest if the builder is not told otherwise.
const IDLE_MAX_DEFAULT: usize = 1024;

/// A pool of objects that are made when there are none, reset when they come back, and dropped when they
/// have been idle for too long.
///
/// Clones are handles on the same pool. When the last one is dropped, so are the idle objects; those that
/// are out stay usable and are dropped when they come back. `T` need only be [`Send`].
///
/// # Examples
/// ```
/// # use tripod_memory::ObjectPool;
/// let pool = ObjectPool::builder(|| String::with_capacity(4096)).reset(String::clear).build()?;
///
/// let mut line = pool.take();
/// line.push_str("a line");
/// drop(line);
///
/// let again = pool.take();
/// assert!(again.is_empty() && again.capacity() >= 4096);
/// assert_eq!((pool.stats().hits, pool.stats().misses), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ObjectPool<T: Send + 'static> {
    open: Arc<Open<T>>,
}

impl<T: Send + 'static> ObjectPool<T> {
    /// Starts to describe a pool whose objects `make` makes.
    ///
    /// `make` runs on the thread that takes an object while none is idle. If it panics, the panic is the
    /// taker's, and the pool is as it was.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tripod_memory::ObjectPool;
    /// let pool = ObjectPool::builder(|| vec![0_u8; 1 << 16])
    ///     .reset(|bytes| bytes.truncate(1 << 16))
    ///     .ttl(Duration::from_secs(5))
    ///     .idle_max(64)
    ///     .build()?;
    /// assert_eq!(pool.take().len(), 1 << 16);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(make: impl Fn() -> T + Send + Sync + 'static) -> ObjectPoolBuilder<T> {
        ObjectPoolBuilder {
            make: Box::new(make),
            reset: None,
            ttl: TTL_DEFAULT,
            idle_max: IDLE_MAX_DEFAULT,
            collected_by: None,
        }
    }

    /// Takes an idle object, the one that came back last if it did so on this thread, or makes one.
    ///
    /// # Panics
    /// If `make` does.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::ObjectPool;
    /// let pool = ObjectPool::builder(Vec::<u64>::new).reset(Vec::clear).build()?;
    /// let mut numbers = pool.take();
    /// numbers.extend([1, 2, 3]);
    /// assert_eq!(numbers.iter().sum::<u64>(), 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take(&self) -> Pooled<T> {
        let Open { lanes, inner } = &*self.open;
        let home = inner.home();
        Pooled { object: Some(inner.take(home)), lane: lanes[home].clone() }
    }

    /// Drops objects that have been idle for the TTL or longer, at most `max` of them, and answers how many
    /// it dropped.
    ///
    /// Idle time begins with the first call that finds the object idle, or up to a sixteenth of the TTL
    /// later: an object is never dropped early, and late by that much and the time between two calls. An
    /// answer of `max` says that there may be more to do. Other threads are held up for the removal of one
    /// object at a time, whose `Drop` runs outside of any lock.
    ///
    /// # Panics
    /// If the `Drop` of an object does; the others then wait for the next call.
    ///
    /// # Examples
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tripod_memory::ObjectPool;
    /// let pool = ObjectPool::builder(String::new).ttl(Duration::from_secs(10)).build()?;
    /// drop(pool.take());
    ///
    /// let start = Instant::now();
    /// assert_eq!(pool.collect(start, usize::MAX), 0);
    /// assert_eq!(pool.collect(start + Duration::from_secs(9), usize::MAX), 0);
    /// assert_eq!(pool.collect(start + Duration::from_secs(10), usize::MAX), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn collect(&self, now: Instant, max: usize) -> usize {
        self.open.inner.collect(now, max)
    }

    /// Returns the pool's counts; exact when no object is being taken or given back.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::ObjectPool;
    /// let pool = ObjectPool::builder(String::new).build()?;
    /// let (first, second) = (pool.take(), pool.take());
    /// drop(first);
    /// assert_eq!((pool.stats().idle, pool.stats().out), (1, 1));
    /// # drop(second);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> ObjectPoolStats {
        self.open.inner.stats()
    }

    /// Returns what a collector needs to collect this pool without keeping it.
    pub(crate) fn collected(&self) -> Box<dyn Collect> {
        Box::new(Arc::downgrade(&self.open.inner))
    }
}

/// A pool as its collector sees it, whatever its objects are. It is gone when its handles are and all
/// objects have come back.
pub(crate) trait Collect: Send + Sync {
    /// See [`ObjectPool::collect`]; `None` if the pool is gone.
    fn collect(&self, now: Instant, max: usize) -> Option<usize>;

    /// How often there may be something to look at; none if nothing is idle or out. Then `wake` is
    /// called when the next object is made.
    fn interval(&self, wake: fn()) -> Option<Duration>;
}

impl<T: Send + 'static> Collect for Weak<Inner<T>> {
    fn collect(&self, now: Instant, max: usize) -> Option<usize> {
        Some(self.upgrade()?.collect(now, max))
    }

    fn interval(&self, wake: fn()) -> Option<Duration> {
        let inner = self.upgrade()?;
        inner.is_to_be_watched(wake).then(|| inner.ttl() / 8)
    }
}

impl MemoryManager {
    /// Starts to describe a pool of objects that `make` makes, which this manager collects: objects
    /// that are idle for too long go as idle buffers do, in the background or by
    /// [`collect`](Self::collect).
    ///
    /// For the rest as [`ObjectPool::builder`]; no budget counts the objects. The `Drop` of an object
    /// then runs on the thread that collects; a panic in it is caught and
    /// [counted](crate::MemoryStats::panics). The pool may outlive the manager and is collected by
    /// nobody then. A time to live of the pool is kept to an eighth.
    ///
    /// # Examples
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().background_collection(false).build()?;
    /// let pool = memory.object_pool(String::new).ttl(Duration::from_secs(10)).build()?;
    /// drop(pool.take());
    ///
    /// let start = Instant::now();
    /// memory.collect(start, Duration::from_millis(1));
    /// memory.collect(start + Duration::from_secs(10), Duration::from_millis(1));
    /// assert_eq!((pool.stats().idle, pool.stats().expired), (0, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn object_pool<T: Send + 'static>(
        &self,
        make: impl Fn() -> T + Send + Sync + 'static,
    ) -> ObjectPoolBuilder<T> {
        ObjectPoolBuilder { collected_by: Some(self.clone()), ..ObjectPool::builder(make) }
    }
}

impl<T: Send + 'static> Clone for ObjectPool<T> {
    fn clone(&self) -> Self {
        Self { open: self.open.clone() }
    }
}

impl<T: Send + 'static> fmt::Debug for ObjectPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.open.inner;
        f.debug_struct("ObjectPool")
            .field("ttl", &inner.ttl())
            .field("stats", &inner.stats())
            .finish()
    }
}

/// Describes a pool before it is built; comes from [`ObjectPool::builder`] and
/// [`MemoryManager::object_pool`].
///
/// # Examples
/// ```
/// # use tripod_memory::ObjectPool;
/// let pool = ObjectPool::builder(Vec::<u8>::new).reset(Vec::clear).idle_max(2).build()?;
/// pool.take().push(1);
/// assert!(pool.take().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a pool exists only once it is built"]
pub struct ObjectPoolBuilder<T> {
    make: Make<T>,
    reset: Option<Reset<T>>,
    ttl: Duration,
    idle_max: usize,
    collected_by: Option<MemoryManager>,
}

impl<T: Send + 'static> ObjectPoolBuilder<T> {
    /// Sets what is done to an object that comes back; default: nothing.
    ///
    /// It runs on the thread that gives the object back. If it panics, the object is dropped, and the
    /// panic is that of whoever gave it back. An object that is dropped by a panicking thread is not reset
    /// but dropped: what its holder was about to do with it is half done.
    ///
    /// # Examples
    /// ```
    /// # use std::collections::HashMap;
    /// # use tripod_memory::ObjectPool;
    /// let pool = ObjectPool::builder(HashMap::<u32, u32>::new).reset(HashMap::clear).build()?;
    /// pool.take().insert(1, 1);
    /// assert!(pool.take().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reset(mut self, reset: impl Fn(&mut T) + Send + Sync + 'static) -> Self {
        self.reset = Some(Box::new(reset));
        self
    }

    /// Sets how long an object may be idle before it is dropped; default: 30 seconds.
    ///
    /// [`Duration::MAX`] keeps it for good.
    ///
    /// # Examples
    /// ```
    /// # use std::time::{Duration, Instant};
    /// # use tripod_memory::ObjectPool;
    /// let pool = ObjectPool::builder(String::new).ttl(Duration::from_secs(5)).build()?;
    /// drop(pool.take());
    /// let start = Instant::now();
    /// pool.collect(start, usize::MAX);
    /// assert_eq!(pool.collect(start + Duration::from_secs(5), usize::MAX), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how many objects may be idle; default: 1024. What comes back above that is dropped.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::ObjectPool;
    /// let pool = ObjectPool::builder(String::new).idle_max(2).build()?;
    /// drop([pool.take(), pool.take(), pool.take()]);
    /// assert_eq!((pool.stats().idle, pool.stats().dropped), (2, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn idle_max(mut self, objects: usize) -> Self {
        self.idle_max = objects;
        self
    }

    /// Builds the pool; it makes no object yet.
    ///
    /// # Errors
    /// See [`ObjectPoolError`].
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use tripod_memory::{ObjectPool, ObjectPoolError};
    /// let refused = ObjectPool::builder(String::new).ttl(Duration::ZERO).build();
    /// assert_eq!(refused.err(), Some(ObjectPoolError::ZeroTtl));
    /// ```
    pub fn build(self) -> Result<ObjectPool<T>, ObjectPoolError> {
        if self.ttl.is_zero() {
            return Err(ObjectPoolError::ZeroTtl);
        }
        if self.idle_max == 0 {
            return Err(ObjectPoolError::ZeroIdleMax);
        }
        let inner = Arc::new(Inner::new(self.make, self.reset, self.ttl, self.idle_max));
        let lane = || Arc::new(Lane { inner: inner.clone() });
        let lanes = std::iter::repeat_with(lane).take(inner.homes()).collect();
        let pool = ObjectPool { open: Arc::new(Open { lanes, inner }) };
        if let Some(memory) = self.collected_by {
            memory.root().engine().extras.pools.add(pool.collected());
        }
        Ok(pool)
    }
}

impl<T> fmt::Debug for ObjectPoolBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectPoolBuilder")
            .field("ttl", &self.ttl)
            .field("idle_max", &self.idle_max)
            .finish_non_exhaustive()
    }
}

/// Why [`ObjectPoolBuilder::build`] refused a pool.
///
/// # Examples
/// ```
/// # use tripod_memory::{ObjectPool, ObjectPoolError};
/// let refused = ObjectPool::builder(String::new).idle_max(0).build().unwrap_err();
/// assert_eq!(refused, ObjectPoolError::ZeroIdleMax);
/// assert_eq!(
///     refused.to_string(),
///     "object pool may have 0 idle objects, so it could keep nothing"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectPoolError {
    /// No object could be idle for less than no time.
    #[error("object pool has a TTL of 0, so it could keep nothing")]
    ZeroTtl,
    /// A pool that may keep nothing is none.
    #[error("object pool may have 0 idle objects, so it could keep nothing")]
    ZeroIdleMax,
}

/// What a pool says about itself; comes from [`ObjectPool::stats`].
///
/// # Examples
/// ```
/// # use tripod_memory::ObjectPool;
/// let pool = ObjectPool::builder(String::new).build()?;
/// drop(pool.take());
/// let taken = pool.take();
/// let stats = pool.stats();
/// assert_eq!((stats.hits, stats.misses, stats.idle, stats.out), (1, 1, 0, 1));
/// # drop(taken);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectPoolStats {
    /// Objects that were taken and had been idle.
    pub hits: u64,
    /// Objects that were taken and had to be made.
    pub misses: u64,
    /// Objects in the pool now.
    pub idle: u64,
    /// Objects that are taken and have neither come back nor been detached.
    pub out: u64,
    /// Objects that came back and were not kept: above `idle_max`, from a panicking thread, failed in
    /// their reset, or after the pool was gone.
    pub dropped: u64,
    /// Objects that were dropped because they had been idle for the TTL.
    pub expired: u64,
}

impl ObjectPoolStats {
    /// Returns the share of objects taken that had been idle, 0.0 to 1.0; 0.0 if none was taken.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::ObjectPool;
    /// let pool = ObjectPool::builder(String::new).build()?;
    /// for _ in 0..4 {
    ///     pool.take();
    /// }
    /// assert_eq!(pool.stats().hit_rate(), 0.75);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            taken => self.hits as f64 / taken as f64,
        }
    }
}

/// An object on loan from an [`ObjectPool`]; dropping it resets it and gives it back, on whatever thread.
///
/// # Examples
/// ```
/// # use tripod_memory::ObjectPool;
/// let pool = ObjectPool::builder(Vec::<u32>::new).build()?;
/// let mut numbers = pool.take();
/// numbers.push(7);
/// let sum = std::thread::spawn(move || numbers.iter().sum::<u32>()).join().unwrap();
/// assert_eq!((sum, pool.stats().idle), (7, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pooled<T: Send + 'static> {
    /// There until it is detached or dropped.
    object: Option<T>,
    lane: Arc<Lane<T>>,
}

impl<T: Send + 'static> Pooled<T> {
    /// Takes the object out of the pool's hands for good; it is not reset.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::ObjectPool;
    /// let pool = ObjectPool::builder(|| String::from("mine")).build()?;
    /// let mine: String = pool.take().detach();
    /// assert_eq!((mine.as_str(), pool.stats().out), ("mine", 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detach(mut self) -> T {
        let Some(object) = self.object.take() else { unreachable!("{EMPTY}") };
        self.lane.inner.count_detached();
        object
    }
}

/// What would be wrong if there were no object in a [`Pooled`].
const EMPTY: &str = "an object is there until it is detached or dropped";

impl<T: Send + 'static> Deref for Pooled<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let Some(object) = &self.object else { unreachable!("{EMPTY}") };
        object
    }
}

impl<T: Send + 'static> DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut T {
        let Some(object) = &mut self.object else { unreachable!("{EMPTY}") };
        object
    }
}

impl<T: Send + fmt::Debug + 'static> fmt::Debug for Pooled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pooled").field(&**self).finish()
    }
}

impl<T: Send + 'static> Drop for Pooled<T> {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            self.lane.inner.give_back(object);
        }
    }
}

/// What all handles of a pool share; its end is the end of the pool.
struct Open<T: Send + 'static> {
    /// One for every shard. An object that is out holds a reference to the one of the thread that took
    /// it, so that threads do not write to one reference count.
    lanes: Box<[Arc<Lane<T>>]>,
    inner: Arc<Inner<T>>,
}

impl<T: Send + 'static> Drop for Open<T> {
    fn drop(&mut self) {
        self.inner.close();
    }
}

/// A way to the pool; on cache lines of its own, because its reference count is written to often.
#[repr(align(128))]
struct Lane<T> {
    inner: Arc<Inner<T>>,
}
