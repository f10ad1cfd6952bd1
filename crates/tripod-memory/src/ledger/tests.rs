//! The ledger against a naive model: a list in order of arrival that is walked from the start after
//! every step until nothing changes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// root <- a <- aa, root <- b
const PARENTS: [Option<NodeId>; 4] = [None, Some(ROOT), Some(1), Some(ROOT)];
const LIMITS: [u64; 4] = [100, 60, 30, 70];
const BLOCK: u64 = 10;

fn ledger() -> Ledger {
    let mut ledger = Ledger::new(LIMITS[ROOT]);
    for node in 1..PARENTS.len() {
        assert_eq!(ledger.add_node(PARENTS[node].unwrap(), LIMITS[node]), node);
    }
    ledger
}

#[derive(Clone, Debug)]
enum Step {
    Request(NodeId, u64),
    TryRequest(NodeId, u64),
    Cancel(usize),
    Release(usize),
    Grow(usize, u64),
    Shrink(usize, u64),
    Acquire(NodeId),
    Drop(usize, bool),
    Trim,
    EndFreeing,
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..PARENTS.len();
    let bytes = || prop_oneof![4 => 0..25u64, 1 => 25..110u64];
    let which = || 0..64usize;
    prop_oneof![
        4 => (node(), bytes()).prop_map(|(node, bytes)| Step::Request(node, bytes)),
        1 => (node(), bytes()).prop_map(|(node, bytes)| Step::TryRequest(node, bytes)),
        1 => which().prop_map(Step::Cancel),
        3 => which().prop_map(Step::Release),
        1 => (which(), bytes()).prop_map(|(which, bytes)| Step::Grow(which, bytes)),
        1 => (which(), bytes()).prop_map(|(which, bytes)| Step::Shrink(which, bytes)),
        2 => node().prop_map(Step::Acquire),
        2 => (which(), any::<bool>()).prop_map(|(which, pooled)| Step::Drop(which, pooled)),
        1 => Just(Step::Trim),
        1 => Just(Step::EndFreeing),
    ]
}

#[derive(Debug, Default)]
struct Model {
    /// (ticket, node, bytes) in order of arrival.
    line: Vec<(Ticket, NodeId, u64)>,
    reserved: Vec<(NodeId, u64)>,
    buffers: Vec<NodeId>,
    idle: u64,
    freeing: u64,
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
        let reserved = self.reserved.iter().filter(|held| Self::on_path(held.0, node));
        let buffers = self.buffers.iter().filter(|&&held| Self::on_path(held, node));
        reserved.map(|held| held.1).sum::<u64>() + buffers.count() as u64 * BLOCK
    }

    fn full(&self, node: NodeId, bytes: u64) -> Option<NodeId> {
        let mut lowest_first: Vec<NodeId> =
            (0..PARENTS.len()).filter(|&step| Self::on_path(node, step)).collect();
        lowest_first.reverse();
        lowest_first.into_iter().find(|&step| {
            let freeing = if step == ROOT { self.freeing } else { 0 };
            self.charged(step) + freeing + bytes > LIMITS[step]
        })
    }

    /// The first in line whose turn it is: it fits, and nobody before it waits for a node it needs.
    fn next(&self) -> Option<usize> {
        let mut closed = Vec::new();
        self.line.iter().position(|&(_, node, bytes)| {
            if closed.iter().any(|&full| Self::on_path(node, full)) {
                return false;
            }
            let full = self.full(node, bytes);
            closed.extend(full);
            full.is_none()
        })
    }

    fn settle(&mut self) -> Vec<Ticket> {
        let mut granted = Vec::new();
        while let Some(index) = self.next() {
            let (ticket, node, bytes) = self.line.remove(index);
            self.reserved.push((node, bytes));
            granted.push(ticket);
        }
        granted
    }

    /// Whether a request that arrived now would be granted.
    fn would_grant(&self, node: NodeId, bytes: u64) -> bool {
        let mut closed = Vec::new();
        for &(_, node, bytes) in &self.line {
            if !closed.iter().any(|&full| Self::on_path(node, full)) {
                closed.extend(self.full(node, bytes));
            }
        }
        let free_way = !closed.iter().any(|&full| Self::on_path(node, full));
        bytes == 0 || (free_way && self.full(node, bytes).is_none())
    }
}

