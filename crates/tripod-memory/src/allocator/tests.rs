//! What Miri is to see, and what cannot be seen from outside.

use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;

use super::*;
use crate::MemoryManager;

fn manager() -> MemoryManager {
    let builder = MemoryManager::builder().budget_bytes(64 << 20);
    builder.background_collection(false).build().unwrap()
}

/// Half of it is padding.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Padded(u8, u64);

#[test]
fn what_a_collection_never_wrote_is_bytes_when_a_buffer_shows_it() {
    let memory = manager();
    let mut values = Vec::with_capacity_in(100, memory.root().allocator());
    values.push(Padded(1, 2));
    let start = values.as_ptr().cast::<u8>();
    drop(values);
    let buffer = memory.acquire(1600).unwrap();
    assert_eq!(buffer.as_ptr(), start);
    // Miri follows each byte to here.
    let sum: u64 = buffer.iter().map(|&byte| u64::from(byte)).sum();
    assert!(sum <= 255 * 1600);
}

#[test]
fn collections_grow_move_and_go() {
    let memory = manager();
    let budget = memory.budget("collections").create().unwrap();
    let mut numbers = Vec::new_in(budget.allocator());
    numbers.extend((0..40_u32).map(|number| Box::new_in(number, budget.allocator())));
    let mut names = hashbrown::HashMap::with_hasher_in(
        std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default(),
        budget.allocator(),
    );
    names.extend((0..50_u32).map(|number| (number, Padded(number as u8, 7))));
    numbers.truncate(20);
    numbers.shrink_to_fit();
    names.retain(|number, _| number % 10 == 0);
    names.shrink_to_fit();
    assert_eq!(**numbers.last().unwrap(), 19);
    assert_eq!(names[&40], Padded(40, 7));
    drop((numbers, names));
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn a_block_of_its_own_mapping_comes_and_goes() {
    let memory = MemoryManager::builder().size_classes([100, 256]).unwrap();
    let memory = memory.background_collection(false).build().unwrap();
    let allocator = memory.root().allocator();
    let mut bytes = Vec::with_capacity_in(300, allocator);
    bytes.resize(5000, 9_u8);
    assert_eq!(memory.stats().used_bytes, 8192);
    drop(bytes);
    assert_eq!(memory.stats().committed_bytes, 0);
}

#[test]
fn a_block_outlives_the_manager() {
    let memory = manager();
    let boxed = Box::new_in(7_u64, memory.root().allocator());
    drop(memory);
    assert_eq!(*boxed, 7);
}

#[test]
#[cfg_attr(miri, ignore = "nothing unsafe here, and slow")]
fn slots_are_aligned_as_far_as_is_said_and_no_further() {
    let sizes = (1..2000).chain((1..70).map(|count| count * 1024 + 16)).chain([1 << 20, 12_304]);
    for size in sizes {
        let layout = ClassLayout::of(size);
        let offsets = (0..layout.slots()).map(|slot| layout.slot_offset(slot));
        let common = offsets.fold(PAGE_BYTES, |all, offset| all | offset);
        assert_eq!(slot_align(size), 1 << common.trailing_zeros(), "{size}");
    }
}
