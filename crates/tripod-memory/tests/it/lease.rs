use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use tripod_memory::{AcquireError, LeaseError, MemoryManager};

use crate::collected_by_hand;

const HOUR: Duration = Duration::from_secs(3600);
const STEP: Duration = Duration::from_secs(10);

/// Lets a lease of `len` bytes pass its end without a collection.
fn over(memory: &MemoryManager, len: usize) -> tripod_memory::LeaseId {
    let id = memory.lease(len, Duration::from_nanos(1)).expect("there is room");
    while memory.leased(id, |_| ()).is_ok() {
        std::hint::spin_loop();
    }
    id
}

#[test]
fn an_expired_lease_is_refused_everywhere_before_anyone_collects_it() {
    let memory = collected_by_hand(1 << 20);
    let id = over(&memory, 4096);
    assert_eq!(memory.stats().used_bytes, 4096, "nobody has collected it");
    assert_eq!(
        memory.leased(id, |_| unreachable!("it is over")),
        Err::<(), _>(LeaseError::Expired)
    );
    assert_eq!(memory.renew(id, HOUR), Err(LeaseError::Expired));
    assert_eq!(memory.end_lease(id).unwrap_err(), LeaseError::Expired);
    let collected = memory.collect(Instant::now(), STEP);
    assert_eq!((collected.leases, memory.stats().used_bytes), (1, 0));
    assert_eq!((memory.stats().leases, memory.stats().expired_leases), (0, 1));
    assert_eq!(memory.renew(id, HOUR), Err(LeaseError::Expired));
}

#[test]
fn an_old_id_never_reaches_the_memory_that_another_lease_has_now() {
    let memory = collected_by_hand(1 << 20);
    let old = over(&memory, 4096);
    memory.collect(Instant::now(), STEP);
    let new = memory.lease(4096, HOUR).unwrap();
    memory.leased(new, |bytes| bytes.fill(0xAB)).unwrap();
    assert_eq!(memory.leased(old, |bytes| bytes[0]), Err(LeaseError::Expired));
    let ended = memory.end_lease(new).unwrap();
    assert_eq!(ended[4095], 0xAB);
    assert_eq!(memory.leased(new, |bytes| bytes[0]), Err(LeaseError::Expired));
}

#[test]
fn ids_of_other_managers_are_told_apart_from_expired_ones() {
    let (memory, other) = (collected_by_hand(1 << 20), collected_by_hand(1 << 20));
    let id = memory.lease(64, HOUR).unwrap();
    assert_eq!(other.leased(id, |_| ()), Err(LeaseError::OtherManager));
    assert_eq!(other.end_lease(id).unwrap_err(), LeaseError::OtherManager);
    assert!(memory.leased(id, |_| ()).is_ok());
}

#[test]
fn nothing_that_cannot_be_leased_is_and_nothing_stays_charged_for_it() {
    let memory = collected_by_hand(1 << 20);
    assert_eq!(memory.lease(64, Duration::ZERO), Err(LeaseError::ZeroTtl));
    let id = memory.lease(0, Duration::MAX).unwrap();
    assert_eq!(memory.leased(id, |bytes| bytes.len()), Ok(0));
    assert_eq!(memory.renew(id, Duration::ZERO), Err(LeaseError::ZeroTtl));
    let refused = memory.lease(2 << 20, HOUR).unwrap_err();
    assert!(
        matches!(refused, LeaseError::Acquire(AcquireError::Unsatisfiable { .. })),
        "{refused}"
    );
    assert!(matches!(
        memory.lease(usize::MAX, HOUR),
        Err(LeaseError::Acquire(AcquireError::TooLong { .. }))
    ));
    assert_eq!((memory.stats().used_bytes, memory.stats().leases), (0, 1));
}

#[test]
fn a_lease_is_charged_to_its_budget_until_it_is_collected() {
    let memory = collected_by_hand(1 << 20);
    let child = memory.budget("child").limit_bytes(4096).create().unwrap();
    child.lease(4096, HOUR).unwrap();
    assert_eq!(child.used_bytes(), 4096);
    assert!(child.lease(64, HOUR).is_err());
    memory.collect(Instant::now() + HOUR + STEP, STEP);
    assert_eq!(child.used_bytes(), 0);
}