/// Takes one step in both, and compares the answers.
fn take_step(ledger: &mut Ledger, model: &mut Model, step: &Step) {
    match *step {
        Step::Request(node, bytes) => {
            let expected = model.would_grant(node, bytes);
            match ledger.request(node, bytes) {
                Err(refusal) => {
                    assert_eq!(refusal, Refusal::Unsatisfiable);
                    assert!(bytes > LIMITS[node]);
                }
                Ok(Answer::Granted) => {
                    assert!(expected);
                    model.reserved.push((node, bytes));
                }
                Ok(Answer::Waiting(ticket)) => {
                    assert!(!expected);
                    model.line.push((ticket, node, bytes));
                }
            }
        }
        Step::TryRequest(node, bytes) => {
            let expected = bytes <= LIMITS[node] && model.would_grant(node, bytes);
            assert_eq!(ledger.try_request(node, bytes).is_ok(), expected);
            if expected {
                model.reserved.push((node, bytes));
            }
        }
        Step::Cancel(which) if !model.line.is_empty() => {
            let (ticket, node, _) = model.line.remove(which % model.line.len());
            assert!(ledger.cancel(node, ticket));
            assert!(!ledger.is_waiting(node, ticket));
        }
        Step::Release(which) if !model.reserved.is_empty() => {
            let (node, bytes) = model.reserved.swap_remove(which % model.reserved.len());
            ledger.release(Kind::Reserved, node, bytes);
        }
        Step::Grow(which, bytes) if !model.reserved.is_empty() => {
            let index = which % model.reserved.len();
            let node = model.reserved[index].0;
            let expected = model.full(node, bytes).is_none();
            assert_eq!(ledger.take(Kind::Reserved, node, bytes).is_ok(), expected);
            if expected {
                model.reserved[index].1 += bytes;
            }
        }
        Step::Shrink(which, bytes) if !model.reserved.is_empty() => {
            let index = which % model.reserved.len();
            let (node, held) = &mut model.reserved[index];
            let bytes = bytes.min(*held);
            *held -= bytes;
            ledger.release(Kind::Reserved, *node, bytes);
        }
        Step::Trim => {
            let all = ledger.idle;
            model.freeing += ledger.evict(all);
            model.idle = 0;
        }
        Step::EndFreeing => ledger.freed(std::mem::take(&mut model.freeing)),
        Step::Acquire(_) | Step::Drop(..) => take_buffer_step(ledger, model, step),
        _ => {}
    }
}

fn take_buffer_step(ledger: &mut Ledger, model: &mut Model, step: &Step) {
    match *step {
        Step::Acquire(node) => {
            let expected = model.full(node, BLOCK).is_none();
            let pooled = model.idle >= BLOCK;
            let taken = if pooled {
                ledger.take_pooled(node, BLOCK)
            } else {
                ledger.take(Kind::Used, node, BLOCK)
            };
            assert_eq!(taken.is_ok(), expected, "an acquire passes those in line");
            if expected {
                model.buffers.push(node);
                model.idle -= if pooled { BLOCK } else { 0 };
            }
        }
        Step::Drop(which, pooled) if !model.buffers.is_empty() => {
            let node = model.buffers.swap_remove(which % model.buffers.len());
            if pooled {
                ledger.release_to_pool(node, BLOCK);
                model.idle += BLOCK;
            } else {
                ledger.release(Kind::Used, node, BLOCK);
            }
        }
        _ => {}
    }
}

/// Evicts whole blocks as the engine does, then compares everything that can be seen.
fn check(ledger: &mut Ledger, model: &mut Model) {
    assert_eq!(ledger.drain_granted(), model.settle(), "who is granted, and in which order");
    let evicted = ledger.deficit().next_multiple_of(BLOCK);
    model.idle -= evicted;
    model.freeing += ledger.evict(evicted);

    assert_eq!(ledger.deficit(), 0);
    assert_eq!(ledger.idle(), model.idle + model.freeing);
    assert_eq!(ledger.waiting(), model.line.len());
    for (node, limit) in LIMITS.into_iter().enumerate() {
        assert_eq!(ledger.charged(node), model.charged(node));
        assert!(ledger.charged(node) <= limit);
        assert!((ledger.charged(node)..=limit).contains(&ledger.node_peak(node)));
    }
    let committed = ledger.reserved() + ledger.used() + ledger.idle();
    assert_eq!(ledger.charged(ROOT), ledger.reserved() + ledger.used());
    assert!((committed..=LIMITS[ROOT]).contains(&ledger.peak()));
    assert_eq!(model.next(), None, "nobody waits whose turn it is");
}

