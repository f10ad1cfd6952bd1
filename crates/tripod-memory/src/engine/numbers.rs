//! Small numbers for engines, which the tables of threads are indexed by.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Numbers that were given back, and the first that was never given out.
static FREE: Mutex<(BTreeSet<u32>, u32)> = Mutex::new((BTreeSet::new(), 0));

/// The least number that no other engine has; free again when it is dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Number(u32);

impl Number {
    pub(super) fn take() -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = free.0.pop_first() {
            return Self(number);
        }
        let number = free.1;
        free.1 += 1;
        Self(number)
    }

    #[inline(always)]
    pub(super) fn get(&self) -> u32 {
        self.0
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).0.insert(self.0);
    }
}
