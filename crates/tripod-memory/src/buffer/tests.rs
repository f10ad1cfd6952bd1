//! Buffers on several threads, small enough for Miri, which checks each access to their memory.

use std::sync::{Barrier, mpsc};
use std::thread;

use super::*;
use crate::MemoryManager;

const ROUNDS: usize = if cfg!(miri) { 4 } else { 1000 };
const THREADS: usize = 3;

/// One length in each kind of class, and one above them all.
const LENGTHS: [usize; 4] = [64, 3000, 20_000, 100_000];

fn manager() -> MemoryManager {
    let builder = MemoryManager::builder().background_collection(false);
    builder.size_classes([64, 4096, 20_000]).unwrap().build().unwrap()
}

/// Writes to both ends, which is as good as all of it.
fn mark(buffer: &mut Buffer, mark: u8) {
    if let [first, .., last] = &mut buffer[..] {
        (*first, *last) = (mark, mark);
    }
}

#[track_caller]
fn check_mark(buffer: &Buffer, mark: u8) {
    assert_eq!((buffer.first(), buffer.last()), (Some(&mark), Some(&mark)));
}

#[track_caller]
fn check_all_is_back(memory: &MemoryManager) {
    let stats = memory.stats();
    assert_eq!((stats.used_bytes, stats.idle_bytes), (0, memory.trim()));
    assert_eq!(memory.stats().idle_bytes, 0);
}

#[test]
fn buffers_of_threads_are_their_own_alone() {
    let memory = manager();
    thread::scope(|scope| {
        for id in 0..THREADS as u8 {
            let memory = &memory;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let len = LENGTHS[round % LENGTHS.len()];
                    let mut held = [(); 3].map(|()| memory.acquire(len).unwrap());
                    held.iter_mut().zip(id * 3..).for_each(|(buffer, id)| mark(buffer, id));
                    held.iter().zip(id * 3..).for_each(|(buffer, id)| check_mark(buffer, id));
                }
            });
        }
    });
    check_all_is_back(&memory);
}

#[test]
fn buffers_go_back_on_another_thread_than_they_came_from() {
    let memory = manager();
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel::<Buffer>();
        scope.spawn(move || receiver.iter().for_each(|buffer| check_mark(&buffer, 7)));
        for round in 0..ROUNDS {
            let mut buffer = memory.acquire(LENGTHS[round % LENGTHS.len()]).unwrap();
            mark(&mut buffer, 7);
            sender.send(buffer).unwrap();
        }
        drop(sender);
    });
    check_all_is_back(&memory);
}

#[test]
fn buffers_outlive_their_manager_and_its_threads() {
    let memory = manager();
    let acquire = |len| {
        let mut buffer = memory.acquire(len).unwrap();
        mark(&mut buffer, 9);
        buffer
    };
    let here = LENGTHS.map(acquire);
    let there = thread::scope(|scope| scope.spawn(|| LENGTHS.map(acquire)).join().unwrap());
    drop(memory);
    let dropper = thread::spawn(move || there.iter().for_each(|buffer| check_mark(buffer, 9)));
    here.iter().for_each(|buffer| check_mark(buffer, 9));
    drop(here);
    dropper.join().unwrap();
}

#[test]
fn what_a_thread_had_cached_is_there_for_others_when_it_has_ended() {
    let memory = manager();
    let cached = thread::scope(|scope| {
        scope.spawn(|| memory.acquire(4096).unwrap().as_ptr().addr()).join().unwrap()
    });
    assert_eq!(memory.acquire(4096).unwrap().as_ptr().addr(), cached);
    check_all_is_back(&memory);
}

#[test]
fn an_acquire_calls_back_what_other_threads_have_cached() {
    let budget = 20 * 4096;
    let builder = MemoryManager::builder().budget_bytes(budget).background_collection(false);
    let memory = builder.size_classes([4096, budget as usize]).unwrap().build().unwrap();
    let (cached, called_back) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut held = [(); 20].map(|()| memory.acquire(4096).unwrap());
            held.iter_mut().for_each(|buffer| mark(buffer, 1));
            drop(held);
            cached.wait();
            called_back.wait();
        });
        cached.wait();
        let mut whole = memory.acquire(budget as usize).unwrap();
        mark(&mut whole, 2);
        called_back.wait();
    });
    check_all_is_back(&memory);
}

#[test]
fn a_look_at_the_header_takes_nothing_from_a_pointer_into_the_buffer() {
    let memory = manager();
    let mut buffer = memory.acquire(64).unwrap();
    let pointer = buffer.as_mut_ptr();
    let capacity = buffer.capacity();
    // SAFETY: the buffer is this long, and nothing else uses it.
    unsafe { pointer.add(capacity - 1).write(3) };
    assert_eq!(buffer.last(), Some(&3));
}
