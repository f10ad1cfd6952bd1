//! Regions with idle spans, by rank, then age, then number.
//!
//! A treap whose nodes lie in one vector, at the number of their region, so that a change allocates
//! nothing: whoever adds a region [makes room](Order::make_room), and may be refused, and what comes
//! later cannot fail. With the sets of the standard library a put of a slot could be refused memory.
//! The priorities are the numbers, scrambled; no two are the same.

/// No node.
const NONE: u32 = u32::MAX;

/// `(rank, oldest stamp, region)`.
pub(super) type Key = (u8, u64, u32);

#[derive(Debug)]
pub(super) struct Order {
    nodes: Vec<Node>,
    root: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    rank: u8,
    oldest: u64,
    left: u32,
    right: u32,
}

/// Where a node hangs.
#[derive(Clone, Copy, Debug)]
enum Place {
    Root,
    Left(u32),
    Right(u32),
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
        // It stands above the first whose priority is lower, and parts what is below.
        let (place, mut at) = self.seek(key, |at| priority(at) < priority(region));
        self.put(place, region);
        let (mut before, mut after) = (Place::Left(region), Place::Right(region));
        while at != NONE {
            let Node { left, right, .. } = self.nodes[at as usize];
            if self.key(at) < key {
                self.put(before, at);
                (before, at) = (Place::Right(at), right);
            } else {
                self.put(after, at);
                (after, at) = (Place::Left(at), left);
            }
        }
        self.put(before, NONE);
        self.put(after, NONE);
    }

    /// Takes out a key that is there.
    pub(super) fn remove(&mut self, key: Key) {
        let (mut place, at) = self.seek(key, |at| at == key.2);
        debug_assert_eq!(at, key.2, "it is here");
        // What was below moves up, of two the one with the higher priority.
        let Node { mut left, mut right, .. } = self.nodes[at as usize];
        while left != NONE && right != NONE {
            if priority(left) > priority(right) {
                self.put(place, left);
                (place, left) = (Place::Right(left), self.nodes[left as usize].right);
            } else {
                self.put(place, right);
                (place, right) = (Place::Left(right), self.nodes[right as usize].left);
            }
        }
        self.put(place, if left == NONE { right } else { left });
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

    /// Goes from the root towards `key` until `is_there`, or there is nothing more; answers where that
    /// is, and the node that is there.
    fn seek(&self, key: Key, is_there: impl Fn(u32) -> bool) -> (Place, u32) {
        let (mut place, mut at) = (Place::Root, self.root);
        while at != NONE && !is_there(at) {
            let Node { left, right, .. } = self.nodes[at as usize];
            (place, at) = match self.key(at) < key {
                true => (Place::Right(at), right),
                false => (Place::Left(at), left),
            };
        }
        (place, at)
    }

    fn put(&mut self, place: Place, node: u32) {
        match place {
            Place::Root => self.root = node,
            Place::Left(above) => self.nodes[above as usize].left = node,
            Place::Right(above) => self.nodes[above as usize].right = node,
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
        for step in 0..100_000_u64 {
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
