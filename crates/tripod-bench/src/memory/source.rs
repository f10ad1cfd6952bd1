//! Where buffers come from: one trait for all contenders, so that each row does with every one of
//! them exactly the same.
//!
//! A source is compiled into each row, so nothing is called through a table while the clock runs.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ops::DerefMut;
use std::sync::Arc;
use std::thread;

use crate::contender::{Contender, Side};

/// Distance of the bytes that are written to touch memory: a page.
pub(crate) const PAGE: usize = 4_096;

/// Gives out buffers of one length.
pub(crate) trait Source: Send + Sync + 'static {
    /// A buffer, which goes back when it is dropped.
    type Held<'a>: Held
    where
        Self: 'a;

    fn acquire(&self) -> Self::Held<'_>;
}

/// A buffer on loan. Its bytes may never have been written.
pub(crate) trait Held {
    fn start(&mut self) -> *mut u8;
    fn capacity(&mut self) -> usize;
    /// Writes one byte below the capacity.
    fn put(&mut self, at: usize, byte: u8);

    /// Writes a byte of each page.
    #[inline(always)]
    fn touch(&mut self, len: usize) {
        for at in (0..len).step_by(PAGE) {
            self.put(at, 1);
        }
        black_box(self.start());
    }
}

/// What pools of objects are filled with: two words, and nothing that has to be initialised.
pub(crate) type Block = Box<[MaybeUninit<u8>]>;

pub(crate) fn block(len: usize) -> Block {
    Box::new_uninit_slice(len)
}

/// A pool's guard around a block.
#[derive(Debug)]
pub(crate) struct Guarded<Guard>(pub(crate) Guard);

impl<Guard: DerefMut<Target = Block>> Held for Guarded<Guard> {
    #[inline(always)]
    fn start(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    fn capacity(&mut self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    fn put(&mut self, at: usize, byte: u8) {
        self.0[at].write(byte);
    }
}

impl Held for Vec<u8> {
    #[inline(always)]
    fn start(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    fn capacity(&mut self) -> usize {
        Vec::capacity(self)
    }

    #[inline(always)]
    fn put(&mut self, at: usize, byte: u8) {
        self.spare_capacity_mut()[at].write(byte);
    }
}

/// Acquires a buffer on a thread and releases it there.
pub(crate) fn own<S: Source>(name: &'static str, side: Side, len: usize, source: S) -> Contender {
    let source = Arc::new(source);
    let checked = Arc::clone(&source);
    let prepare = move || {
        let source = Arc::clone(&source);
        move |_| {
            let mut held = black_box(&*source).acquire();
            black_box(held.start());
        }
    };
    Contender::new(name, side, prepare).checked_by(move || check(&*checked, len))
}

/// Acquires some buffers on a thread, touches them and releases them all.
pub(crate) fn burst<S: Source>(
    name: &'static str,
    side: Side,
    len: usize,
    count: usize,
    source: S,
) -> Contender {
    let source = Arc::new(source);
    let checked = Arc::clone(&source);
    let prepare = move || {
        // The vector outlives no burst, but it borrows from the source: one is made each time. Its
        // allocation is the same for all, and a thousandth of what the pages cost.
        let source = Arc::clone(&source);
        move |_| {
            let mut all = Vec::with_capacity(count);
            for _ in 0..count {
                let mut held = black_box(&*source).acquire();
                held.touch(len);
                all.push(held);
            }
            black_box(&mut all);
        }
    };
    Contender::new(name, side, prepare).checked_by(move || check(&*checked, len))
}

/// Buffers that are out at the same time during a check.
const CHECKED: usize = 5;

/// Proves on a thread of its own that buffers are long enough, writable to both ends, and apart.
pub(crate) fn check<S: Source>(source: &S, len: usize) -> Result<(), String> {
    let check = || {
        let mut all: Vec<S::Held<'_>> = (0..CHECKED).map(|_| source.acquire()).collect();
        let mut starts = Vec::new();
        for held in &mut all {
            let capacity = held.capacity();
            if capacity < len {
                return Err(format!("a buffer of {len} bytes has room for {capacity}"));
            }
            held.put(0, 1);
            held.put(len - 1, 1);
            starts.push(held.start().addr());
        }
        starts.sort_unstable();
        match starts.windows(2).find(|pair| pair[1] - pair[0] < len) {
            Some(_) => Err(format!("two buffers of {len} bytes overlap")),
            None => Ok(()),
        }
    };
    thread::scope(|scope| scope.spawn(check).join().expect("no source panics"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Short;

    impl Source for Short {
        type Held<'a> = Vec<u8>;

        fn acquire(&self) -> Vec<u8> {
            Vec::with_capacity(10)
        }
    }

    /// Gives the same bytes to all.
    struct Shared(usize);

    struct SharedHeld(usize);

    impl Held for SharedHeld {
        fn start(&mut self) -> *mut u8 {
            std::ptr::without_provenance_mut(self.0)
        }

        fn capacity(&mut self) -> usize {
            64
        }

        fn put(&mut self, _: usize, _: u8) {}
    }

    impl Source for Shared {
        type Held<'a> = SharedHeld;

        fn acquire(&self) -> SharedHeld {
            SharedHeld(self.0)
        }
    }

    #[test]
    fn short_and_overlapping_buffers_are_found_out() {
        assert_eq!(check(&Short, 10), Ok(()));
        assert_eq!(check(&Short, 11), Err("a buffer of 11 bytes has room for 10".to_owned()));
        assert_eq!(check(&Shared(4_096), 64), Err("two buffers of 64 bytes overlap".to_owned()));
    }
}
