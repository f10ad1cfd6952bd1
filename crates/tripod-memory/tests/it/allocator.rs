//! Collections in pooled memory, and the allocator under them.

use std::alloc::Layout;
use std::hash::RandomState;
use std::ptr::NonNull;
use std::thread;

use hashbrown::HashMap;
use proptest::prelude::*;
use tripod_memory::allocator_api2::alloc::Allocator;
use tripod_memory::allocator_api2::boxed::Box;
use tripod_memory::allocator_api2::vec::Vec;
use tripod_memory::{MemoryManager, PoolAllocator};

use crate::manager;

#[test]
fn collections_are_charged_by_size_class_and_leave_nothing_behind() {
    let memory = manager(1 << 20);
    let budget = memory.budget("index").limit_bytes(256 << 10).create().unwrap();
    let allocator = budget.allocator();
    let boxed = Box::new_in([1_u8; 100], allocator.clone());
    assert_eq!(budget.used_bytes(), 112);
    let mut numbers = Vec::with_capacity_in(1000, allocator.clone());
    numbers.extend(0..1000_u64);
    assert_eq!(budget.used_bytes(), 112 + 8192);

    let mut squares = HashMap::with_hasher_in(RandomState::new(), allocator);
    squares.extend(numbers.iter().map(|&number| (number, number * number)));
    assert_eq!(squares[&999], 998_001);
    assert!(budget.used_bytes() > 112 + 8192 + 16_000);
    assert_eq!(memory.stats().used_bytes, budget.used_bytes());
    drop((boxed, numbers, squares));
    assert_eq!((budget.used_bytes(), memory.stats().used_bytes), (0, 0));
    assert!(memory.trim() > 0);
    assert_eq!(memory.stats().committed_bytes, 0);
}

#[test]
fn without_room_collections_get_an_error_and_keep_what_they_have() {
    let memory = manager(1 << 20);
    let budget = memory.budget("index").limit_bytes(8 << 10).create().unwrap();
    let mut bytes = Vec::new_in(budget.allocator());
    bytes.try_reserve_exact(4096).unwrap();
    bytes.extend([7_u8; 4096]);
    // The old and the new memory would be held together.
    assert!(bytes.try_reserve_exact(4096).is_err());
    assert!(Box::try_new_in([0_u8; 5000], budget.allocator()).is_err());
    let mut map: HashMap<u64, u64, _, _> =
        HashMap::with_hasher_in(RandomState::new(), budget.allocator());
    assert!(map.try_reserve(1000).is_err());
    assert!(map.try_reserve(50).is_ok());
    assert_eq!(bytes, [7; 4096]);
    drop((bytes, map));
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn collections_move_between_threads() {
    let memory = manager(16 << 20);
    let allocator = memory.root().allocator();
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let allocator = allocator.clone();
            let made = scope.spawn(move || {
                let mut numbers = Vec::new_in(allocator);
                numbers.extend(thread..thread + 10_000);
                numbers
            });
            scope.spawn(move || {
                let mut numbers = made.join().unwrap();
                numbers.push(thread);
                assert!((thread..).zip(&numbers[..10_000]).all(|(expected, &it)| it == expected));
            });
        }
    });
    assert_eq!(memory.stats().used_bytes, 0);
}

/// Allocates, expecting the block to be as long as said, writes all of it, and hands it back.
fn block(allocator: &PoolAllocator, size: usize, align: usize) -> Result<usize, ()> {
    let layout = Layout::from_size_align(size, align).expect("a valid layout");
    let block = allocator.allocate(layout).map_err(|_| ())?;
    let start = block.cast::<u8>();
    assert!(start.addr().get().is_multiple_of(align), "{layout:?}");
    assert!(block.len() >= size);
    write(start, block.len(), 0xEE);
    free(allocator, start, layout);
    Ok(block.len())
}

#[expect(unsafe_code, reason = "a test of raw memory")]
fn write(block: NonNull<u8>, len: usize, byte: u8) {
    // SAFETY: the callers have just allocated so many bytes.
    unsafe { block.write_bytes(byte, len) };
}

#[expect(unsafe_code, reason = "a test of raw memory")]
fn read(block: NonNull<u8>, len: usize) -> std::vec::Vec<u8> {
    // SAFETY: the callers have written so many bytes.
    unsafe { NonNull::slice_from_raw_parts(block, len).as_ref() }.to_vec()
}

