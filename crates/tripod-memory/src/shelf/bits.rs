//! A set of small numbers as bits, with a summary bit per word.
//!
//! Insertion and removal touch two words; the search for the next member skips 4096 numbers per
//! empty summary word.

use std::ops::Range;

/// Members of `0..capacity`.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    /// Bit `w` is set exactly if `words[w] != 0`.
    summary: Vec<u64>,
}

const fn split(bit: u32) -> (usize, u32) {
    ((bit / 64) as usize, bit % 64)
}

impl Bits {
    /// An empty set that can hold `0..capacity`, if there is memory for it.
    pub(super) fn with_capacity(capacity: u32) -> Option<Self> {
        let mut bits = Self::default();
        bits.grow(capacity).then_some(bits)
    }

    /// Makes room for `0..capacity`, never less than before; false if there is no memory for it.
    #[must_use]
    pub(super) fn grow(&mut self, capacity: u32) -> bool {
        let words = capacity.div_ceil(64) as usize;
        let missing = |bits: &[u64], words: usize| words.saturating_sub(bits.len());
        let has_room = self.words.try_reserve(missing(&self.words, words)).is_ok()
            && self.summary.try_reserve(missing(&self.summary, words.div_ceil(64))).is_ok();
        if has_room && words > self.words.len() {
            self.words.resize(words, 0);
            self.summary.resize(words.div_ceil(64), 0);
        }
        has_room
    }

    pub(super) fn contains(&self, bit: u32) -> bool {
        let (word, at) = split(bit);
        self.words.get(word).is_some_and(|word| word >> at & 1 == 1)
    }

    pub(super) fn insert(&mut self, bit: u32) {
        let (word, at) = split(bit);
        self.put_word(word, self.words[word] | 1 << at);
    }

    pub(super) fn remove(&mut self, bit: u32) {
        let (word, at) = split(bit);
        self.put_word(word, self.words[word] & !(1 << at));
    }

    pub(super) fn insert_all(&mut self, range: Range<u32>) {
        for_words(range, |word, mask| self.put_word(word, self.words[word] | mask));
    }

    pub(super) fn remove_all(&mut self, range: Range<u32>) {
        for_words(range, |word, mask| self.put_word(word, self.words[word] & !mask));
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.first_from(0)
    }

    /// The smallest member that is at least `start`.
    pub(super) fn first_from(&self, start: u32) -> Option<u32> {
        let (word, at) = split(start);
        let rest = self.words.get(word)? & u64::MAX << at;
        if rest != 0 {
            return Some(word as u32 * 64 + rest.trailing_zeros());
        }
        let (mut entry, at) = split(word as u32 + 1);
        let mut rest = self.summary.get(entry)? & u64::MAX << at;
        while rest == 0 {
            entry += 1;
            rest = *self.summary.get(entry)?;
        }
        let word = entry as u32 * 64 + rest.trailing_zeros();
        Some(word * 64 + self.words[word as usize].trailing_zeros())
    }

    /// The members, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        std::iter::successors(self.first(), |&bit| self.first_from(bit + 1))
    }

    fn put_word(&mut self, word: usize, value: u64) {
        let before = std::mem::replace(&mut self.words[word], value);
        // Most changes do not touch the summary: it is one more cache line.
        if (before != 0) != (value != 0) {
            let (entry, at) = split(word as u32);
            self.summary[entry] ^= 1 << at;
        }
    }
}

/// Calls `each` with every word that `range` touches and the bits of it that lie in the range.
fn for_words(range: Range<u32>, mut each: impl FnMut(usize, u64)) {
    let mut start = range.start;
    while start < range.end {
        let (word, at) = split(start);
        let count = (64 - at).min(range.end - start);
        each(word, u64::MAX >> (64 - count) << at);
        start += count;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const CAPACITY: u32 = 10_000;

    proptest! {
        #[test]
        #[cfg_attr(miri, ignore = "nothing unsafe here, and slow")]
        fn behaves_as_a_set(
            steps in prop::collection::vec((0..4, 0..CAPACITY, 0..300_u32), 1..60),
            start in 0..CAPACITY + 100,
        ) {
            let mut bits = Bits::with_capacity(CAPACITY).unwrap();
            let mut model = BTreeSet::new();
            for (verb, first, count) in steps {
                let range = first..(first + count).min(CAPACITY);
                match verb {
                    0 => (bits.insert(first), model.insert(first)).0,
                    1 => (bits.remove(first), model.remove(&first)).0,
                    2 => (bits.insert_all(range.clone()), model.extend(range)).0,
                    _ => {
                        bits.remove_all(range.clone());
                        model.retain(|bit| !range.contains(bit));
                    }
                }
            }
            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), Vec::from_iter(model.clone()));
            prop_assert_eq!(bits.first_from(start), model.range(start..).next().copied());
            prop_assert_eq!(bits.contains(start), model.contains(&start));
        }
    }
}
