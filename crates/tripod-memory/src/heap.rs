//! Allocations on the global heap that may be refused, for the engine's own books.
//!
//! `Box::new`, `Arc::new` and what grows by itself end the process when there is no memory. An
//! `acquire` must answer [`OutOfMemory`](crate::AcquireError::OutOfMemory) then, so what it needs of the
//! heap comes through here, or through `try_reserve`.
#![allow(unsafe_code, reason = "stable Rust has no `Box` and no `Arc` that can be refused")]

use std::alloc::{Layout, alloc};
use std::ops::Deref;
use std::ptr::{self, NonNull};
// Not loom's: as with `Arc`, no order elsewhere depends on a reference count.
use std::sync::atomic::{AtomicUsize, Ordering};

/// A box for `value`, if there is memory for it.
pub(crate) fn boxed<T>(value: T) -> Option<Box<T>> {
    const { assert!(size_of::<T>() > 0) };
    let layout = Layout::new::<T>();
    // SAFETY: the size is not zero.
    let place = NonNull::new(unsafe { alloc(layout) }.cast::<T>())?;
    // SAFETY: the memory is fresh, and has the size and alignment of a `T`.
    unsafe { place.write(value) };
    // SAFETY: it was allocated as a `Box` does, and holds a value.
    Some(unsafe { Box::from_raw(place.as_ptr()) })
}

/// A slice of `count` values, if there is memory for it.
pub(crate) fn slice<T>(count: usize, value: impl FnMut() -> T) -> Option<Box<[T]>> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).ok()?;
    values.extend(std::iter::repeat_with(value).take(count));
    Some(values.into_boxed_slice())
}

/// A counted reference, as an [`Arc`](std::sync::Arc) that is never weak.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    counted: NonNull<Counted<T>>,
}

#[derive(Debug)]
struct Counted<T> {
    references: AtomicUsize,
    value: T,
}

// SAFETY: whoever has one can reach the value from its thread, and may be the one to drop it.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above, since a shared reference can be cloned.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The first reference to `value`, if there is memory for it.
    pub(crate) fn new(value: T) -> Option<Self> {
        let counted = boxed(Counted { references: AtomicUsize::new(1), value })?;
        Some(Self { counted: NonNull::from(Box::leak(counted)) })
    }

    pub(crate) fn as_ptr(this: &Self) -> *const T {
        &raw const **this
    }

    /// Whether both lead to the same value.
    pub(crate) fn is_same(one: &Self, other: &Self) -> bool {
        ptr::addr_eq(one.counted.as_ptr(), other.counted.as_ptr())
    }

    fn counted(&self) -> &Counted<T> {
        // SAFETY: it is freed with the last reference, and this is one.
        unsafe { self.counted.as_ref() }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        // Relaxed: who clones has a reference, so it is not the last.
        self.counted().references.fetch_add(1, Ordering::Relaxed);
        Self { counted: self.counted }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // What others did with the value comes before its end: each releases it, the last acquires.
        if self.counted().references.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: it came out of a box, and no other reference is left.
            drop(unsafe { Box::from_raw(self.counted.as_ptr()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_value_lives_as_long_as_its_last_reference_on_whatever_thread() {
        let value = Arc::new(7);
        let first = Shared::new(Arc::clone(&value)).unwrap();
        let others: Vec<_> = (0..8).map(|_| first.clone()).collect();
        assert!(others.iter().all(|other| Shared::is_same(&first, other)));
        assert!(!Shared::is_same(&first, &Shared::new(Arc::clone(&value)).unwrap()));
        drop(first);
        let threads = others.into_iter().map(|other| thread::spawn(move || **other));
        assert!(threads.collect::<Vec<_>>().into_iter().all(|thread| thread.join().unwrap() == 7));
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn what_no_memory_is_large_enough_for_is_refused() {
        assert!(slice(usize::MAX / 8, || 0_u64).is_none());
        assert_eq!(slice(3, || 5).unwrap()[..], [5, 5, 5]);
        assert_eq!(*boxed([1_u8; 100]).unwrap(), [1; 100]);
    }
}
