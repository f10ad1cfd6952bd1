//! Typed objects: taken, given back, reset, expired, and what foreign code may do to a pool.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use tripod_memory::{ObjectPool, ObjectPoolError, Pooled};

/// Counts its drops.
struct Counted {
    value: u64,
    drops: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

/// A pool of counted objects, and the count.
fn counted(idle_max: usize) -> (ObjectPool<Counted>, Arc<AtomicUsize>) {
    let drops = Arc::new(AtomicUsize::new(0));
    let counter = drops.clone();
    let make = move || Counted { value: 0, drops: counter.clone() };
    let pool = ObjectPool::builder(make).idle_max(idle_max).build().expect("it may keep some");
    (pool, drops)
}

#[test]
fn the_object_that_came_back_last_is_taken_first() {
    let pool = ObjectPool::builder(|| 0_u32).build().unwrap();
    let mut taken: Vec<Pooled<u32>> = (0..3).map(|_| pool.take()).collect();
    for (number, object) in taken.iter_mut().enumerate() {
        **object = number as u32;
    }
    taken.into_iter().for_each(drop);
    let again: Vec<u32> = (0..3).map(|_| pool.take().detach()).collect();
    assert_eq!(again, [2, 1, 0]);
}

#[test]
fn an_object_is_reset_when_it_comes_back_and_not_when_it_is_detached() {
    let resets = Arc::new(AtomicUsize::new(0));
    let counter = resets.clone();
    let pool = ObjectPool::builder(Vec::<u8>::new)
        .reset(move |bytes| {
            counter.fetch_add(1, Ordering::SeqCst);
            bytes.clear();
        })
        .build()
        .unwrap();
    pool.take().push(1);
    assert_eq!(resets.load(Ordering::SeqCst), 1);
    let mut bytes = pool.take();
    assert!(bytes.is_empty());
    bytes.push(2);
    assert_eq!(bytes.detach(), [2]);
    assert_eq!(resets.load(Ordering::SeqCst), 1);
    assert_eq!(pool.stats().out, 0);
}

#[test]
fn what_comes_back_above_idle_max_is_dropped() {
    let (pool, drops) = counted(3);
    let taken: Vec<_> = (0..5).map(|_| pool.take()).collect();
    assert_eq!(pool.stats().out, 5);
    drop(taken);
    assert_eq!(drops.load(Ordering::SeqCst), 2);
    assert_eq!((pool.stats().idle, pool.stats().dropped), (3, 2));
}

#[test]
fn a_pool_that_could_keep_nothing_is_refused() {
    let without_ttl = ObjectPool::builder(|| 0).ttl(Duration::ZERO).build();
    assert_eq!(without_ttl.err(), Some(ObjectPoolError::ZeroTtl));
    let without_room = ObjectPool::builder(|| 0).idle_max(0).build();
    assert_eq!(without_room.err(), Some(ObjectPoolError::ZeroIdleMax));
}

#[test]
fn no_ttl_is_too_long() {
    let pool = ObjectPool::builder(|| 0).ttl(Duration::MAX).build().unwrap();
    drop(pool.take());
    let start = Instant::now();
    pool.collect(start, usize::MAX);
    assert_eq!(pool.collect(start + Duration::from_secs(1 << 30), usize::MAX), 0);
}

#[test]
fn what_is_used_in_between_does_not_expire() {
    let (pool, drops) = counted(8);
    let second = Duration::from_secs(1);
    let start = Instant::now();
    let taken: Vec<_> = (0..8).map(|_| pool.take()).collect();
    drop(taken);
    // Thirty seconds of work that needs two objects at a time: six are of no use to anybody.
    for passed in 0..=30 {
        let taken = (pool.take(), pool.take());
        drop(taken);
        pool.collect(start + second * passed, usize::MAX);
    }
    assert_eq!((pool.stats().idle, drops.load(Ordering::SeqCst)), (2, 6));
    pool.collect(start + second * 62, usize::MAX);
    assert_eq!(pool.stats().idle, 0);
    assert_eq!(drops.load(Ordering::SeqCst), 8);
}

#[test]
fn a_panic_in_make_leaves_the_pool_as_it_was() {
    let fails = Arc::new(AtomicBool::new(true));
    let switch = fails.clone();
    let pool = ObjectPool::builder(move || {
        assert!(!switch.load(Ordering::SeqCst), "this one cannot be made");
        7
    })
    .build()
    .unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| pool.take())).is_err());
    assert_eq!((pool.stats().misses, pool.stats().out), (0, 0));
    fails.store(false, Ordering::SeqCst);
    assert_eq!(*pool.take(), 7);
}

