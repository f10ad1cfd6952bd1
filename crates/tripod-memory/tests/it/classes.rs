use tripod_memory::{MemoryManager, SizeClassError};

#[test]
fn at_most_a_fifth_of_any_pooled_length_is_unused() {
    let memory = MemoryManager::builder().build().unwrap();
    // Within a class the shortest length wastes most, so the length just above each class decides.
    let (mut len, mut classes) = (64, 0);
    loop {
        let capacity = memory.acquire(len).unwrap().capacity();
        memory.trim();
        assert!(capacity >= len);
        assert!((capacity - len) * 5 <= capacity, "{len} bytes in {capacity}");
        classes += 1;
        if capacity == 64 << 20 {
            break;
        }
        assert_eq!(memory.acquire(capacity).unwrap().capacity(), capacity, "a class holds itself");
        len = capacity + 1;
    }
    assert_eq!(classes, 20 * 4 + 1);
}

#[test]
fn lengths_below_the_smallest_class_share_it() {
    let memory = MemoryManager::builder().build().unwrap();
    assert_eq!(memory.acquire(1).unwrap().capacity(), 64);
    assert_eq!(memory.acquire(64).unwrap().capacity(), 64);
    assert_eq!(memory.acquire(65).unwrap().capacity(), 80);
}

#[test]
fn lengths_above_the_largest_class_are_whole_pages_and_not_kept() {
    let memory =
        MemoryManager::builder().size_classes([100]).unwrap().budget_bytes(10_000).build().unwrap();
    let buffer = memory.acquire(5000).unwrap();
    assert_eq!((buffer.len(), buffer.capacity()), (5000, 8192));
    assert_eq!(memory.stats().used_bytes, 8192);
    drop(buffer);
    assert_eq!((memory.stats().used_bytes, memory.stats().idle_bytes), (0, 0));
}

#[test]
fn custom_classes_are_validated() {
    let refused = |sizes: &[usize]| {
        MemoryManager::builder().size_classes(sizes.iter().copied()).map(|_| ()).unwrap_err()
    };
    assert_eq!(refused(&[]), SizeClassError::Empty);
    assert_eq!(refused(&[0, 8]), SizeClassError::Zero { index: 0 });
    assert_eq!(
        refused(&[8, 16, 16]),
        SizeClassError::NotAscending { index: 2, size_bytes: 16, previous_bytes: 16 }
    );
    assert!(matches!(refused(&[8, usize::MAX]), SizeClassError::TooLarge { index: 1, .. }));
}
