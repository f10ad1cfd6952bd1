//! A bounded queue from one thread to one other, as small as it can be: what all contenders are
//! sent through, so that it should cost next to nothing.
//!
//! `tail` counts what was pushed and is written by the producer alone, `head` counts what was popped
//! and is written by the consumer alone. The slots from `head` to `tail` hold values and belong to
//! the consumer, the others to the producer. Each end keeps a copy of the other's count and reads
//! the real one only when the copy says that it cannot go on.
#![allow(unsafe_code, reason = "slots are handed over by two counts, which no safe type can say")]

use std::cell::UnsafeCell;
use std::hint;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Values on the way at most.
pub(crate) const CAPACITY: usize = 128;

/// On lines of its own: also the one that the processor fetches beside it.
#[repr(align(128))]
struct Apart<T>(T);

pub(crate) struct Ring<T> {
    head: Apart<AtomicUsize>,
    tail: Apart<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a slot is used by one thread at a time, and values only move from one to the other.
unsafe impl<T: Send> Sync for Ring<T> {}

pub(crate) struct Producer<'a, T> {
    ring: &'a Ring<T>,
    tail: usize,
    /// What `head` has been at least.
    head: usize,
}

pub(crate) struct Consumer<'a, T> {
    ring: &'a Ring<T>,
    head: usize,
    /// What `tail` has been at least.
    tail: usize,
}

impl<T> Ring<T> {
    pub(crate) fn new() -> Self {
        let slots = (0..CAPACITY).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
        let count = || Apart(AtomicUsize::new(0));
        Self { head: count(), tail: count(), slots }
    }

    /// The two ends; there is never another pair at the same time.
    pub(crate) fn split(&mut self) -> (Producer<'_, T>, Consumer<'_, T>) {
        let (head, tail) = (*self.head.0.get_mut(), *self.tail.0.get_mut());
        let ring = &*self;
        (Producer { ring, tail, head }, Consumer { ring, head, tail })
    }

    fn slot(&self, count: usize) -> *mut MaybeUninit<T> {
        self.slots[count % CAPACITY].get()
    }
}

impl<T> Producer<'_, T> {
    /// Puts a value in, and spins while there is no room.
    #[inline(always)]
    pub(crate) fn push(&mut self, value: T) {
        while self.tail - self.head == CAPACITY {
            // Pairs with the Release in `pop`: what was in the slot has been taken out.
            self.head = self.ring.head.0.load(Ordering::Acquire);
            if self.tail - self.head == CAPACITY {
                hint::spin_loop();
            }
        }
        // SAFETY: the slot is none of those from `head` to `tail`, so it is the producer's.
        unsafe { (*self.ring.slot(self.tail)).write(value) };
        self.tail += 1;
        // Pairs with the Acquire in `pop`: the value is there when the count says so.
        self.ring.tail.0.store(self.tail, Ordering::Release);
    }
}

impl<T> Consumer<'_, T> {
    /// Takes a value out, and spins while there is none.
    #[inline(always)]
    pub(crate) fn pop(&mut self) -> T {
        while self.tail == self.head {
            // Pairs with the Release in `push`.
            self.tail = self.ring.tail.0.load(Ordering::Acquire);
            if self.tail == self.head {
                hint::spin_loop();
            }
        }
        // SAFETY: the slot is one of those from `head` to `tail`: it holds a value, which is the
        // consumer's, and is not read again because `head` moves on.
        let value = unsafe { (*self.ring.slot(self.head)).assume_init_read() };
        self.head += 1;
        // Pairs with the Acquire in `push`.
        self.ring.head.0.store(self.head, Ordering::Release);
        value
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let (mut head, tail) = (*self.head.0.get_mut(), *self.tail.0.get_mut());
        while head != tail {
            // SAFETY: the slots from `head` to `tail` hold values, and nobody else is left.
            unsafe { (*self.slot(head)).assume_init_drop() };
            head += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn values_arrive_once_and_in_order_and_the_rest_is_dropped() {
        const COUNT: usize = 10_000;
        let counted = Arc::new(());
        let mut ring = Ring::new();
        thread::scope(|scope| {
            let (mut producer, mut consumer) = ring.split();
            let counted = Arc::clone(&counted);
            scope.spawn(move || {
                for number in 0..COUNT + 5 {
                    producer.push((number, Arc::clone(&counted)));
                }
            });
            for number in 0..COUNT {
                assert_eq!(consumer.pop().0, number);
            }
        });
        assert_eq!(Arc::strong_count(&counted), 6);
        drop(ring);
        assert_eq!(Arc::strong_count(&counted), 1);
    }
}
