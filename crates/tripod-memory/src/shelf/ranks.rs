//! Regions in the order of how full they are.
//!
//! Fullness is rounded to 64 ranks. That keeps a region in its place through most takes and puts,
//! and makes a change of place a matter of two bits. Among regions of one rank the lowest number
//! goes first, so that traffic stays in the same ones.

pub(super) const RANKS: usize = 64;

/// How full a region is: 0 exactly if nothing is taken, 63 if nearly all or all is.
pub(super) fn rank(taken: u32, slots: u32) -> u8 {
    // A region has less than 2^18 slots: no overflow, and the quotient is at most 63.
    (taken * (RANKS as u32 - 1)).div_ceil(slots) as u8
}

/// Region numbers by rank; each is here once or not at all.
///
/// A row has one word for each rank, with the bits of 64 regions: 128 GiB of a class are a thousand
/// rows, and the usual class has one. A set of its own for each rank took 9 KiB of every class.
#[derive(Clone, Debug)]
pub(super) struct Ranks {
    rows: Vec<[u64; RANKS]>,
    /// Members by rank.
    counts: [u32; RANKS],
    /// Bit `r` is set exactly if `counts[r]` is not 0.
    filled: u64,
}

const fn split(region: u32) -> (usize, u64) {
    ((region / u64::BITS) as usize, 1 << (region % u64::BITS))
}

impl Ranks {
    pub(super) fn new() -> Self {
        Self { rows: Vec::new(), counts: [0; RANKS], filled: 0 }
    }

    /// Makes room for regions `0..count`; false if there is no memory for it.
    #[must_use]
    pub(super) fn make_room(&mut self, count: u32) -> bool {
        let rows = count.div_ceil(u64::BITS) as usize;
        if self.rows.try_reserve(rows.saturating_sub(self.rows.len())).is_err() {
            return false;
        }
        self.rows.resize(rows.max(self.rows.len()), [0; RANKS]);
        true
    }

    /// Moves `region`, for which there is room, from where it is (`at`) to where it belongs; `None` is
    /// out of here.
    pub(super) fn place(&mut self, region: u32, at: &mut Option<u8>, belongs: Option<u8>) {
        if *at == belongs {
            return;
        }
        let (row, bit) = split(region);
        if let Some(rank) = *at {
            self.rows[row][usize::from(rank)] &= !bit;
            self.counts[usize::from(rank)] -= 1;
            if self.counts[usize::from(rank)] == 0 {
                self.filled &= !(1 << rank);
            }
        }
        if let Some(rank) = belongs {
            self.rows[row][usize::from(rank)] |= bit;
            self.counts[usize::from(rank)] += 1;
            self.filled |= 1 << rank;
        }
        *at = belongs;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The lowest region of the highest rank that has any.
    pub(super) fn fullest(&self) -> Option<u32> {
        let rank = self.filled.checked_ilog2()? as usize;
        let row = self.rows.iter().position(|row| row[rank] != 0)?;
        Some(row as u32 * u64::BITS + self.rows[row][rank].trailing_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_tell_empty_from_one_taken_and_stay_below_64() {
        for slots in [1, 2, 15, 511, 32_704, 130_816] {
            assert_eq!(rank(0, slots), 0);
            assert!(rank(1, slots) > 0);
            assert_eq!(rank(slots, slots), 63);
            assert!((1..=slots).all(|taken| rank(taken - 1, slots) <= rank(taken, slots)));
        }
    }

    #[test]
    fn the_fullest_is_the_lowest_number_of_the_highest_rank() {
        let mut ranks = Ranks::new();
        let mut at = [None; 3];
        assert!(ranks.make_room(3));
        for (region, rank) in [(0, 5), (1, 63), (2, 63)] {
            ranks.place(region, &mut at[region as usize], Some(rank));
        }
        assert_eq!(ranks.fullest(), Some(1));
        ranks.place(1, &mut at[1], Some(4));
        assert_eq!(ranks.fullest(), Some(2));
        ranks.place(2, &mut at[2], None);
        assert_eq!(ranks.fullest(), Some(0));
        ranks.place(0, &mut at[0], None);
        ranks.place(1, &mut at[1], None);
        assert!(ranks.is_empty());
        assert_eq!(ranks.fullest(), None);
    }
}
