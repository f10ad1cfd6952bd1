//! The ledger against a naive model: a list that is sorted by priority and walked from the start
//! after every grant until nothing changes. Then single behaviours.

use proptest::prelude::*;

use super::*;

mod model;

use model::{LIMITS, PARENTS};

fn ledger() -> Ledger {
    let mut ledger = Ledger::new(LIMITS[ROOT]);
    for node in 1..PARENTS.len() {
        assert_eq!(ledger.add_node(PARENTS[node].unwrap(), LIMITS[node]), node);
    }
    ledger
}

const A: NodeId = 1;
const AA: NodeId = 2;
const B: NodeId = 3;
const AB: NodeId = 4;

fn waiting(ledger: &mut Ledger, node: NodeId, bytes: u64, priority: u8) -> Ticket {
    match ledger.request(node, bytes, priority) {
        Ok(Answer::Waiting(ticket)) => ticket,
        answer => panic!("expected a wait, got {answer:?}"),
    }
}

fn granted(ledger: &mut Ledger, node: NodeId, bytes: u64) {
    assert_eq!(ledger.request(node, bytes, 0), Ok(Answer::Granted));
}

#[test]
fn a_child_that_is_full_stops_no_sibling_even_when_the_root_is_short_too() {
    let mut ledger = ledger();
    granted(&mut ledger, A, 60);
    granted(&mut ledger, B, 30);
    let first = waiting(&mut ledger, A, 20, 0); // neither `a` nor the root has 20
    assert_eq!(ledger.waits(), Waits { at_root: false, any: true });
    granted(&mut ledger, B, 10);

    // `a` has room now, the root has not: from here on the first waiter holds the root.
    ledger.release(Charge::Reserved, A, 20);
    assert_eq!(ledger.drain_granted(), [first]);
}

#[test]
fn a_waiter_whose_child_has_room_again_closes_the_root() {
    let mut ledger = ledger();
    granted(&mut ledger, A, 50);
    granted(&mut ledger, ROOT, 50);
    let large = waiting(&mut ledger, A, 40, 0);
    ledger.release(Charge::Reserved, A, 30);
    assert!(ledger.drain_granted().is_empty(), "40 do not fit into 30");
    let small = waiting(&mut ledger, B, 10, 0);
    let refusal = Refusal::Short { node: ROOT, free: 30 };
    assert_eq!(ledger.try_request(ROOT, 10), Err(refusal), "a try does not pass the line");
    assert_eq!(ledger.take(Charge::Reserved, B, 10), Ok(()), "what is admitted does");
    ledger.release(Charge::Reserved, A, 20);
    assert_eq!(ledger.drain_granted(), [large]);
    ledger.cancel(B, small);
    assert_eq!(ledger.waits(), Waits { at_root: false, any: false });
}

#[test]
fn a_charge_that_moves_a_wait_to_a_child_lets_the_siblings_on() {
    let mut ledger = ledger();
    granted(&mut ledger, ROOT, 70);
    let large = waiting(&mut ledger, A, 60, 0);
    let sibling = waiting(&mut ledger, B, 10, 0);
    // Now `a` itself lacks room for 60, so more room at the root would not help the first.
    ledger.take(Charge::Used, A, 5).unwrap();
    assert_eq!(ledger.drain_granted(), [sibling]);
    assert!(ledger.is_waiting(A, large));
    assert_eq!(ledger.deficit(), 0, "what is committed could go and nobody would be granted");
}

#[test]
fn a_higher_priority_overtakes_a_waiter_at_the_node_that_it_closed() {
    let mut ledger = ledger();
    granted(&mut ledger, A, 40);
    let low = waiting(&mut ledger, A, 30, 0);
    assert_eq!(ledger.request(AA, 20, 1), Ok(Answer::Granted), "it fits, and stands before");
    let high = waiting(&mut ledger, A, 30, 1);
    let highest = waiting(&mut ledger, A, 30, 255);
    let low_too = waiting(&mut ledger, A, 30, 0);
    ledger.release(Charge::Reserved, A, 40);
    assert_eq!(ledger.drain_granted(), [highest]);
    ledger.release(Charge::Reserved, A, 30);
    ledger.release(Charge::Reserved, AA, 20);
    assert_eq!(ledger.drain_granted(), [high, low]);
    assert!(ledger.is_waiting(A, low_too));
}

#[test]
fn a_waiter_of_high_priority_is_not_passed_by_a_small_one_of_low_priority() {
    let mut ledger = ledger();
    granted(&mut ledger, ROOT, 70);
    let high = waiting(&mut ledger, ROOT, 40, 7);
    let low = waiting(&mut ledger, ROOT, 10, 6);
    assert!(ledger.try_request(B, 10).is_err());
    ledger.release(Charge::Reserved, ROOT, 70);
    assert_eq!(ledger.drain_granted(), [high, low]);
}

#[test]
fn a_newcomer_that_waits_at_a_child_can_let_the_siblings_on() {
    let mut ledger = ledger();
    ledger.commit(65).unwrap();
    granted(&mut ledger, A, 10);
    let stopped_by_root = waiting(&mut ledger, A, 50, 0);
    let sibling = waiting(&mut ledger, B, 10, 0);
    // It closes `a`, so the first in `a` no longer needs the root, which the sibling needs alone.
    let first_now = waiting(&mut ledger, A, 60, 1);
    assert_eq!(ledger.drain_granted(), [sibling]);
    assert!(ledger.is_waiting(A, stopped_by_root) && ledger.is_waiting(A, first_now));
}

