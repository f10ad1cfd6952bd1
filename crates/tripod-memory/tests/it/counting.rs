//! Allocations by account, with the counting allocator as that of this whole program.
//!
//! The other tests of this binary allocate through it, too, without an account: for them it is a header
//! of 16 bytes, and one more program that has to work on it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use tripod_memory::{AllocationAccount, CountingAllocator, MemoryManager};

use crate::collected_by_hand;
use crate::refused_heap::Stingy;

#[global_allocator]
static ALLOCATOR: CountingAllocator<Stingy> = CountingAllocator::over(Stingy);

/// Wants to lie at the start of a page.
#[repr(align(4096))]
struct Page([u8; 4096]);

#[test]
fn collections_count_to_the_account_they_were_filled_under() {
    static ACCOUNT: AllocationAccount = AllocationAccount::new("collections");
    let scope = ACCOUNT.enter();
    let words: Vec<u64> = Vec::with_capacity(1000);
    assert_eq!((ACCOUNT.bytes(), ACCOUNT.allocations()), (8000, 1));
    let map: HashMap<u32, String> = (0..100).map(|key| (key, key.to_string())).collect();
    let page = Box::new(Page([7; 4096]));
    assert!(std::ptr::from_ref(&*page).addr().is_multiple_of(4096));
    drop(scope);
    let elsewhere = vec![0_u8; 1 << 20];
    assert!((8000 + 4096..1 << 20).contains(&ACCOUNT.bytes()), "{ACCOUNT:?}");
    assert!(ACCOUNT.allocations() >= 1 + 100 + 2, "{ACCOUNT:?}");
    assert_eq!((page.0[4095], map[&42].as_str()), (7, "42"));
    drop((words, map, page, elsewhere));
    assert_eq!(ACCOUNT.bytes(), 0);
    assert!(ACCOUNT.peak_bytes() >= 8000 + 4096);
}

#[test]
fn a_vector_that_grows_under_another_account_stays_with_its_own() {
    static OWN: AllocationAccount = AllocationAccount::new("own");
    static OTHER: AllocationAccount = AllocationAccount::new("other");
    let mut numbers: Vec<u32> = {
        let _scope = OWN.enter();
        Vec::with_capacity(1)
    };
    {
        let _scope = OTHER.enter();
        numbers.extend(0..100_000);
    }
    assert!(numbers.iter().copied().eq(0..100_000));
    assert_eq!(OWN.bytes(), 4 * numbers.capacity() as u64);
    assert_eq!((OTHER.bytes(), OTHER.peak_bytes(), OTHER.allocations()), (0, 0, 0));
    drop(numbers);
    assert_eq!(OWN.bytes(), 0);
}

#[test]
fn a_thread_does_not_inherit_the_account_and_may_free_while_it_ends() {
    static ACCOUNT: AllocationAccount = AllocationAccount::new("ending");
    thread_local! {
        static KEPT: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }
    let before = {
        let _scope = ACCOUNT.enter();
        // What spawning allocates is counted; what the thread itself does is not until it enters.
        let thread = std::thread::spawn(|| {
            let uncounted = vec![0_u8; 1 << 20];
            let before = ACCOUNT.bytes();
            let _scope = ACCOUNT.enter();
            KEPT.with_borrow_mut(|kept| kept.extend((0..1000).map(|number| number.to_string())));
            assert!(ACCOUNT.bytes() >= before + 24_000);
            drop(uncounted);
            before
        });
        thread.join().expect("its assertions hold")
    };
    assert!(before < 1 << 20, "{before}");
    assert!(ACCOUNT.peak_bytes() >= 24_000);
    assert_eq!(ACCOUNT.bytes(), 0);
}

