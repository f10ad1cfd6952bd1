//! The naive model: it keeps every holder and every waiter in a list, sums what it needs anew each
//! time, and knows no heads and no marks.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::*;

/// root <- a <- aa, root <- b, a <- ab
pub(super) const PARENTS: [Option<NodeId>; 5] = [None, Some(ROOT), Some(1), Some(ROOT), Some(1)];
pub(super) const LIMITS: [u64; 5] = [100, 60, 30, 70, 60];

#[derive(Clone, Debug)]
pub(super) enum Step {
    Request(NodeId, u64, u8),
    TryRequest(NodeId, u64),
    Cancel(usize),
    Release(usize),
    Grow(usize, u64),
    Shrink(usize, u64),
    Acquire(NodeId, u64),
    Drop(usize),
    Commit(u64),
    Uncommit(u64),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let node = || 0..PARENTS.len();
    let bytes = || prop_oneof![4 => 0..25u64, 1 => 25..110u64];
    let which = || 0..64usize;
    let priority = || prop_oneof![3 => Just(0), 3 => 1..4u8, 1 => Just(u8::MAX)];
    prop_oneof![
        5 => (node(), bytes(), priority())
            .prop_map(|(node, bytes, priority)| Step::Request(node, bytes, priority)),
        1 => (node(), bytes()).prop_map(|(node, bytes)| Step::TryRequest(node, bytes)),
        1 => which().prop_map(Step::Cancel),
        3 => which().prop_map(Step::Release),
        1 => (which(), bytes()).prop_map(|(which, bytes)| Step::Grow(which, bytes)),
        1 => (which(), bytes()).prop_map(|(which, bytes)| Step::Shrink(which, bytes)),
        2 => (node(), bytes()).prop_map(|(node, bytes)| Step::Acquire(node, bytes)),
        2 => which().prop_map(Step::Drop),
        2 => bytes().prop_map(Step::Commit),
        2 => bytes().prop_map(Step::Uncommit),
    ]
}

/// Takes all steps in both and compares after each; then gives everything back, which must serve
/// the whole line.
pub(super) fn run(mut ledger: Ledger, steps: &[Step]) {
    let mut model = Model::default();
    for step in steps {
        model.take_step(&mut ledger, step);
        model.check(&mut ledger);
    }
    while model.holds_anything() || !model.line.is_empty() {
        assert!(model.holds_anything(), "nobody waits for nothing");
        for step in [Step::Release(0), Step::Drop(0), Step::Uncommit(40)] {
            model.take_step(&mut ledger, &step);
            model.check(&mut ledger);
        }
    }
    assert_eq!((ledger.reserved(), ledger.used, ledger.committed()), (0, 0, 0));
    assert!((0..LIMITS.len()).all(|node| ledger.charged(node) == 0));
    assert_eq!(ledger.waits(), Waits { at_root: false, any: false });
    assert!(ledger.heads.is_empty() && ledger.closed.is_empty());
}

#[derive(Clone, Debug)]
struct Waiter {
    /// Known once the ledger has said it.
    ticket: Option<Ticket>,
    node: NodeId,
    bytes: u64,
    priority: u8,
}

#[derive(Clone, Debug, Default)]
struct Model {
    /// In the order of the line.
    line: Vec<Waiter>,
    reserved: Vec<(NodeId, u64)>,
    used: Vec<(NodeId, u64)>,
    committed: u64,
    peaks: [u64; LIMITS.len()],
    /// Granted since the last comparison.
    granted: Vec<Ticket>,
    /// What the root has above its limit, to ask what would be if it had.
    spare: u64,
}

impl Model {
    fn on_path(mut node: NodeId, wanted: NodeId) -> bool {
        loop {
            match PARENTS[node] {
                _ if node == wanted => return true,
                Some(parent) => node = parent,
                None => return false,
            }
        }
    }

    fn charged(&self, node: NodeId) -> u64 {
        let there = |held: &&(NodeId, u64)| Self::on_path(held.0, node);
        let reserved: u64 = self.reserved.iter().filter(there).map(|held| held.1).sum();
        let used: u64 = self.used.iter().filter(there).map(|held| held.1).sum();
        reserved + if node == ROOT { self.committed } else { used }
    }

