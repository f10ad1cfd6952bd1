//! The protocol of groups and blocks under loom, which tries every interleaving.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p tripod-metrics --lib --release cells::model`.
//! The table of a thread is left out: it is touched by its own thread only.

use loom::thread;

use super::backing::{Backing, ChunkRef};
use super::block::Block;
use super::group::Group;
use crate::sync::Arc;

#[test]
fn a_chunk_that_changes_hands_keeps_every_increment() {
    let mut model = loom::model::Builder::new();
    // Without a bound it takes more than a minute. Four switches beside those at a lock that is taken
    // lead to every order in which three threads can come, write, and go.
    model.preemption_bound = Some(4);
    model.check(|| {
        let group = Arc::new(Group::new(None));
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let group = Arc::clone(&group);
                thread::spawn(move || {
                    let chunk = group.adopt();
                    chunk.add(0, 1);
                    chunk.add(0, 1);
                    group.release(&chunk);
                })
            })
            .collect();
        let seen = group.sum(0);
        let later = group.sum(0);
        assert!(seen <= later && later <= 4, "a total never falls: {seen} {later}");
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(group.sum(0), 4);
        assert_eq!(group.chunks_count(), 1, "what one thread left is used or folded");
    });
}

#[test]
fn a_thread_without_storage_writes_beside_one_that_comes_and_goes() {
    loom::model(|| {
        let group = Arc::new(Group::new(None));
        let owner = {
            let group = Arc::clone(&group);
            thread::spawn(move || {
                let chunk = group.adopt();
                chunk.add(1, 5);
                group.release(&chunk);
            })
        };
        group.with_unowned(|chunk| chunk.add(1, 7));
        owner.join().unwrap();
        assert_eq!(group.sum(1), 12);
    });
}

#[test]
fn floats_are_folded_as_floats() {
    loom::model(|| {
        let group = Arc::new(Group::new(None));
        group.mark_floats([2].into_iter());
        let other = {
            let group = Arc::clone(&group);
            thread::spawn(move || {
                let chunk = group.adopt();
                chunk.add_float(2, 0.5);
                group.release(&chunk);
            })
        };
        let chunk = group.adopt();
        chunk.add_float(2, 0.25);
        group.release(&chunk);
        other.join().unwrap();
        assert_eq!(group.sum_float(2).to_bits(), 0.75_f64.to_bits());
        let mut totals = [0; super::CHUNK_CELLS];
        group.sums(&mut totals);
        assert_eq!(f64::from_bits(totals[2]).to_bits(), 0.75_f64.to_bits());
    });
}

#[test]
fn a_block_is_never_seen_half_changed() {
    let mut model = loom::model::Builder::new();
    // The reader tries again without end, so the depth is bounded instead.
    model.preemption_bound = Some(4);
    model.check(|| {
        let group = Arc::new(Group::new(None));
        group.mark_floats(Block::SUMS);
        let writer = {
            let group = Arc::clone(&group);
            thread::spawn(move || {
                let chunk = group.adopt();
                Block::at(&chunk, 0).observe(0, 1.0);
                Block::at(&chunk, 0).observe(1, 1.0);
                group.release(&chunk);
            })
        };
        let mut buckets = [0; 2];
        let sum = group.read_block(0, &mut buckets);
        assert_eq!((buckets[0] + buckets[1]) as f64, sum, "{buckets:?}");
        assert!(buckets[1] <= buckets[0], "the first comes first: {buckets:?}");
        writer.join().unwrap();
        let mut buckets = [0; 2];
        assert_eq!(group.read_block(0, &mut buckets), 2.0);
        assert_eq!(buckets, [1, 1]);
    });
}

/// Gives out chunks as a file does.
#[derive(Debug)]
struct File;

impl Backing for File {
    fn chunk(&self, _group: u32) -> Option<ChunkRef> {
        Some(ChunkRef::on_heap())
    }
}

#[test]
fn in_a_file_a_chunk_is_left_as_it_is_for_the_next_thread() {
    loom::model(|| {
        let group = Arc::new(Group::new(Some(Arc::new(File))));
        let other = {
            let group = Arc::clone(&group);
            thread::spawn(move || {
                let chunk = group.adopt();
                chunk.add(0, 1);
                group.release(&chunk);
            })
        };
        for _ in 0..2 {
            let chunk = group.adopt();
            chunk.add(0, 1);
            group.release(&chunk);
        }
        let seen = group.sum(0);
        assert!((2..=3).contains(&seen), "{seen}");
        other.join().unwrap();
        assert_eq!(group.sum(0), 3);
        assert!(group.chunks_count() <= 2, "as many as there were threads at once");
    });
}
