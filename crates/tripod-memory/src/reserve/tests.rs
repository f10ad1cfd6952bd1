//! Reservations that outlive their manager; Miri sees whether the engine does, too.

use crate::MemoryManager;

fn manager() -> MemoryManager {
    let builder = MemoryManager::builder().budget_bytes(1000).background_collection(false);
    builder.size_classes([64]).unwrap().build().unwrap()
}

#[test]
fn a_reservation_outlives_its_manager() {
    let memory = manager();
    let held = memory.try_reserve(600).unwrap();
    drop(memory);
    assert_eq!(held.shrink(100), 100);
    assert!(held.try_grow(501).is_err());
    assert_eq!((held.bytes(), held.budget_path()), (500, "root"));
}

#[test]
fn a_reservation_of_no_bytes_outlives_its_manager() {
    let memory = manager();
    let (granted, shrunk) = (memory.try_reserve(0).unwrap(), memory.try_reserve(600).unwrap());
    let moved = memory.try_reserve(100).unwrap();
    drop(memory);
    assert_eq!((shrunk.shrink(700), moved.move_to(&granted, 200)), (600, 100));
    assert_eq!(granted.shrink(100), 100);
    for held in [granted, shrunk, moved] {
        assert_eq!((held.bytes(), held.budget_path()), (0, "root"));
        assert!(held.try_grow(1001).is_err());
        held.try_grow(10).unwrap();
        assert_eq!(held.shrink(10), 10);
    }
}
