//! Label values in a form that is quick to hash and to compare.
//!
//! A text of up to 16 bytes is told from all others by its length and two words, its first and its
//! last eight bytes, which overlap. Label values mostly are that short, and few; so they are compared
//! as a handful of words. Whatever is longer is compared byte by byte.

/// Values whose words are kept in place.
const FEW: usize = 4;
/// The longest text that two words hold.
const SHORT_BYTES: usize = 16;
/// An odd number with its bits well mixed: the fraction of the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// Label values that are looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    hash: u64,
    words: Words,
    /// Whether the words say all.
    is_short: bool,
}

/// The words of up to [`FEW`] values, and their lengths.
#[derive(Debug, Clone, Copy)]
struct Words {
    /// A byte for each length, behind one for the number of values.
    lengths: u64,
    ends: [[u64; 2]; FEW],
}

/// Label values that were looked up before.
#[derive(Debug)]
pub(super) struct Remembered {
    words: Words,
    /// Each value behind its length; only if the words do not say all.
    flat: Option<Box<[u8]>>,
}

impl Words {
    /// Whether they are the same, for the first `count` values or as many as there are words of.
    #[inline]
    fn are(&self, other: &Self, count: usize) -> bool {
        let pairs = self.ends.iter().zip(&other.ends).take(count);
        self.lengths == other.lengths
            && pairs.fold(0, |differ, (a, b)| differ | (a[0] ^ b[0]) | (a[1] ^ b[1])) == 0
    }
}

impl Key {
    #[inline]
    pub(super) fn new(seed: u64, values: &[&str]) -> Self {
        let mut words = Words { lengths: values.len() as u64, ends: [[0; 2]; FEW] };
        let mut is_short = values.len() <= FEW;
        let mut hash = seed;
        for (place, value) in values.iter().enumerate() {
            let bytes = value.as_bytes();
            let [first, last] = ends(bytes);
            hash = fold(hash ^ first, last ^ MIX ^ bytes.len() as u64);
            if let Some(own) = words.ends.get_mut(place) {
                *own = [first, last];
            }
            words.lengths = words.lengths << 8 | (bytes.len() as u64 & 0xff);
            if bytes.len() > SHORT_BYTES {
                is_short = false;
                hash = fold_long(hash, bytes);
            }
        }
        Self { hash, words, is_short }
    }

    #[inline]
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether `values`, of which this is the key, are those that are remembered.
    #[inline]
    pub(super) fn is(&self, other: &Remembered, values: &[&str]) -> bool {
        self.words.are(&other.words, values.len())
            && match &other.flat {
                None => self.is_short,
                Some(flat) => !self.is_short && is_flat(flat, values),
            }
    }

    pub(super) fn remember(&self, values: &[&str]) -> Remembered {
        Remembered { words: self.words, flat: (!self.is_short).then(|| flat(values)) }
    }
}

/// The first and the last eight bytes; shorter texts are filled up so that, with their length, they
/// stay apart.
#[inline]
fn ends(bytes: &[u8]) -> [u64; 2] {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        return [u64::from_le_bytes(*first), u64::from_le_bytes(*last)];
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return [u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into()];
    }
    match *bytes {
        [] => [0, 0],
        // Three bytes at most: the first, the one in the middle and the last are all there are.
        [first, ..] => {
            let (middle, last) = (bytes[bytes.len() / 2], bytes[bytes.len() - 1]);
            [u64::from(first) | u64::from(middle) << 8, last.into()]
        }
    }
}

/// Both halves of the product, which every bit of both numbers has a part in.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

fn fold_long(hash: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(SHORT_BYTES).fold(hash, |hash, chunk| {
        let [first, last] = ends(chunk);
        fold(hash ^ first, last ^ MIX)
    })
}

fn flat(values: &[&str]) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(values.iter().map(|value| 8 + value.len()).sum());
    for value in values {
        bytes.extend((value.len() as u64).to_le_bytes());
        bytes.extend(value.as_bytes());
    }
    bytes.into()
}

/// Whether `bytes` is what [`flat`] makes of `values`.
fn is_flat(bytes: &[u8], values: &[&str]) -> bool {
    let mut rest = bytes;
    for value in values {
        let Some((length, tail)) = rest.split_first_chunk::<8>() else { return false };
        if u64::from_le_bytes(*length) != value.len() as u64 {
            return false;
        }
        let Some((own, tail)) = tail.split_at_checked(value.len()) else { return false };
        if own != value.as_bytes() {
            return false;
        }
        rest = tail;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_same(a: &[&str], b: &[&str]) -> bool {
        Key::new(7, a).is(&Key::new(7, b).remember(b), a)
    }

    #[test]
    fn values_are_compared_one_by_one() {
        let long = "x".repeat(17);
        let longer = "x".repeat(17 + 256);
        let sets: [&[&str]; 12] = [
            &[],
            &[""],
            &["", ""],
            &["a", "bc"],
            &["ab", "c"],
            &["abc", ""],
            &["a"],
            &["a\0"],
            &[&long],
            &[&longer],
            &["a", "b", "c", "d", "e"],
            &["a", "b", "c", "d", "f"],
        ];
        for a in sets {
            for b in sets {
                assert_eq!(is_same(a, b), a == b, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn every_byte_of_a_value_counts() {
        for length in 0..40 {
            let text = "x".repeat(length);
            assert!(is_same(&[&text], &[&text.clone()]));
            for place in 0..length {
                let mut other = text.clone();
                other.replace_range(place..=place, "y");
                assert!(!is_same(&[&text], &[&other]), "byte {place} of {length}");
                assert_ne!(Key::new(7, &[&text]).hash(), Key::new(7, &[&other]).hash());
            }
        }
    }

    proptest! {
        #[test]
        #[cfg_attr(miri, ignore = "it has no unsafe code, and would take long")]
        fn equal_keys_are_equal_values(
            a in proptest::collection::vec("[ab]{0,20}", 0..6),
            b in proptest::collection::vec("[ab]{0,20}", 0..6),
        ) {
            let (a, b): (Vec<&str>, Vec<&str>) =
                (a.iter().map(String::as_str).collect(), b.iter().map(String::as_str).collect());
            prop_assert_eq!(is_same(&a, &b), a == b);
            prop_assert!(is_same(&a, &a));
        }
    }
}