#[expect(unsafe_code, reason = "a test of raw memory")]
fn free(allocator: &PoolAllocator, block: NonNull<u8>, layout: Layout) {
    // SAFETY: the callers pass what they have allocated, once.
    unsafe { allocator.deallocate(block, layout) };
}

/// Grows or shrinks; the block is as before if that fails.
#[expect(unsafe_code, reason = "a test of raw memory")]
fn resize(
    allocator: &PoolAllocator,
    block: NonNull<u8>,
    old: Layout,
    new: Layout,
    is_zeroed: bool,
) -> Result<NonNull<[u8]>, ()> {
    // SAFETY: the callers pass a block with its layout; which call is right is decided here.
    let resized = unsafe {
        match new.size() >= old.size() {
            true if is_zeroed => allocator.grow_zeroed(block, old, new),
            true => allocator.grow(block, old, new),
            false => allocator.shrink(block, old, new),
        }
    };
    resized.map_err(|_| ())
}

#[test]
fn blocks_are_aligned_up_to_a_page_and_from_the_smallest_class_that_is() {
    let memory = manager(16 << 20);
    let allocator = memory.root().allocator();
    for (size, align, expected) in [
        (1, 1, 64),
        (80, 16, 80),
        (65, 32, 96),
        (80, 64, 128),
        (1, 4096, 4096),
        (5000, 1024, 5120),
        (5000, 2048, 6144),
        (5000, 4096, 8192),
        (17_000, 4096, 20_480),
        (70 << 20, 4096, 70 << 20),
    ] {
        let budget = if size > 16 << 20 { manager(1 << 30) } else { memory.clone() };
        let allocator = if size > 16 << 20 { budget.root().allocator() } else { allocator.clone() };
        assert_eq!(block(&allocator, size, align), Ok(expected), "{size} at {align}");
    }
    for align in [8192, 2 << 20] {
        assert_eq!(block(&allocator, 8192, align), Err(()));
    }
    let stats = memory.stats();
    assert_eq!((stats.used_bytes, stats.refused), (0, 0));
}

#[test]
fn classes_without_the_alignment_are_passed_over() {
    let memory = MemoryManager::builder().size_classes([100, 5008]).unwrap().build().unwrap();
    let allocator = memory.root().allocator();
    assert_eq!(block(&allocator, 90, 16), Ok(100));
    // Both classes are aligned at 16, so this is a mapping of its own.
    assert_eq!(block(&allocator, 90, 32), Ok(8192));
    assert_eq!(memory.stats().used_bytes, 0);
    let memory = MemoryManager::builder().size_classes([100, 20_000]).unwrap().build().unwrap();
    assert_eq!(block(&memory.root().allocator(), 90, 4096), Ok(20_000));
}

#[test]
fn a_block_stays_where_it_is_within_its_class() {
    let memory = manager(1 << 20);
    let allocator = memory.root().allocator();
    let of = |size| Layout::from_size_align(size, 1).unwrap();
    let start: NonNull<u8> = allocator.allocate(of(70)).unwrap().cast();
    write(start, 70, 5);
    let grown = resize(&allocator, start, of(70), of(80), true).unwrap();
    assert_eq!((grown.cast(), grown.len()), (start, 80));
    assert_eq!(read(start, 80), [[5; 70].as_slice(), &[0; 10]].concat());
    let moved = resize(&allocator, start, of(80), of(81), false).unwrap();
    assert_eq!((moved.cast() == start, moved.len()), (false, 96));
    assert_eq!(read(moved.cast(), 80), [[5; 70].as_slice(), &[0; 10]].concat());
    let back = resize(&allocator, moved.cast(), of(81), of(65), false).unwrap();
    assert_eq!((back.cast(), back.len()), (start, 80), "the class below has it again");
    free(&allocator, start, of(65));
    assert_eq!(memory.stats().used_bytes, 0);
}

#[test]
fn a_shrink_without_room_to_move_stays_and_is_given_back_whole() {
    let memory = manager(1 << 20);
    let budget = memory.budget("tight").limit_bytes(4096).create().unwrap();
    let allocator = budget.allocator();
    let of = |size| Layout::from_size_align(size, 8).unwrap();
    let start: NonNull<u8> = allocator.allocate(of(4096)).unwrap().cast();
    let shrunk = resize(&allocator, start, of(4096), of(100), false).unwrap();
    assert_eq!((shrunk.cast(), shrunk.len()), (start, 4096));
    let grown = resize(&allocator, start, of(100), of(3000), false).unwrap();
    assert_eq!(grown.cast(), start);
    free(&allocator, start, of(3000));
    assert_eq!((budget.used_bytes(), memory.stats().used_bytes), (0, 0));
    assert_eq!(memory.acquire(4096).unwrap().as_ptr(), start.as_ptr(), "in its own pool");
}

