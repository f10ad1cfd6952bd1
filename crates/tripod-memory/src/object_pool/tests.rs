//! Pools with a given number of shards, which the machine decides elsewhere.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use super::inner::Inner;
use super::*;

const TTL: Duration = Duration::from_secs(10);

/// A pool whose objects are numbered from 0 on.
fn numbered(shards: usize, idle_max: usize) -> Inner<u64> {
    let next = AtomicU64::new(0);
    let make = Box::new(move || next.fetch_add(1, Ordering::SeqCst));
    Inner::with_shards(shards, make, None, TTL, idle_max)
}

#[test]
fn who_finds_the_own_shard_empty_takes_half_of_another_before_a_new_one_is_made() {
    let inner = numbered(4, 64);
    let away = (inner.home() + 1) % 4;
    let taken: Vec<u64> = (0..8).map(|_| inner.take(away)).collect();
    taken.into_iter().for_each(|object| inner.give_back(object));
    // They lie in the shard of this thread; the thread of `away` gets every one, and none twice.
    let again: BTreeSet<u64> = (0..8).map(|_| inner.take(away)).collect();
    assert_eq!(again, (0..8).collect());
    let stats = inner.stats();
    assert_eq!((stats.hits, stats.misses, stats.idle, stats.out), (8, 8, 0, 8));
    assert_eq!(inner.take(away), 8);
}

#[test]
fn one_thread_may_fill_all_shards_and_nothing_is_kept_above_idle_max() {
    for (shards, idle_max) in [(1, 1), (4, 4), (4, 7), (8, 1000)] {
        let inner = numbered(shards, idle_max);
        let home = inner.home();
        let taken: Vec<u64> = (0..idle_max as u64 + 5).map(|_| inner.take(home)).collect();
        taken.into_iter().for_each(|object| inner.give_back(object));
        let stats = inner.stats();
        assert_eq!((stats.idle, stats.dropped, stats.out), (idle_max as u64, 5, 0));
    }
}

#[test]
fn every_shard_expires_on_time_even_if_a_bound_stops_at_the_first() {
    let inner = numbered(4, 8);
    let home = inner.home();
    let taken: Vec<u64> = (0..8).map(|_| inner.take(home)).collect();
    taken.into_iter().for_each(|object| inner.give_back(object));
    let start = Instant::now();
    assert_eq!(inner.collect(start, 0), 0);
    assert_eq!(inner.collect(start + TTL, 3), 3);
    assert_eq!(inner.collect(start + TTL, 3), 3);
    assert_eq!(inner.collect(start + TTL, 3), 2);
    assert_eq!((inner.stats().expired, inner.stats().idle), (8, 0));
}

#[test]
fn a_collector_ends_with_the_pool_and_does_not_keep_it() {
    let pool = ObjectPool::builder(|| 0_u64).ttl(TTL).build().unwrap();
    let collected = pool.collected();
    drop(pool.take());
    let start = Instant::now();
    assert_eq!(collected.collect(start, 10), Some(0));
    assert_eq!(collected.collect(start + TTL, 10), Some(1));
    drop(pool);
    assert_eq!(collected.collect(start + TTL, 10), None);
    assert_eq!(collected.interval(|| unreachable!("nothing is made any more")), None);
}

#[test]
fn an_empty_pool_is_not_looked_at_until_an_object_is_made() {
    static WAKES: AtomicUsize = AtomicUsize::new(0);
    fn wake() {
        WAKES.fetch_add(1, Ordering::SeqCst);
    }
    let pool = ObjectPool::builder(|| 0_u64).ttl(TTL).build().unwrap();
    let collected = pool.collected();
    assert_eq!(collected.interval(wake), None);
    let out = pool.take();
    assert_eq!(WAKES.load(Ordering::SeqCst), 1);
    drop(pool.take());
    assert_eq!(WAKES.load(Ordering::SeqCst), 1, "once is enough");
    assert_eq!(collected.interval(wake), Some(TTL / 8));
    drop(out);
    collected.collect(Instant::now(), 10);
    assert_eq!(collected.collect(Instant::now() + TTL, 10), Some(2));
    assert_eq!(collected.interval(wake), None);
}

/// Two threads, each with a shard of its own and only one object idle between them at a time.
#[test]
fn objects_that_move_between_shards_are_neither_lost_nor_handed_out_twice() {
    const ROUNDS: usize = if cfg!(miri) { 50 } else { 20_000 };
    let inner = Arc::new(numbered(2, 4));
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                start.wait();
                for round in 0..ROUNDS {
                    // The homes are given here, not by the thread, so that both shards see all of it.
                    let first = inner.take(round % 2);
                    let second = inner.take(round % 2);
                    assert_ne!(first, second);
                    inner.give_back(first);
                    inner.give_back(second);
                }
            });
        }
    });
    let stats = inner.stats();
    assert_eq!(stats.out, 0);
    assert_eq!(stats.hits + stats.misses, 4 * ROUNDS as u64);
    assert_eq!(stats.idle + stats.dropped, stats.misses);
    let home = inner.home();
    let idle: BTreeSet<u64> = (0..stats.idle).map(|_| inner.take(home)).collect();
    assert_eq!(idle.len() as u64, stats.idle, "an object was there twice");
}