#[test]
fn a_panic_in_reset_drops_that_object_and_no_other() {
    let drops = Arc::new(AtomicUsize::new(0));
    let counter = drops.clone();
    let pool = ObjectPool::builder(move || Counted { value: 0, drops: counter.clone() })
        .reset(|object| assert_ne!(object.value, 13, "this one cannot be reset"))
        .build()
        .unwrap();
    let (good, mut bad) = (pool.take(), pool.take());
    drop(good);
    bad.value = 13;
    assert!(catch_unwind(AssertUnwindSafe(|| drop(bad))).is_err());
    let stats = pool.stats();
    assert_eq!((stats.idle, stats.dropped, stats.out), (1, 1, 0));
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    assert_eq!(pool.take().value, 0);
}

#[test]
fn an_object_held_by_a_panicking_thread_is_not_used_again() {
    let (pool, drops) = counted(8);
    let pool_of_thread = pool.clone();
    let thread = std::thread::spawn(move || {
        let mut object = pool_of_thread.take();
        object.value = 1;
        panic!("half way through");
    });
    assert!(thread.join().is_err());
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    assert_eq!((pool.take().value, pool.stats().dropped), (0, 1));
}

#[test]
fn a_panic_in_the_drop_of_an_expired_object_leaves_the_others_for_the_next_call() {
    struct Explosive(bool);
    impl Drop for Explosive {
        fn drop(&mut self) {
            assert!(!self.0, "this one cannot be dropped");
        }
    }
    let pool =
        ObjectPool::builder(|| Explosive(false)).ttl(Duration::from_secs(1)).build().unwrap();
    let (mut first, second) = (pool.take(), pool.take());
    first.0 = true;
    drop(first);
    drop(second);
    let start = Instant::now();
    assert_eq!(pool.collect(start, usize::MAX), 0);
    let later = start + Duration::from_secs(1);
    assert!(catch_unwind(AssertUnwindSafe(|| pool.collect(later, usize::MAX))).is_err());
    assert_eq!(pool.stats().idle, 1);
    assert_eq!(pool.collect(later, usize::MAX), 1);
}

/// Were a lock held, this would never end: there may be only one shard.
#[test]
fn make_reset_and_drop_may_use_the_pool() {
    struct Chatty;
    static POOL: OnceLock<ObjectPool<Chatty>> = OnceLock::new();
    fn talk() {
        let pool = POOL.get().expect("it is set below");
        assert!(pool.stats().hit_rate() <= 1.0);
        pool.collect(Instant::now(), 0);
    }
    impl Drop for Chatty {
        fn drop(&mut self) {
            talk();
        }
    }
    let make = || {
        talk();
        Chatty
    };
    let ttl = Duration::from_secs(1);
    let pool = POOL.get_or_init(|| {
        ObjectPool::builder(make).reset(|_| talk()).ttl(ttl).idle_max(1).build().unwrap()
    });
    let start = Instant::now() + ttl;
    // The second one comes back to a full pool, and is dropped.
    drop((pool.take(), pool.take()));
    assert_eq!(pool.stats().dropped, 1);
    pool.collect(start, usize::MAX);
    assert_eq!(pool.collect(start + ttl, usize::MAX), 1);
}