    /// The lowest node on the path that lacks room for `bytes`.
    fn full(&self, charge: Charge, node: NodeId, bytes: u64) -> Option<NodeId> {
        // A parent's number is below its children's.
        (0..PARENTS.len()).rev().filter(|&step| Self::on_path(node, step)).find(
            |&step| match step {
                ROOT if charge == Charge::Used => false,
                ROOT => self.charged(ROOT) + bytes > LIMITS[ROOT] + self.spare,
                _ => self.charged(step) + bytes > LIMITS[step],
            },
        )
    }

    /// The first in line whose turn it is: it fits, and nobody before it waits for a node it needs.
    fn next(&self) -> Option<usize> {
        let mut closed = Vec::new();
        self.line.iter().position(|waiter| {
            if closed.iter().any(|&full| Self::on_path(waiter.node, full)) {
                return false;
            }
            let full = self.full(Charge::Reserved, waiter.node, waiter.bytes);
            closed.extend(full);
            full.is_none()
        })
    }

    fn next_with_spare(&self, spare: u64) -> Option<usize> {
        Self { spare, ..self.clone() }.next()
    }

    fn reserve(&mut self, node: NodeId, bytes: u64) {
        self.reserved.push((node, bytes));
        self.note_peaks();
    }

    fn note_peaks(&mut self) {
        for node in 0..LIMITS.len() {
            self.peaks[node] = self.peaks[node].max(self.charged(node));
        }
    }

    /// Grants who can be; answers whether one of them has no ticket yet.
    fn settle(&mut self) -> bool {
        let mut newcomer_granted = false;
        while let Some(index) = self.next() {
            let waiter = self.line.remove(index);
            self.reserve(waiter.node, waiter.bytes);
            match waiter.ticket {
                Some(ticket) => self.granted.push(ticket),
                None => newcomer_granted = true,
            }
        }
        newcomer_granted
    }

    /// Takes a place in line and settles; answers whether it was granted at once.
    fn request(&mut self, node: NodeId, bytes: u64, priority: u8) -> bool {
        if bytes == 0 {
            return true;
        }
        self.line.push(Waiter { ticket: None, node, bytes, priority });
        self.line.sort_by_key(|waiter| u8::MAX - waiter.priority); // a stable sort
        self.settle()
    }

    fn holds_anything(&self) -> bool {
        !self.reserved.is_empty() || !self.used.is_empty() || self.committed > 0
    }

    /// Takes one step in both, and compares the answers.
    fn take_step(&mut self, ledger: &mut Ledger, step: &Step) {
        match *step {
            Step::Request(node, bytes, _) | Step::TryRequest(node, bytes)
                if bytes > LIMITS[node] =>
            {
                assert_eq!(ledger.request(node, bytes, 0), Err(Refusal::Unsatisfiable));
                assert_eq!(ledger.try_request(node, bytes), Err(Refusal::Unsatisfiable));
            }
            Step::Request(node, bytes, priority) => {
                let expected = self.request(node, bytes, priority);
                match ledger.request(node, bytes, priority).unwrap() {
                    Answer::Granted => assert!(expected),
                    Answer::Waiting(ticket) => {
                        assert!(!expected);
                        assert!(ledger.is_waiting(node, ticket));
                        let newcomer = self.line.iter_mut().find(|waiter| waiter.ticket.is_none());
                        newcomer.unwrap().ticket = Some(ticket);
                    }
                }
            }
            Step::TryRequest(node, bytes) => {
                let mut tried = self.clone();
                let expected = tried.request(node, bytes, 0);
                assert_eq!(ledger.try_request(node, bytes).is_ok(), expected);
                if expected {
                    *self = tried;
                }
            }
            Step::Cancel(which) if !self.line.is_empty() => {
                let waiter = self.line.remove(which % self.line.len());
                let ticket = waiter.ticket.unwrap();
                assert!(ledger.cancel(waiter.node, ticket));
                assert!(!ledger.cancel(waiter.node, ticket));
            }
            Step::Grow(..) | Step::Shrink(..) | Step::Release(_) if !self.reserved.is_empty() => {
                self.change_a_reservation(ledger, step);
            }
            _ => self.take_memory_step(ledger, step),
        }
    }