/// Gives everything back and serves the whole line.
fn wind_up(ledger: &mut Ledger, model: &mut Model) {
    let mut served: BTreeMap<NodeId, Ticket> = BTreeMap::new();
    while !(model.line.is_empty() && model.reserved.is_empty() && model.buffers.is_empty()) {
        let waiting: BTreeMap<Ticket, NodeId> =
            model.line.iter().map(|&(ticket, node, _)| (ticket, node)).collect();
        let progress =
            if model.reserved.is_empty() { Step::Drop(0, false) } else { Step::Release(0) };
        take_step(ledger, model, &progress);
        take_step(ledger, model, &Step::EndFreeing);
        for ticket in &ledger.granted {
            let before = served.insert(waiting[ticket], *ticket);
            assert!(before < Some(*ticket), "at one node, first come is first served");
        }
        check(ledger, model);
    }
    take_step(ledger, model, &Step::Trim);
    take_step(ledger, model, &Step::EndFreeing);
    assert_eq!((ledger.reserved(), ledger.used(), ledger.idle(), ledger.waiting()), (0, 0, 0, 0));
    assert!((0..LIMITS.len()).all(|node| ledger.charged(node) == 0));
    assert!(ledger.heads.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn any_sequence_agrees_with_the_naive_model(steps in prop::collection::vec(step(), 1..120)) {
        let (mut ledger, mut model) = (ledger(), Model::default());
        for step in &steps {
            take_step(&mut ledger, &mut model, step);
            check(&mut ledger, &mut model);
        }
        wind_up(&mut ledger, &mut model);
    }
}

fn waiting(ledger: &mut Ledger, node: NodeId, bytes: u64) -> Ticket {
    match ledger.request(node, bytes) {
        Ok(Answer::Waiting(ticket)) => ticket,
        answer => panic!("expected a wait, got {answer:?}"),
    }
}

#[test]
fn a_child_that_is_full_stops_no_sibling_even_when_the_root_is_short_too() {
    let mut ledger = ledger();
    ledger.request(1, 60).unwrap();
    ledger.request(3, 30).unwrap();
    let first = waiting(&mut ledger, 1, 20); // neither `a` nor the root has 20
    assert_eq!(ledger.request(3, 10), Ok(Answer::Granted));

    // `a` has room now, the root has not: from here on the first waiter holds the root.
    ledger.release(Kind::Reserved, 1, 20);
    assert_eq!(ledger.drain_granted(), [first]);
}

#[test]
fn a_waiter_whose_child_has_room_again_closes_the_root() {
    let mut ledger = ledger();
    ledger.request(1, 50).unwrap();
    ledger.request(ROOT, 50).unwrap();
    let large = waiting(&mut ledger, 1, 40);
    ledger.release(Kind::Reserved, 1, 30);
    assert!(ledger.drain_granted().is_empty(), "40 do not fit into 30");
    let small = waiting(&mut ledger, 3, 10);
    assert!(ledger.try_request(ROOT, 10).is_err(), "a try does not pass the line");
    assert_eq!(ledger.take(Kind::Reserved, 3, 10), Ok(()), "what is admitted does");
    ledger.release(Kind::Reserved, 1, 20);
    assert_eq!(ledger.drain_granted(), [large]);
    ledger.cancel(3, small);
    assert_eq!(ledger.waiting(), 0);
}

#[test]
fn a_charge_that_moves_a_wait_to_a_child_lets_the_siblings_on() {
    let mut ledger = ledger();
    ledger.request(ROOT, 70).unwrap();
    let large = waiting(&mut ledger, 1, 60);
    let sibling = waiting(&mut ledger, 3, 10);
    // Now `a` itself lacks room for 60, so more room at the root would not help the first.
    ledger.take(Kind::Used, 1, 5).unwrap();
    assert_eq!(ledger.drain_granted(), [sibling]);
    assert!(ledger.is_waiting(1, large));
}
