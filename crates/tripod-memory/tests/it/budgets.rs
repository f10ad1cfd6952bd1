use tripod_memory::{AcquireError, BudgetError, BuildError, MemoryManager, ReserveError};

use crate::{granted, in_line, manager};

#[test]
fn every_limit_on_the_path_binds() {
    let memory = manager(1000);
    let outer = memory.budget("outer").limit_bytes(500).create().unwrap();
    let inner = outer.budget("inner").limit_bytes(400).create().unwrap();

    let first = inner.try_reserve(300).unwrap();
    assert_eq!([inner.used_bytes(), outer.used_bytes(), memory.root().used_bytes()], [300; 3]);
    let refused = inner.try_reserve(200).unwrap_err();
    assert!(
        matches!(refused, ReserveError::WouldWait { free_bytes: 100, ref budget, .. } if &**budget == "outer/inner")
    );
    let second = outer.try_reserve(150).unwrap();
    let refused = inner.try_reserve(60).unwrap_err();
    assert!(
        matches!(refused, ReserveError::WouldWait { free_bytes: 50, ref budget, .. } if &**budget == "outer")
    );
    assert_eq!(
        refused.to_string(),
        "60 bytes would wait: budget `outer` has 50 free, 0 requests are in line"
    );

    drop((first, second));
    assert_eq!([inner.used_bytes(), outer.used_bytes(), memory.root().used_bytes()], [0; 3]);
    assert_eq!(
        [inner.peak_bytes(), outer.peak_bytes(), memory.root().peak_bytes()],
        [300, 450, 450]
    );
}

#[test]
fn buffers_are_charged_by_capacity_to_the_budget_that_acquired_them() {
    let memory = manager(10_000);
    let child = memory.budget("child").limit_bytes(4096).create().unwrap();
    let buffer = child.acquire(4000).unwrap();
    assert_eq!((child.used_bytes(), memory.stats().used_bytes), (4096, 4096));
    assert!(matches!(child.acquire(1), Err(AcquireError::OverBudget { free_bytes: 0, .. })));
    assert!(matches!(
        child.acquire(5000),
        Err(AcquireError::Unsatisfiable { budget_bytes: 4096, .. })
    ));
    assert!(memory.acquire(1).is_ok());
    drop(buffer);
    // Idle in the shared pool, it weighs on no child; the root may use it.
    assert_eq!(child.used_bytes(), 0);
    let hits = memory.stats().hits;
    let _pooled = memory.acquire(4096).unwrap();
    assert_eq!(memory.stats().hits, hits + 1);
}

#[test]
fn a_request_above_a_childs_limit_is_unsatisfiable_at_once() {
    let memory = manager(1000);
    let child = memory.budget("child").limit_bytes(100).create().unwrap();
    let error = child.try_reserve(101).unwrap_err();
    let expected = ReserveError::Unsatisfiable {
        needed_bytes: 101,
        budget_bytes: 100,
        budget: "child".into(),
    };
    assert_eq!(error, expected);
    let reservation = child.try_reserve(60).unwrap();
    assert!(matches!(
        reservation.try_grow(50),
        Err(ReserveError::Unsatisfiable { needed_bytes: 110, budget_bytes: 100, .. })
    ));
    assert!(matches!(reservation.try_grow(u64::MAX), Err(ReserveError::Unsatisfiable { .. })));
    assert_eq!(reservation.bytes(), 60);
}

#[test]
fn a_full_child_does_not_hold_up_its_sibling() {
    let memory = manager(1000);
    let full = memory.budget("full").limit_bytes(100).create().unwrap();
    let sibling = memory.budget("sibling").limit_bytes(100).create().unwrap();
    let held = full.try_reserve(100).unwrap();
    let mut waits = in_line(full.reserve(50));
    let passed = sibling.try_reserve(50).unwrap();
    let passed_too = memory.try_reserve(800).unwrap();
    // The root is short now as well, yet what the waiter waits for first is its own budget.
    assert!(sibling.try_reserve(50).is_ok());
    drop((held, passed, passed_too));
    assert_eq!(granted(&mut waits).bytes(), 50);
}

#[test]
fn the_same_name_and_limit_is_the_same_budget() {
    let memory = manager(1000);
    let first = memory.budget("cache").limit_bytes(100).create().unwrap();
    let again = memory.clone().budget("cache").limit_bytes(100).create().unwrap();
    let held = first.try_reserve(70).unwrap();
    assert_eq!(again.used_bytes(), 70);
    // The name is taken among siblings, not everywhere.
    let below = first.budget("cache").limit_bytes(50).create().unwrap();
    assert_eq!((below.name(), below.path(), below.used_bytes()), ("cache", "cache/cache", 0));
    drop(held);
}

#[test]
fn budgets_that_could_not_work_are_refused() {
    let memory = manager(1000);
    memory.budget("taken").limit_bytes(10).create().unwrap();
    let refused = |name: &str, bytes| memory.budget(name).limit_bytes(bytes).create().unwrap_err();
    assert!(matches!(refused("zero", 0), BudgetError::ZeroLimit { .. }));
    assert!(matches!(refused("large", 1001), BudgetError::AboveParent { parent_bytes: 1000, .. }));
    assert_eq!(
        refused("taken", 11).to_string(),
        "budget `taken` exists with a limit of 10 bytes, not 11"
    );
    for name in ["", "a/b", "root"] {
        assert!(matches!(refused(name, 1), BudgetError::InvalidName { .. }));
    }
    let unbuilt = MemoryManager::builder().budget_bytes(0).build();
    assert!(matches!(unbuilt, Err(BuildError::ZeroBudget)));
}

#[test]
fn an_unlimited_manager_counts_to_the_last_byte() {
    let memory = MemoryManager::builder().build().unwrap();
    drop(memory.acquire(64).unwrap());
    let all = memory.try_reserve(u64::MAX).unwrap();
    assert_eq!((memory.stats().idle_bytes, memory.stats().committed_bytes), (0, u64::MAX));
    assert!(memory.try_reserve(1).is_err());
    assert!(memory.acquire(1).is_err());
    assert!(all.try_grow(1).is_err());
    drop(all);
    assert_eq!(memory.stats().committed_bytes, 0);
}