#[test]
fn work_on_one_lease_holds_up_no_other_and_a_second_on_it_is_refused() {
    let memory = collected_by_hand(1 << 20);
    let (busy, free) = (memory.lease(64, HOUR).unwrap(), memory.lease(64, HOUR).unwrap());
    let (inside, outside) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let work = |_: &mut [u8]| {
                inside.wait();
                outside.wait();
            };
            memory.leased(busy, work).unwrap();
        });
        inside.wait();
        assert_eq!(memory.leased(busy, |_| ()), Err(LeaseError::InUse));
        assert_eq!(memory.end_lease(busy).unwrap_err(), LeaseError::InUse);
        memory.renew(busy, HOUR).unwrap();
        memory.leased(free, |bytes| bytes.fill(1)).unwrap();
        memory.lease(64, HOUR).unwrap();
        outside.wait();
    });
    assert!(memory.leased(busy, |_| ()).is_ok());
}

#[test]
fn a_lease_that_passes_its_end_in_use_goes_back_when_its_user_is_done() {
    let memory = collected_by_hand(1 << 20);
    let id = memory.lease(4096, HOUR).unwrap();
    memory
        .leased(id, |bytes| {
            let collected = memory.collect(Instant::now() + HOUR + STEP, STEP);
            assert_eq!((collected.leases, memory.stats().used_bytes), (1, 4096));
            bytes.fill(3);
        })
        .unwrap();
    assert_eq!((memory.stats().used_bytes, memory.stats().leases), (0, 0));
}

#[test]
fn a_panic_while_working_on_a_lease_leaves_it_as_it_was_written() {
    let memory = collected_by_hand(1 << 20);
    let id = memory.lease(2, HOUR).unwrap();
    let work = |bytes: &mut [u8]| {
        bytes[0] = 9;
        panic!("the worker");
    };
    assert!(catch_unwind(AssertUnwindSafe(|| memory.leased(id, work))).is_err());
    assert_eq!(memory.leased(id, |bytes| bytes[0]), Ok(9));
}

#[test]
fn leases_end_with_their_manager_and_are_no_leak() {
    let (told, leaks) = std::sync::mpsc::channel();
    let builder =
        MemoryManager::builder().on_leak(move |report| told.send(report.clone()).unwrap());
    let memory = builder.build().unwrap();
    memory.lease(4096, HOUR).unwrap();
    assert_eq!(memory.outstanding().buffer_bytes, 4096);
    drop(memory);
    assert!(leaks.try_recv().is_err());
}

#[test]
fn the_background_takes_a_lease_back_though_nothing_else_would_wake_it_in_time() {
    // A tick of an hour, so that only the end of the lease brings the collector.
    let memory = MemoryManager::builder().ttl(8 * HOUR).build().unwrap();
    drop(memory.acquire(4096).unwrap());
    memory.lease(4096, Duration::from_millis(1)).unwrap();
    while memory.stats().leases > 0 {
        std::thread::yield_now();
    }
    assert_eq!(memory.stats().expired_leases, 1);
}

#[test]
fn leases_of_many_threads_hold_what_was_written_and_all_come_back() {
    const ROUNDS: usize = if cfg!(miri) { 5 } else { 500 };
    let memory = collected_by_hand(64 << 20);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let memory = &memory;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let len = 64 + round * 16;
                    let id = memory.lease(len, HOUR).unwrap();
                    memory.leased(id, |bytes| bytes.fill(thread)).unwrap();
                    if round % 3 == 0 {
                        memory.collect(Instant::now(), STEP);
                    }
                    let buffer = memory.end_lease(id).unwrap();
                    assert!(buffer.len() == len && buffer.iter().all(|&byte| byte == thread));
                }
            });
        }
    });
    assert_eq!((memory.stats().leases, memory.stats().used_bytes), (0, 0));
}
