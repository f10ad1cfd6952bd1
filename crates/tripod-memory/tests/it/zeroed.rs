//! Buffers that come with zeroes.

use crate::manager;

#[test]
fn what_an_earlier_holder_left_is_gone_from_every_visible_byte() {
    let memory = manager(1 << 30);
    for len in [1, 64, 100, 4096, 65_536, 1_000_000] {
        let mut dirty = memory.acquire(len).unwrap();
        let (start, capacity) = (dirty.as_ptr(), dirty.capacity());
        dirty.resize(capacity).unwrap();
        dirty.fill(0xEE);
        drop(dirty);
        let zeroed = memory.acquire_zeroed(len).unwrap();
        assert_eq!(zeroed.as_ptr(), start, "the test means to see a used buffer");
        assert!(zeroed.iter().all(|&byte| byte == 0), "{len}");
        assert_eq!(zeroed.len(), len);
    }
    assert!(memory.acquire_zeroed(0).unwrap().is_empty());
}

#[cfg(not(miri))]
#[test]
fn above_the_largest_class_zeroes_cost_no_memory_until_they_are_touched() {
    const LEN: usize = 256 << 20;
    // The kernel's own account of the pages that this process has touched.
    let resident_bytes = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let memory = tripod_memory::MemoryManager::builder().build().unwrap();
    for _ in 0..2 {
        let before = resident_bytes();
        let mut zeroed = memory.acquire_zeroed(LEN).unwrap();
        // Other tests allocate meanwhile, but not as much.
        assert!(resident_bytes() < before + LEN / 2);
        assert_eq!((zeroed[0], zeroed[LEN / 2], zeroed[LEN - 1]), (0, 0, 0));
        zeroed[LEN / 2] = 1;
    }
}
