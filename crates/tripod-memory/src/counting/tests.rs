//! The allocator by itself, called as a program's collections would; these run under Miri.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Which bytes of the contents are looked at; under Miri each of them takes long.
const STEP: usize = if cfg!(miri) { 61 } else { 1 };

/// What an account says of itself.
#[track_caller]
fn check(account: &AllocationAccount, bytes: u64, peak_bytes: u64, allocations: u64) {
    let said = (account.bytes(), account.peak_bytes(), account.allocations());
    assert_eq!(said, (bytes, peak_bytes, allocations), "{account:?}");
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

/// A piece of memory with a pattern in it, freed by its own drop.
struct Piece {
    contents: *mut u8,
    layout: Layout,
}

// SAFETY: the memory is the piece's alone.
unsafe impl Send for Piece {}

impl Piece {
    fn new(layout: Layout) -> Self {
        // SAFETY: this allocator takes a size of zero, too.
        let contents = unsafe { ALLOCATOR.alloc(layout) };
        let piece = Self { contents, layout };
        piece.check_place();
        piece.fill(0);
        piece
    }

    fn zeroed(layout: Layout) -> Self {
        // SAFETY: this allocator takes a size of zero, too.
        let contents = unsafe { ALLOCATOR.alloc_zeroed(layout) };
        let piece = Self { contents, layout };
        piece.check_place();
        for at in (0..layout.size()).step_by(STEP) {
            // SAFETY: it lies within the piece, and is initialised.
            assert_eq!(unsafe { contents.add(at).read() }, 0);
        }
        piece
    }

    fn resize(&mut self, size: usize) {
        let kept = size.min(self.layout.size());
        // SAFETY: the piece has this layout, and the new size is no more than an allocation can be.
        self.contents = unsafe { ALLOCATOR.realloc(self.contents, self.layout, size) };
        self.layout = layout(size, self.layout.align());
        self.check_place();
        self.check_pattern(kept);
        self.fill(kept);
    }

    #[track_caller]
    fn check_place(&self) {
        assert!(!self.contents.is_null());
        assert_eq!(self.contents.addr() % self.layout.align(), 0, "{:?}", self.layout);
    }

    fn fill(&self, from: usize) {
        for at in (from.next_multiple_of(STEP)..self.layout.size()).step_by(STEP) {
            // SAFETY: it lies within the piece.
            unsafe { self.contents.add(at).write(at as u8 ^ 0xa5) };
        }
    }

    #[track_caller]
    fn check_pattern(&self, len: usize) {
        for at in (0..len).step_by(STEP) {
            // SAFETY: it lies within the piece, and has been filled.
            assert_eq!(unsafe { self.contents.add(at).read() }, at as u8 ^ 0xa5);
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: the piece was allocated by this allocator and has this layout.
        unsafe { ALLOCATOR.dealloc(self.contents, self.layout) };
    }
}

const SIZES: [usize; 9] = [0, 1, 8, 15, 16, 17, 100, 4096, 5000];
const ALIGNMENTS: [usize; 6] = [1, 8, 16, 32, 256, 4096];

#[test]
fn any_size_and_alignment_is_placed_counted_and_given_back() {
    static ACCOUNT: AllocationAccount = AllocationAccount::new("any");
    let _scope = ACCOUNT.enter();
    for align in ALIGNMENTS {
        for size in SIZES {
            let before = ACCOUNT.allocations();
            let piece = Piece::new(layout(size, align));
            let zeroed = Piece::zeroed(layout(size, align));
            assert_eq!(ACCOUNT.bytes(), 2 * size as u64);
            assert_eq!(ACCOUNT.allocations(), before + 2);
            piece.check_pattern(size);
            drop((piece, zeroed));
            assert_eq!(ACCOUNT.bytes(), 0);
        }
    }
    check(&ACCOUNT, 0, 10_000, (2 * SIZES.len() * ALIGNMENTS.len()) as u64);
}

#[test]
fn a_resize_keeps_contents_alignment_and_account() {
    static FIRST: AllocationAccount = AllocationAccount::new("first");
    static SECOND: AllocationAccount = AllocationAccount::new("second");
    for align in ALIGNMENTS {
        let first = FIRST.enter();
        let mut piece = Piece::new(layout(10, align));
        let _second = SECOND.enter();
        for size in SIZES.into_iter().chain(SIZES.into_iter().rev()) {
            piece.resize(size);
            assert_eq!(FIRST.bytes(), size as u64);
        }
        drop(piece);
        drop(_second);
        drop(first);
    }
    check(&FIRST, 0, 5000, ALIGNMENTS.len() as u64);
    check(&SECOND, 0, 0, 0);
}

#[test]
fn scopes_nest_and_end_with_a_panic_too() {
    static OUTER: AllocationAccount = AllocationAccount::new("outer");
    static INNER: AllocationAccount = AllocationAccount::new("inner");
    let uncounted = Piece::new(layout(1, 1));
    let outer = OUTER.enter();
    let first = Piece::new(layout(10, 1));
    let panicked = std::panic::catch_unwind(|| {
        let _inner = INNER.enter();
        let _kept_by_nobody = Piece::new(layout(100, 1));
        let _again = OUTER.enter();
        panic!("in both scopes");
    });
    assert!(panicked.is_err());
    let second = Piece::new(layout(20, 1));
    drop(outer);
    let third = Piece::new(layout(40, 1));
    check(&OUTER, 30, 30, 2);
    check(&INNER, 0, 100, 1);
    drop((uncounted, first, second, third));
    check(&OUTER, 0, 30, 2);
}

#[test]
fn what_another_thread_frees_or_resizes_is_credited_to_who_allocated_it() {
    static MINE: AllocationAccount = AllocationAccount::new("mine");
    static THEIRS: AllocationAccount = AllocationAccount::new("theirs");
    let scope = MINE.enter();
    let mut pieces: Vec<Piece> = (0..20).map(|_| Piece::new(layout(300, 8))).collect();
    drop(scope);
    check(&MINE, 6000, 6000, 20);
    std::thread::scope(|threads| {
        // More of them than there are shards.
        for mut piece in pieces.drain(..) {
            threads.spawn(move || {
                let _scope = THEIRS.enter();
                piece.resize(9000);
                piece.check_pattern(300);
            });
        }
    });
    assert_eq!((MINE.bytes(), MINE.allocations()), (0, 20));
    assert!((9000..=20 * 9000).contains(&MINE.peak_bytes()), "{MINE:?}");
    check(&THEIRS, 0, 0, 0);
}

#[test]
fn more_than_an_allocation_can_be_is_refused_and_not_counted() {
    static ACCOUNT: AllocationAccount = AllocationAccount::new("too much");
    let _scope = ACCOUNT.enter();
    let largest = isize::MAX as usize;
    for (size, align) in [(largest, 1), (largest - 15, 16), (largest - 4095, 4096)] {
        // SAFETY: the layout has a size.
        assert!(unsafe { ALLOCATOR.alloc(layout(size, align)) }.is_null());
        // SAFETY: the layout has a size.
        assert!(unsafe { ALLOCATOR.alloc_zeroed(layout(size, align)) }.is_null());
    }
    check(&ACCOUNT, 0, 0, 0);
    let piece = Piece::new(layout(64, 8));
    // SAFETY: the piece has this layout; a refusal leaves it as it was.
    let refused = unsafe { ALLOCATOR.realloc(piece.contents, piece.layout, largest - 7) };
    assert!(refused.is_null());
    piece.check_pattern(64);
    check(&ACCOUNT, 64, 64, 1);
}

/// Has memory for a few allocations, and then none.
struct Scarce(AtomicUsize);

impl Scarce {
    fn has_one_more(&self) -> bool {
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

// SAFETY: it is the system's allocator, or answers null.
unsafe impl GlobalAlloc for Scarce {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !self.has_one_more() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, contents: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(contents, layout) };
    }
}

#[test]
fn what_the_allocator_below_refuses_is_not_counted_and_changes_nothing() {
    static ACCOUNT: AllocationAccount = AllocationAccount::new("scarce");
    let scarce = CountingAllocator::over(Scarce(AtomicUsize::new(1)));
    let _scope = ACCOUNT.enter();
    let small = layout(24, 8);
    // SAFETY: the layout has a size.
    let contents = unsafe { scarce.alloc(small) };
    assert!(!contents.is_null());
    // SAFETY: the layout has a size.
    assert!(unsafe { scarce.alloc(small) }.is_null());
    // SAFETY: the layout has a size.
    assert!(unsafe { scarce.alloc_zeroed(small) }.is_null());
    // SAFETY: the memory has this layout; a refusal leaves it as it was.
    assert!(unsafe { scarce.realloc(contents, small, 5000) }.is_null());
    check(&ACCOUNT, 24, 24, 1);
    // SAFETY: the memory has this layout still.
    unsafe { scarce.dealloc(contents, small) };
    check(&ACCOUNT, 0, 24, 1);
}