/// Twelve threads pass what they allocate on to each other; all of it must come back to the account.
#[test]
fn nothing_is_left_when_threads_allocate_under_two_accounts_and_free_for_each_other() {
    const THREADS: usize = 12;
    const ROUNDS: usize = 3_000;
    static EVEN: AllocationAccount = AllocationAccount::new("even");
    static ODD: AllocationAccount = AllocationAccount::new("odd");
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| channel::<Vec<u8>>()).unzip();
    let start = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = receivers
        .into_iter()
        .enumerate()
        .map(|(number, received)| {
            let to_next = senders[(number + 1) % THREADS].clone();
            let start = start.clone();
            std::thread::spawn(move || {
                start.wait();
                for round in 0..ROUNDS {
                    let account = if (number + round) % 2 == 0 { &EVEN } else { &ODD };
                    let len = 1 + (round * 37) % 9000;
                    let bytes = {
                        let _scope = account.enter();
                        vec![round as u8; len]
                    };
                    // The queue's own blocks count to nobody.
                    to_next.send(bytes).expect("the next one listens to the end");
                    for mut bytes in received.try_iter() {
                        assert!(bytes.iter().all(|&byte| byte == bytes[0]));
                        bytes.truncate(bytes.len() / 2);
                        bytes.shrink_to_fit();
                    }
                }
                drop(to_next);
                received.into_iter().for_each(drop);
            })
        })
        .collect();
    drop(senders);
    threads.into_iter().for_each(|thread| thread.join().expect("its assertions hold"));
    for account in [&EVEN, &ODD] {
        assert_eq!(account.bytes(), 0, "{account:?}");
        assert_eq!(account.allocations(), (THREADS * ROUNDS / 2) as u64);
        assert!(account.peak_bytes() >= 8000, "{account:?}");
    }
}

const STEP: Duration = Duration::from_secs(10);

#[test]
fn a_budget_follows_an_account_as_far_as_it_has_room() {
    static ACCOUNT: AllocationAccount = AllocationAccount::new("followed");
    let allocate = |bytes: usize| {
        let _scope = ACCOUNT.enter();
        vec![0_u8; bytes]
    };
    let memory = collected_by_hand(100_000);
    let child = memory.budget("child").limit_bytes(50_000).create().unwrap();
    let before = allocate(7000);
    let charge = child.follow(&ACCOUNT);
    assert_eq!((charge.bytes(), child.used_bytes()), (7000, 7000), "what there was already");
    let more = allocate(33_000);
    assert_eq!(charge.bytes(), 7000, "nobody has looked");
    memory.collect(Instant::now(), STEP);
    assert_eq!((charge.bytes(), charge.uncharged_bytes()), (40_000, 0));

    // More than the child can ever have.
    let most = allocate(20_000);
    memory.collect(Instant::now(), STEP);
    assert_eq!((charge.bytes(), charge.uncharged_bytes()), (50_000, 10_000));
    assert_eq!((memory.stats().uncharged_bytes, child.used_bytes()), (10_000, 50_000));
    drop((before, more));
    memory.collect(Instant::now(), STEP);
    assert_eq!((charge.bytes(), memory.stats().uncharged_bytes), (20_000, 0));

    // More than others have left of the parent.
    let held = memory.try_reserve(75_000).unwrap();
    let again = allocate(10_000);
    memory.collect(Instant::now(), STEP);
    assert_eq!((charge.bytes(), charge.uncharged_bytes()), (25_000, 5000));
    drop(held);
    memory.collect(Instant::now(), STEP);
    assert_eq!((charge.bytes(), charge.uncharged_bytes()), (30_000, 0));
    assert_eq!((charge.account().name(), charge.budget_path()), ("followed", "child"));

    drop(charge);
    memory.collect(Instant::now(), STEP);
    assert_eq!((memory.stats().reserved_bytes, memory.stats().uncharged_bytes), (0, 0));
    drop((most, again));
}

#[test]
fn the_background_follows_an_account_while_no_memory_is_pooled() {
    static ACCOUNT: AllocationAccount = AllocationAccount::new("in the background");
    let memory = MemoryManager::builder().build().unwrap();
    let charge = memory.root().follow(&ACCOUNT);
    let bytes = {
        let _scope = ACCOUNT.enter();
        vec![0_u8; 5000]
    };
    while charge.bytes() < 5000 {
        std::thread::yield_now();
    }
    drop(memory);
    // It outlives the manager, and nobody follows any more.
    drop(bytes);
    assert_eq!(charge.bytes(), 5000);
}

#[test]
fn what_the_compiler_sees_from_its_beginning_to_its_end_is_counted_as_well() {
    // With link-time optimisation all of this is one function.
    static ACCOUNT: AllocationAccount = AllocationAccount::new("in one function");
    let _scope = ACCOUNT.enter();
    let address = std::ptr::from_ref(&*Box::new(0_u8)).addr();
    assert_ne!(std::hint::black_box(address), 0);
    let mut bytes = Vec::<u8>::with_capacity(10);
    bytes.reserve_exact(20);
    assert_eq!((ACCOUNT.bytes(), ACCOUNT.allocations()), (20, 2));
    drop(bytes);
    assert_eq!(ACCOUNT.bytes(), 0);
}