#[test]
fn the_last_handle_drops_what_is_idle_and_what_is_out_is_dropped_when_it_comes_back() {
    let (pool, drops) = counted(8);
    let other_handle = pool.clone();
    let (out, longer) = (pool.take(), pool.take());
    drop(pool.take());
    drop(pool);
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    drop(other_handle);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    assert_eq!(out.value, 0);
    // While another one is still out: nothing must rest where nobody can take it.
    drop(out);
    assert_eq!(drops.load(Ordering::SeqCst), 2);
    drop(longer);
    assert_eq!(drops.load(Ordering::SeqCst), 3);
}

#[test]
fn objects_that_only_may_be_sent_go_back_on_another_thread_and_are_found_again() {
    let pool = ObjectPool::builder(|| Cell::new(0_u64)).build().unwrap();
    let (to_consumer, objects) = channel::<Pooled<Cell<u64>>>();
    let consumer =
        std::thread::spawn(move || objects.iter().map(|object| object.take()).sum::<u64>());
    for number in 0..1000 {
        let object = pool.take();
        object.set(number);
        to_consumer.send(object).unwrap();
    }
    drop(to_consumer);
    assert_eq!(consumer.join().unwrap(), 999 * 1000 / 2);
    let stats = pool.stats();
    assert_eq!((stats.out, stats.dropped, stats.idle), (0, 0, stats.misses));
    // The consumer's thread is gone; what came back on it is not.
    let all: Vec<_> = (0..stats.idle).map(|_| pool.take()).collect();
    assert_eq!((pool.stats().misses, pool.stats().idle), (stats.misses, 0));
    drop(all);
}

#[test]
fn an_object_may_come_back_while_its_thread_ends() {
    thread_local! {
        static KEPT: RefCell<Option<Pooled<Counted>>> = const { RefCell::new(None) };
    }
    let (pool, drops) = counted(8);
    let pool_of_thread = pool.clone();
    let thread = std::thread::spawn(move || KEPT.set(Some(pool_of_thread.take())));
    thread.join().unwrap();
    assert_eq!((pool.stats().idle, drops.load(Ordering::SeqCst)), (1, 0));
}

#[test]
fn a_thousand_short_threads_need_as_many_objects_as_ran_at_once() {
    let (pool, drops) = counted(64);
    for _ in 0..250 {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| pool.take().value += 1);
            }
        });
    }
    let stats = pool.stats();
    assert_eq!((stats.hits + stats.misses, stats.out), (1000, 0));
    // Four at once; and three threads that each move half of what they find hide at most seven.
    assert!(stats.misses <= 8, "{stats:?}");
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    let uses: u64 = (0..stats.idle).map(|_| pool.take().detach().value).sum();
    assert_eq!(uses, 1000);
}

#[test]
fn no_object_has_two_holders_while_eight_threads_take_pass_on_detach_and_collect() {
    const ROUNDS: usize = 2_000;
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let make = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        AtomicBool::new(false)
    };
    let pool = ObjectPool::builder(make)
        .reset(|is_held| assert!(is_held.swap(false, Ordering::SeqCst), "reset without a holder"))
        .idle_max(16)
        .ttl(Duration::from_millis(1))
        .build()
        .unwrap();
    let start = Barrier::new(8);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (pool, start) = (&pool, &start);
            scope.spawn(move || {
                let mut held = Vec::new();
                start.wait();
                for round in 0..ROUNDS {
                    let object = pool.take();
                    assert!(!object.swap(true, Ordering::SeqCst), "two holders");
                    held.push(object);
                    match (round + thread) % 7 {
                        0 => held.clear(),
                        1 => drop(held.pop().map(Pooled::detach)),
                        2 => drop(pool.collect(began + Duration::from_millis(round as u64), 4)),
                        _ => drop(held.swap_remove(0)),
                    }
                }
            });
        }
    });
    let stats = pool.stats();
    assert_eq!((stats.out, stats.misses), (0, made.load(Ordering::SeqCst) as u64));
    assert_eq!(stats.hits + stats.misses, 8 * ROUNDS as u64);
    assert!(stats.idle <= 16, "{stats:?}");
}
