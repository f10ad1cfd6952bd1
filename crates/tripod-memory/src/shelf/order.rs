//! Regions with idle spans, by rank, then age, then number.
//!
//! A treap whose nodes lie in one vector, at the number of their region, so that a change allocates
//! nothing: whoever adds a region [makes room](Order::make_room), and may be refused, and what comes
//! later cannot fail. With the sets of the standard library a put of a slot could be refused memory.
//! The priorities are the numbers, scrambled; no two are the same.

/// No node.
const NONE: u32 = u32::MAX;

/// `(rank, oldest stamp, region)`.
pub(super) type Key = (u8, u32, u32);

#[derive(Debug)]
pub(super) struct Order {
    nodes: Vec<Node>,
    root: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    rank: u8,
    oldest: u32,
    left: u32,
    right: u32,
}

impl Order {
    pub(super) fn new() -> Self {
        Self { nodes: Vec::new(), root: NONE }
    }

    /// Makes room for regions `0..count`; false if there is no memory for it.
    #[must_use]
    pub(super) fn make_room(&mut self, count: u32) -> bool {
        let missing = (count as usize).saturating_sub(self.nodes.len());
        let has_room = self.nodes.try_reserve(missing).is_ok();
        if has_room {
            let node = Node { rank: 0, oldest: 0, left: NONE, right: NONE };
            self.nodes.extend(std::iter::repeat_n(node, missing));
        }
        has_room
    }

    /// Adds a key that is not there; there is room for its region.
    pub(super) fn insert(&mut self, key: Key) {
        let (rank, oldest, region) = key;
        self.nodes[region as usize] = Node { rank, oldest, left: NONE, right: NONE };
        let (before, after) = self.split(self.root, key);
        let joined = self.join(before, region);
        self.root = self.join(joined, after);
    }

    /// Takes out a key that is there.
    pub(super) fn remove(&mut self, key: Key) {
        let (rank, oldest, region) = key;
        let (before, rest) = self.split(self.root, key);
        let (taken, after) = self.split(rest, (rank, oldest, region + 1));
        debug_assert_eq!(taken, region, "it is here, and alone");
        self.root = self.join(before, after);
    }

    /// The first key of `rank` or a higher one.
    pub(super) fn first_from(&self, rank: u8) -> Option<Key> {
        let (mut at, mut first) = (self.root, None);
        while at != NONE {
            let key = self.key(at);
            if key.0 >= rank {
                first = Some(key);
                at = self.nodes[at as usize].left;
            } else {
                at = self.nodes[at as usize].right;
            }
        }
        first
    }

    fn key(&self, at: u32) -> Key {
        let node = &self.nodes[at as usize];
        (node.rank, node.oldest, at)
    }

    /// Parts the tree at `at` into what is before `key`, and what is at it or after.
    fn split(&mut self, at: u32, key: Key) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        if self.key(at) < key {
            let (before, after) = self.split(self.nodes[at as usize].right, key);
            self.nodes[at as usize].right = before;
            (at, after)
        } else {
            let (before, after) = self.split(self.nodes[at as usize].left, key);
            self.nodes[at as usize].left = after;
            (before, at)
        }
    }

    /// Joins two trees, the keys of one of which are before those of the other.
    fn join(&mut self, before: u32, after: u32) -> u32 {
        if before == NONE || after == NONE {
            return if before == NONE { after } else { before };
        }
        if priority(before) > priority(after) {
            let right = self.join(self.nodes[before as usize].right, after);
            self.nodes[before as usize].right = right;
            before
        } else {
            let left = self.join(before, self.nodes[after as usize].left);
            self.nodes[after as usize].left = left;
            after
        }
    }
}

/// The number, scrambled: each step can be undone, so that no two are the same.
fn priority(region: u32) -> u32 {
    let mixed = (region ^ region >> 16).wrapping_mul(0x85eb_ca6b);
    (mixed ^ mixed >> 13).wrapping_mul(0xc2b2_ae35)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::random::Random;

    impl Order {
        fn depth(&self, at: u32) -> usize {
            if at == NONE {
                return 0;
            }
            let Node { left, right, .. } = self.nodes[at as usize];
            1 + self.depth(left).max(self.depth(right))
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "nothing unsafe here, and slow")]
    fn it_is_a_set_in_order_and_not_deep() {
        const REGIONS: u32 = 5000;
        let (mut order, mut model, mut random) = (Order::new(), BTreeSet::new(), Random(42));
        let mut keys: Vec<Option<Key>> = vec![None; REGIONS as usize];
        assert!(order.make_room(REGIONS));
        for step in 0..100_000_u32 {
            let region = random.below(REGIONS.into()) as u32;
            if let Some(key) = keys[region as usize].take() {
                order.remove(key);
                model.remove(&key);
            }
            if random.below(4) > 0 {
                // Ages rise as time goes on, the worst that can happen to a tree.
                let key = (random.below(64) as u8, step / 100, region);
                keys[region as usize] = Some(key);
                order.insert(key);
                model.insert(key);
            }
            let from = random.below(65) as u8;
            let expected = model.range((from, 0, 0)..).next().copied();
            assert_eq!(order.first_from(from), expected, "step {step}");
        }
        let depth = order.depth(order.root);
        assert!(depth < 40, "{} keys are {depth} deep", model.len());
    }
}