    fn change_a_reservation(&mut self, ledger: &mut Ledger, step: &Step) {
        let count = self.reserved.len();
        match *step {
            Step::Release(which) => {
                let (node, bytes) = self.reserved.swap_remove(which % count);
                ledger.release(Charge::Reserved, node, bytes);
            }
            Step::Grow(which, bytes) => {
                let node = self.reserved[which % count].0;
                let expected = self.full(Charge::Reserved, node, bytes).is_none();
                assert_eq!(ledger.take(Charge::Reserved, node, bytes).is_ok(), expected);
                if expected {
                    self.reserved[which % count].1 += bytes;
                }
            }
            Step::Shrink(which, bytes) => {
                let (node, held) = &mut self.reserved[which % count];
                let bytes = bytes.min(*held);
                *held -= bytes;
                ledger.release(Charge::Reserved, *node, bytes);
            }
            _ => {}
        }
    }

    fn take_memory_step(&mut self, ledger: &mut Ledger, step: &Step) {
        match *step {
            Step::Acquire(node, bytes) => {
                let fits = self.full(Charge::Used, node, bytes).is_none();
                let expected = fits && bytes <= LIMITS[node];
                let taken = ledger.take(Charge::Used, node, bytes);
                assert_eq!(taken.is_ok(), expected, "a buffer passes those in line");
                if expected {
                    self.used.push((node, bytes));
                }
            }
            Step::Drop(which) if !self.used.is_empty() => {
                let (node, bytes) = self.used.swap_remove(which % self.used.len());
                ledger.release(Charge::Used, node, bytes);
            }
            Step::Commit(bytes) => {
                let expected = self.charged(ROOT) + bytes <= LIMITS[ROOT];
                assert_eq!(ledger.commit(bytes).is_ok(), expected, "so does a commit");
                self.committed += if expected { bytes } else { 0 };
            }
            Step::Uncommit(bytes) => {
                let bytes = bytes.min(self.committed);
                self.committed -= bytes;
                ledger.uncommit(bytes);
            }
            _ => {}
        }
    }

    /// Compares everything that can be seen.
    fn check(&mut self, ledger: &mut Ledger) {
        self.note_peaks();
        self.settle();
        let granted = std::mem::take(&mut self.granted);
        assert_eq!(ledger.drain_granted(), granted, "who is granted, and in which order");
        for (node, limit) in LIMITS.into_iter().enumerate() {
            assert_eq!(ledger.charged(node), self.charged(node));
            assert_eq!(ledger.node_peak(node), self.peaks[node]);
            assert!(ledger.node_peak(node) <= limit);
        }
        let reserved: u64 = self.reserved.iter().map(|held| held.1).sum();
        assert_eq!((ledger.reserved(), ledger.committed()), (reserved, self.committed));
        assert_eq!(ledger.charged(ROOT), ledger.reserved() + ledger.committed());
        assert_eq!(ledger.peak(), self.peaks[ROOT]);
        assert_eq!(ledger.waiting(), self.line.len());
        let first = |node: &Node| node.line.keys().next().copied();
        let firsts: BTreeSet<Ticket> = ledger.nodes.iter().filter_map(first).collect();
        assert!(ledger.heads.keys().eq(&firsts), "one place is looked at for each node");
        self.check_deficit(ledger);
    }

    /// The deficit is the least room that, were it added at the root, would grant anyone.
    fn check_deficit(&self, ledger: &Ledger) {
        let deficit = ledger.deficit();
        let any = !self.line.is_empty();
        assert_eq!(ledger.waits(), Waits { at_root: deficit > 0, any });
        if deficit == 0 {
            assert_eq!(self.next_with_spare(2 * LIMITS[ROOT]), None, "no room at the root helps");
            return;
        }
        assert_eq!(self.next_with_spare(deficit - 1), None, "less grants nobody");
        let next = self.next_with_spare(deficit).expect("the deficit grants one");
        if deficit <= self.committed {
            let mut ledger = ledger.clone();
            ledger.uncommit(deficit - 1);
            assert_eq!(ledger.drain_granted(), []);
            ledger.uncommit(1);
            assert_eq!(ledger.drain_granted(), [self.line[next].ticket.unwrap()]);
        }
    }
}
