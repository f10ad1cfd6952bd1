//! The crate `sharded-slab`: slots that are cleared and used again.
//!
//! Dropping a guard leaves the object in the slab; only clearing it by its key makes its slot free.
//! So a release is both.

use std::ops::DerefMut;
use std::sync::Arc;

use sharded_slab::pool::{OwnedRefMut, RefMut};
use sharded_slab::{Clear, Pool};

use crate::memory::source::{Held, Source};

/// What a slot holds: it is made without a length, and grows at its first use.
#[derive(Debug, Default)]
pub(crate) struct Slot(Vec<u8>);

impl Clear for Slot {
    fn clear(&mut self) {
        self.0.clear();
    }
}

/// A slab whose guards borrow it and stay on their thread.
pub(crate) struct Slab {
    pool: Pool<Slot>,
    len: usize,
}

impl Slab {
    pub(crate) fn new(len: usize) -> Self {
        Self { pool: Pool::new(), len }
    }
}

impl Source for Slab {
    type Held<'a> = Slotted<'a, RefMut<'a, Slot>>;

    #[inline(always)]
    fn acquire(&self) -> Self::Held<'_> {
        Slotted::new(&self.pool, self.pool.create(), self.len)
    }
}

/// A slab whose guards share it, and may be released anywhere.
pub(crate) struct OwnedSlab {
    pool: Arc<Pool<Slot>>,
    len: usize,
}

impl OwnedSlab {
    pub(crate) fn new(len: usize) -> Self {
        Self { pool: Arc::new(Pool::new()), len }
    }
}

impl Source for OwnedSlab {
    type Held<'a> = Slotted<'a, OwnedRefMut<Slot>>;

    #[inline(always)]
    fn acquire(&self) -> Self::Held<'_> {
        Slotted::new(&self.pool, Arc::clone(&self.pool).create_owned(), self.len)
    }
}

/// A guard that knows the key of its slot.
pub(crate) trait Keyed: DerefMut<Target = Slot> {
    fn key(&self) -> usize;
}

impl Keyed for RefMut<'_, Slot> {
    fn key(&self) -> usize {
        RefMut::key(self)
    }
}

impl Keyed for OwnedRefMut<Slot> {
    fn key(&self) -> usize {
        OwnedRefMut::key(self)
    }
}

/// A slot on loan.
pub(crate) struct Slotted<'a, Guard: Keyed> {
    /// Always there until the drop.
    guard: Option<Guard>,
    home: &'a Pool<Slot>,
}

impl<'a, Guard: Keyed> Slotted<'a, Guard> {
    #[inline(always)]
    fn new(home: &'a Pool<Slot>, guard: Option<Guard>, len: usize) -> Self {
        let mut slotted = Self { guard, home };
        slotted.bytes().reserve_exact(len);
        slotted
    }

    #[inline(always)]
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.guard.as_mut().expect("a slab has room for millions").0
    }
}

impl<Guard: Keyed> Drop for Slotted<'_, Guard> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            let key = guard.key();
            drop(guard);
            self.home.clear(key);
        }
    }
}

impl<Guard: Keyed> Held for Slotted<'_, Guard> {
    #[inline(always)]
    fn start(&mut self) -> *mut u8 {
        self.bytes().start()
    }

    fn capacity(&mut self) -> usize {
        self.bytes().capacity()
    }

    #[inline(always)]
    fn put(&mut self, at: usize, byte: u8) {
        self.bytes().put(at, byte);
    }
}