#[test]
fn used_bytes_bind_a_child_and_its_parent_but_not_the_root() {
    let mut ledger = ledger();
    ledger.commit(100).unwrap();
    ledger.take(Charge::Used, AA, 30).unwrap();
    ledger.take(Charge::Used, A, 30).unwrap();
    ledger.take(Charge::Used, B, 70).unwrap();
    ledger.take(Charge::Used, ROOT, 100).unwrap();
    let refusal = Refusal::Short { node: A, free: 0 };
    assert_eq!(ledger.take(Charge::Used, AB, 1), Err(refusal));
    assert_eq!(ledger.take(Charge::Used, AA, 31), Err(Refusal::Unsatisfiable));
    let charged = [ROOT, A, AA, B].map(|node| ledger.charged(node));
    assert_eq!(charged, [100, 60, 30, 70]);
    ledger.uncommit(100);
    assert_eq!((ledger.charged(ROOT), ledger.peak()), (0, 100));
}

#[test]
fn what_is_committed_takes_the_room_of_reservations_and_the_other_way_round() {
    let mut ledger = ledger();
    ledger.commit(60).unwrap();
    assert_eq!(ledger.try_request(B, 41), Err(Refusal::Short { node: ROOT, free: 40 }));
    let waiter = waiting(&mut ledger, B, 70, 0);
    assert_eq!(ledger.deficit(), 30);
    ledger.commit(10).unwrap(); // whoever waits
    assert_eq!(ledger.deficit(), 40);
    assert_eq!(ledger.commit(31), Err(Refusal::Short { node: ROOT, free: 30 }));
    assert_eq!(ledger.commit(101), Err(Refusal::Unsatisfiable));
    ledger.uncommit(39);
    assert_eq!((ledger.drain_granted(), ledger.deficit()), (vec![], 1));
    ledger.uncommit(1);
    assert_eq!((ledger.drain_granted(), ledger.deficit()), (vec![waiter], 0));
    assert_eq!((ledger.reserved(), ledger.committed(), ledger.peak()), (70, 30, 100));
}

#[test]
fn the_deficit_is_that_of_the_first_who_waits_for_the_root_alone() {
    let mut ledger = ledger();
    granted(&mut ledger, AA, 20);
    ledger.commit(80).unwrap();
    waiting(&mut ledger, AA, 30, 2); // waits for `aa`
    assert_eq!(ledger.deficit(), 0);
    waiting(&mut ledger, AA, 1, 1); // stands behind it
    assert_eq!(ledger.deficit(), 0);
    let second = waiting(&mut ledger, B, 20, 0);
    waiting(&mut ledger, B, 5, 0); // would need less, but stands behind
    assert_eq!(ledger.deficit(), 20);
    let first = waiting(&mut ledger, A, 25, 1);
    assert_eq!(ledger.deficit(), 25);
    assert!(ledger.cancel(A, first));
    assert_eq!(ledger.deficit(), 20);
    ledger.uncommit(20);
    assert_eq!(ledger.drain_granted(), [second]);
}

#[test]
fn zero_bytes_are_granted_whoever_waits() {
    let mut ledger = ledger();
    let empty = ledger.add_node(ROOT, 0);
    ledger.commit(100).unwrap();
    waiting(&mut ledger, ROOT, 1, 255);
    granted(&mut ledger, empty, 0);
    ledger.try_request(ROOT, 0).unwrap();
    ledger.take(Charge::Used, empty, 0).unwrap();
    ledger.commit(0).unwrap();
    assert_eq!(ledger.waiting(), 1);
}

#[test]
fn the_largest_limit_overflows_no_sum() {
    let mut ledger = Ledger::new(u64::MAX);
    let a = ledger.add_node(ROOT, u64::MAX);
    let b = ledger.add_node(ROOT, u64::MAX);
    for node in [a, b, ROOT] {
        ledger.take(Charge::Used, node, u64::MAX).unwrap();
    }
    assert_eq!(ledger.take(Charge::Used, a, 1), Err(Refusal::Short { node: a, free: 0 }));
    ledger.release(Charge::Used, a, u64::MAX);
    ledger.commit(1).unwrap();
    let waiter = waiting(&mut ledger, a, u64::MAX, 0);
    assert_eq!(ledger.deficit(), 1);
    ledger.commit(u64::MAX - 1).unwrap();
    assert_eq!(ledger.deficit(), u64::MAX);
    ledger.uncommit(u64::MAX);
    assert_eq!(ledger.drain_granted(), [waiter]);
    assert_eq!(ledger.take(Charge::Reserved, b, 1), Err(Refusal::Short { node: b, free: 0 }));
}

#[test]
fn nothing_is_released_that_was_not_charged() {
    let mut start = ledger();
    granted(&mut start, A, 10);
    start.take(Charge::Used, B, 20).unwrap();
    start.commit(30).unwrap();
    // Not by an overflow, which a release build does not see.
    let refuses = |step: fn(&mut Ledger)| {
        let mut ledger = start.clone();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| step(&mut ledger)));
        let message = outcome.err().and_then(|panic| panic.downcast::<&str>().ok());
        message.is_some_and(|message| message.starts_with("only what was"))
    };
    assert!(refuses(|ledger| ledger.release(Charge::Reserved, A, 11)));
    assert!(refuses(|ledger| ledger.release(Charge::Reserved, AA, 10)));
    assert!(refuses(|ledger| ledger.release(Charge::Used, A, 11)));
    assert!(refuses(|ledger| ledger.release(Charge::Used, ROOT, 21)));
    assert!(refuses(|ledger| ledger.uncommit(31)));
    assert!(!refuses(|ledger| ledger.uncommit(30)));
}

#[test]
#[should_panic(expected = "a child's limit is within its parent's")]
fn a_child_above_its_parent_is_refused() {
    ledger().add_node(A, 61);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn any_sequence_agrees_with_the_naive_model(
        steps in prop::collection::vec(model::step(), 1..120),
    ) {
        model::run(ledger(), &steps);
    }
}
