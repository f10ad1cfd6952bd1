//! The newest exemplars of the series of a family.
//!
//! They are given rarely, so they are kept behind one lock, apart from the cells; a family without
//! exemplars pays one load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::snapshot::Exemplar;
use crate::sync::{Mutex, lock};

/// The exemplars of a family, by position of the series and index of the bucket.
#[derive(Debug, Default)]
pub(crate) struct Exemplars {
    is_used: AtomicBool,
    newest: Mutex<BTreeMap<(u32, i32), Exemplar>>,
}

/// The most exemplars of one series.
const SERIES_MAX: usize = 64;

impl Exemplars {
    /// Keeps `exemplar`; over the limit of a series the oldest goes.
    pub(crate) fn put(&self, position: u32, bucket: i32, exemplar: Exemplar) {
        let mut newest = lock(&self.newest);
        self.is_used.store(true, Ordering::Relaxed);
        newest.insert((position, bucket), exemplar);
        let own = || newest.range((position, i32::MIN)..=(position, i32::MAX));
        if own().count() > SERIES_MAX {
            let oldest = own().min_by_key(|(_, exemplar)| exemplar.time).map(|(key, _)| *key);
            oldest.and_then(|key| newest.remove(&key));
        }
    }

    /// Drops those of a series that is removed.
    pub(crate) fn forget(&self, position: u32) {
        if !self.is_used.load(Ordering::Relaxed) {
            return;
        }
        let mut newest = lock(&self.newest);
        let own = newest.range((position, i32::MIN)..=(position, i32::MAX));
        let keys: Vec<_> = own.map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| drop(newest.remove(key)));
    }

    /// The exemplars of a series with their buckets, ascending.
    pub(crate) fn of(&self, position: u32) -> Vec<(i32, Exemplar)> {
        if !self.is_used.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let newest = lock(&self.newest);
        let own = newest.range((position, i32::MIN)..=(position, i32::MAX));
        own.map(|((_, bucket), exemplar)| (*bucket, exemplar.clone())).collect()
    }
}

/// The most characters of an exemplar's labels, as OpenMetrics 1.0 asks.
pub(crate) const LABELS_CHARACTERS_MAX: usize = 128;

/// Why an exemplar was not kept. The observation itself was recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExemplarError {
    /// A name breaks the rules for labels, or is there twice.
    #[error(
        "exemplar label {name:?} must match [a-zA-Z_][a-zA-Z0-9_]*, not begin with `__`, and be there once"
    )]
    InvalidLabel {
        /// The name as given.
        name: String,
    },
    /// The labels are too long.
    #[error("exemplar labels have {got} characters, at most {LABELS_CHARACTERS_MAX} are allowed")]
    TooLong {
        /// The characters of names and values together.
        got: usize,
    },
}

/// Checks labels as OpenMetrics asks, and owns them.
pub(crate) fn checked(labels: &[(&str, &str)]) -> Result<Vec<(String, String)>, ExemplarError> {
    let got = labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
    if got > LABELS_CHARACTERS_MAX {
        return Err(ExemplarError::TooLong { got });
    }
    for (place, (name, _)) in labels.iter().enumerate() {
        let is_there = labels[..place].iter().any(|(other, _)| other == name);
        if is_there || !crate::definition::is_label_name(name) {
            return Err(ExemplarError::InvalidLabel { name: (*name).to_owned() });
        }
    }
    Ok(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}
