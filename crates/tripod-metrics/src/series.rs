//! The identity of a series within its family: the values of its labels, compared in full.
//!
//! Neither a hash nor a joined string stands in for the values, so no two different series can ever
//! be taken for one.

use std::borrow::Borrow;
use std::cmp::Ordering;

use crate::sync::Arc;

/// The label values of one series, in the order of the declared names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeriesKey(Arc<[Box<str>]>);

impl SeriesKey {
    pub(crate) fn new(values: &[&str]) -> Self {
        Self(values.iter().map(|value| Box::from(*value)).collect())
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// Label values in either form, so that a map of owned keys can be searched with borrowed values
/// and a look-up allocates nothing.
pub(crate) trait LabelValues {
    fn len(&self) -> usize;
    fn value(&self, index: usize) -> &str;
}

impl LabelValues for SeriesKey {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn value(&self, index: usize) -> &str {
        &self.0[index]
    }
}

impl LabelValues for &[&str] {
    fn len(&self) -> usize {
        <[&str]>::len(self)
    }

    fn value(&self, index: usize) -> &str {
        self[index]
    }
}

impl<'a> Borrow<dyn LabelValues + 'a> for SeriesKey {
    fn borrow(&self) -> &(dyn LabelValues + 'a) {
        self
    }
}

// This must order as the derived `Ord` of `SeriesKey` does: value by value, then by length.
impl Ord for dyn LabelValues + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        let ours = (0..self.len()).map(|index| self.value(index));
        ours.cmp((0..other.len()).map(|index| other.value(index)))
    }
}

impl PartialOrd for dyn LabelValues + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn LabelValues + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn LabelValues + '_ {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borrowed_values_order_exactly_as_owned_ones() {
        let sets: [&[&str]; 7] =
            [&[], &[""], &["a", "bc"], &["ab", "c"], &["a", "b"], &["a"], &["a\0", "b"]];
        for a in sets {
            for b in sets {
                let borrowed = (&a as &dyn LabelValues).cmp(&b as &dyn LabelValues);
                assert_eq!(SeriesKey::new(a).cmp(&SeriesKey::new(b)), borrowed, "{a:?} {b:?}");
            }
        }
    }
}