/// A block under test: where, its layout, and the byte all of it holds.
type Live = (NonNull<u8>, Layout, u8);

#[derive(Clone, Debug)]
enum Step {
    Allocate { layout: Layout, is_zeroed: bool },
    Resize { pick: usize, layout: Layout, is_zeroed: bool },
    Free { pick: usize },
}

fn layouts() -> impl Strategy<Value = Layout> {
    let size = prop_oneof![4 => 0..300_usize, 2 => 300..20_000_usize, 1 => 20_000..300_000_usize];
    let align = prop_oneof![4 => 0..5_u32, 1 => 0..13_u32];
    (size, align).prop_map(|(size, bit)| {
        Layout::from_size_align(size, 1 << bit).expect("a power of two, and small")
    })
}

fn steps() -> impl Strategy<Value = std::vec::Vec<Step>> {
    let step = prop_oneof![
        (layouts(), any::<bool>())
            .prop_map(|(layout, is_zeroed)| Step::Allocate { layout, is_zeroed }),
        (any::<usize>(), layouts(), any::<bool>())
            .prop_map(|(pick, layout, is_zeroed)| Step::Resize { pick, layout, is_zeroed }),
        any::<usize>().prop_map(|pick| Step::Free { pick }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Fills a block that was given out with `layout`, after a look at what must be there already.
#[track_caller]
fn settle(block: NonNull<[u8]>, layout: Layout, kept: &[u8], is_zeroed: bool, fill: u8) -> Live {
    let start = block.cast::<u8>();
    assert!(start.addr().get().is_multiple_of(layout.align()) && block.len() >= layout.size());
    if is_zeroed {
        let rest = read(start, block.len()).split_off(kept.len());
        assert!(rest.iter().all(|&byte| byte == 0), "{layout:?} is not zeroed");
    }
    if !kept.is_empty() {
        assert_eq!(read(start, kept.len()), kept);
    }
    write(start, layout.size(), fill);
    (start, layout, fill)
}

fn run(memory: &MemoryManager, steps: std::vec::Vec<Step>) {
    let budget =
        memory.budget("model").limit_bytes(1 << 20).create().expect("the first of its name");
    let allocator = budget.allocator();
    let mut live: std::vec::Vec<Live> = std::vec::Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        let fill = number as u8 + 1;
        match step {
            Step::Allocate { layout, is_zeroed } => {
                let block = match is_zeroed {
                    true => allocator.allocate_zeroed(layout),
                    false => allocator.allocate(layout),
                };
                live.extend(block.ok().map(|block| settle(block, layout, &[], is_zeroed, fill)));
            }
            Step::Resize { pick, layout, is_zeroed } if !live.is_empty() => {
                let pick = pick % live.len();
                let (start, old, byte) = live[pick];
                let is_zeroed = is_zeroed && layout.size() >= old.size();
                if let Ok(block) = resize(&allocator, start, old, layout, is_zeroed) {
                    let kept = vec![byte; old.size().min(layout.size())];
                    live[pick] = settle(block, layout, &kept, is_zeroed, fill);
                }
            }
            Step::Free { pick } if !live.is_empty() => {
                let (start, layout, _) = live.swap_remove(pick % live.len());
                free(&allocator, start, layout);
            }
            Step::Resize { .. } | Step::Free { .. } => {}
        }
        for &(start, layout, byte) in live.iter().filter(|(_, layout, _)| layout.size() > 0) {
            assert_eq!(read(start, layout.size()), vec![byte; layout.size()], "{layout:?}");
        }
        assert!(budget.used_bytes() <= 1 << 20);
    }
    live.into_iter().for_each(|(start, layout, _)| free(&allocator, start, layout));
    assert_eq!((budget.used_bytes(), memory.stats().used_bytes), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn blocks_keep_their_contents_whatever_is_done_to_others(steps in steps(), custom: bool) {
        let builder = MemoryManager::builder().budget_bytes(4 << 20);
        let builder = match custom {
            true => builder.size_classes([48, 100, 1000, 5008]).unwrap(),
            false => builder,
        };
        run(&builder.build().unwrap(), steps);
    }
}
