//! Pointers into an engine from things that the engine counts.
//!
//! A buffer and a reservation have room for one pointer and must not cost a reference count. They need
//! none: an engine is not freed while there are reservations of it or buffers of it are out (see
//! `engine/close.rs`), and its records are never removed.
#![allow(unsafe_code, reason = "what the pointer leads to is kept alive by being counted")]

use std::ops::Deref;
use std::ptr::NonNull;

use crate::budget::Record;
use crate::engine::Engine;

/// A record of an engine, held by something that is charged to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptRecord(NonNull<Record>);

// SAFETY: a record is `Sync`, and a shared reference to one is all that this gives.
unsafe impl Send for KeptRecord {}
// SAFETY: as above.
unsafe impl Sync for KeptRecord {}

impl KeptRecord {
    /// The caller keeps this only as long as the engine counts it: what is charged to `record`, or a
    /// reservation that holds nothing.
    pub(crate) fn new(record: &Record) -> Self {
        Self(NonNull::from(record))
    }
}

impl Deref for KeptRecord {
    type Target = Record;

    #[inline(always)]
    fn deref(&self) -> &Record {
        // SAFETY: records stay where they are until their engine is freed, and the holder of this is
        // counted by the engine, which is not freed before.
        unsafe { self.0.as_ref() }
    }
}

/// The engine of a record or of a region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptEngine(*const Engine);

// SAFETY: an engine is `Sync`, and a shared reference to one is all that this gives.
unsafe impl Send for KeptEngine {}
// SAFETY: as above.
unsafe impl Sync for KeptEngine {}

impl KeptEngine {
    /// For the engine's own records and regions alone, which do not outlive it.
    pub(crate) fn new(engine: *const Engine) -> Self {
        Self(engine)
    }

    pub(crate) fn as_ptr(self) -> *const Engine {
        self.0
    }
}

impl Deref for KeptEngine {
    type Target = Engine;

    #[inline(always)]
    fn deref(&self) -> &Engine {
        // SAFETY: records and regions are parts of the engine that this leads to.
        unsafe { &*self.0 }
    }
}
