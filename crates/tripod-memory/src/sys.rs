//! The system calls of this crate: mappings, advice about their pages, a process-wide barrier.
//!
//! Each is one small function; what the pages are for is decided elsewhere. Mappings are private
//! and anonymous, zeroed, and aligned at [`REGION_ALIGN`]. They never take huge pages by
//! themselves, whatever the system's default is: touching one page costs one page, so that what is
//! committed and what is resident agree. Huge pages come by [`prefer_huge`] and [`collapse`] alone.
//!
//! Under Miri and loom the memory comes from the standard allocator, and there is no barrier but
//! that of the fences in [`guard`](crate::guard).

#![allow(unsafe_code, reason = "system calls on memory whose use the compiler cannot follow")]

use std::ptr::NonNull;

#[cfg(not(any(miri, loom)))]
pub(crate) use kernel::*;
#[cfg(any(miri, loom))]
pub(crate) use stand_in::*;

/// The unit of mapping and discarding.
pub(crate) const PAGE_BYTES: usize = 4096;

/// What mappings are aligned at: a huge page.
pub(crate) const REGION_ALIGN: usize = 2 << 20;

/// Where a mapping begins, to be kept in tables that threads share.
///
/// It is a number for those who keep it. Whoever reads or writes through it answers for who else
/// may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Base(NonNull<u8>);

// SAFETY: the value gives no access by itself; each dereference is an unsafe block that states why
// it is alone.
unsafe impl Send for Base {}
// SAFETY: as above; the value has no interior mutability.
unsafe impl Sync for Base {}

impl Base {
    pub(crate) const fn new(base: NonNull<u8>) -> Self {
        Self(base)
    }

    pub(crate) const fn get(self) -> NonNull<u8> {
        self.0
    }
}

/// Whether a mapping of this length can be asked for: whole pages, and what is mapped around it to
/// align it stays an allocation that can exist.
fn is_mappable(len: usize) -> bool {
    len > 0 && len.is_multiple_of(PAGE_BYTES) && len <= isize::MAX as usize - REGION_ALIGN
}

#[cfg(not(any(miri, loom)))]
mod kernel {
    use std::{
        ffi::{c_int, c_long},
        io,
        os::fd::{AsRawFd, BorrowedFd},
        ptr::{self, NonNull},
        sync::OnceLock,
    };

    use super::{PAGE_BYTES, REGION_ALIGN, is_mappable};

    /// Linux 6.1; not in every C library's bindings.
    const MADV_COLLAPSE: c_int = 25;

    const MEMBARRIER_QUERY: c_int = 0;
    const MEMBARRIER_PRIVATE_EXPEDITED: c_int = 1 << 3;
    const MEMBARRIER_REGISTER_PRIVATE_EXPEDITED: c_int = 1 << 4;

    /// Maps `len` zeroed bytes, readable and writable, aligned at [`REGION_ALIGN`].
    ///
    /// Nothing is resident until it is touched. `None` if the system refuses (a limit on address
    /// space, too many mappings), or if `len` is 0, not whole pages, or absurd.
    pub(crate) fn map(len: usize) -> Option<NonNull<u8>> {
        if !is_mappable(len) {
            return None;
        }
        // An aligned start lies within the first `REGION_ALIGN` bytes of any run of pages.
        let around = len + REGION_ALIGN - PAGE_BYTES;
        let start = map_anywhere(around)?;
        let before = start.as_ptr().align_offset(REGION_ALIGN);
        // SAFETY: `before < REGION_ALIGN` as `start` is page-aligned, so it is within the mapping.
        let base = unsafe { start.add(before) };
        // SAFETY: the pages before `base` are ours since the call above, and nobody knows them.
        unsafe { unmap_slack(start, before) };
        // SAFETY: `before + len <= around`.
        let end = unsafe { base.add(len) };
        // SAFETY: as for those before; these are the ones behind.
        unsafe { unmap_slack(end, around - before - len) };
        // SAFETY: the mapping is `len` bytes at `base`, and nobody knows it yet.
        unsafe { advise(base, len, libc::MADV_NOHUGEPAGE) };
        Some(base)
    }

    fn map_anywhere(len: usize) -> Option<NonNull<u8>> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: without `MAP_FIXED` the kernel chooses addresses that nothing uses.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, READ_WRITE, flags, -1, 0) };
        if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast()) }
    }

    const READ_WRITE: c_int = libc::PROT_READ | libc::PROT_WRITE;

    /// # Safety
    /// As [`unmap`], but the range may be empty.
    unsafe fn unmap_slack(base: NonNull<u8>, len: usize) {
        if len > 0 {
            // SAFETY: the caller's promise.
            unsafe { unmap(base, len) };
        }
    }

    /// Gives a mapping back.
    ///
    /// If the system refuses, it stays mapped: to cut into a joint area can pass its limit on the
    /// number of areas. The pages are given back even then.
    ///
    /// # Safety
    /// `base` and `len` are a mapping from [`map`], whole, and nothing refers to it any more.
    pub(crate) unsafe fn unmap(base: NonNull<u8>, len: usize) {
        // SAFETY: the range is the caller's, who has no use for it any more.
        let result = unsafe { libc::munmap(base.as_ptr().cast(), len) };
        if result != 0 {
            // SAFETY: as above.
            unsafe { advise(base, len, libc::MADV_DONTNEED) };
        }
    }

    /// Gives the pages back to the system; the next touch reads zeroes.
    ///
    /// Locked pages (`mlockall`) are given back, too, where the kernel can (Linux 5.18). Where it
    /// cannot, zeroes are written and the pages stay resident: the answer is then false.
    ///
    /// # Safety
    /// The range is whole pages within a mapping from [`map`], with no file mapped over it, and
    /// nothing else reads or writes it during the call.
    pub(crate) unsafe fn discard(base: NonNull<u8>, len: usize) -> bool {
        let given_back = [libc::MADV_DONTNEED, libc::MADV_DONTNEED_LOCKED]
            .into_iter()
            // SAFETY: the caller's promise; what is lost is what the caller wants lost.
            .any(|advice| unsafe { advise(base, len, advice) });
        if !given_back {
            // SAFETY: the range is mapped and writable, and the caller's alone.
            unsafe { base.write_bytes(0, len) };
        }
        given_back
    }

    /// How many bytes of the range have physical pages now; `None` if the system does not say.
    pub(crate) fn resident_bytes(base: NonNull<u8>, len: usize) -> Option<u64> {
        const PAGES_AT_ONCE: usize = 1024;
        let mut pages = [0_u8; PAGES_AT_ONCE];
        let mut resident = 0;
        for start in (0..len).step_by(PAGES_AT_ONCE * PAGE_BYTES) {
            let part = (len - start).min(PAGES_AT_ONCE * PAGE_BYTES);
            let address = base.as_ptr().wrapping_add(start);
            // SAFETY: the call reads no memory, whatever the address, and writes a byte for each page
            // of the range, for which there is room.
            let result = unsafe { libc::mincore(address.cast(), part, pages.as_mut_ptr()) };
            if result != 0 {
                return None;
            }
            let count = pages[..part.div_ceil(PAGE_BYTES)].iter().filter(|&&page| page & 1 == 1);
            resident += (count.count() * PAGE_BYTES) as u64;
        }
        Some(resident)
    }

    /// Asks for huge pages from now on, where the range covers whole ones. Best effort.
    ///
    /// For ranges that are committed throughout: a touch anywhere makes 2 MiB resident, and the
    /// kernel may fill up the rest of a huge page later by itself.
    ///
    /// # Safety
    /// The range is whole pages within a mapping from [`map`].
    pub(crate) unsafe fn prefer_huge(base: NonNull<u8>, len: usize) {
        // SAFETY: the caller's promise; the contents stay.
        unsafe { advise(base, len, libc::MADV_HUGEPAGE) };
    }

    /// Moves the range's pages into huge ones now, resident or not; the contents stay. Best effort:
    /// false if some part stays in small pages.
    ///
    /// Only those of now: pages that are discarded and touched later are small again.
    ///
    /// # Safety
    /// The range is whole pages within a mapping from [`map`].
    pub(crate) unsafe fn collapse(base: NonNull<u8>, len: usize) -> bool {
        // The kernel refuses areas that do not want huge pages, so this one does for the moment.
        // SAFETY: the caller's promise, for all three; the contents stay.
        unsafe {
            advise(base, len, libc::MADV_HUGEPAGE);
            let collapsed = advise(base, len, MADV_COLLAPSE);
            advise(base, len, libc::MADV_NOHUGEPAGE);
            collapsed
        }
    }

    /// # Safety
    /// The range is whole pages of the caller's, who bears what the advice does to their contents.
    unsafe fn advise(base: NonNull<u8>, len: usize, advice: c_int) -> bool {
        loop {
            // SAFETY: the caller's promise.
            if unsafe { libc::madvise(base.as_ptr().cast(), len, advice) } == 0 {
                return true;
            }
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return false;
            }
        }
    }

    /// Maps `len` bytes of a file from `offset` on over a part of a mapping.
    ///
    /// `shared` writes go to the file; others stay private. A touch behind the end of the file is
    /// a SIGBUS. [`unmap`] of the whole mapping ends this one, too.
    ///
    /// # Errors
    /// The system's, for instance if the file's mode does not allow it; what was mapped then stays.
    ///
    /// # Safety
    /// The range is whole pages within a mapping from [`map`], `offset` is too, and nothing else
    /// reads or writes the range during the call. As long as the file is mapped, nobody changes or
    /// shortens it while references into the range exist.
    pub(crate) unsafe fn map_file(
        base: NonNull<u8>,
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        shared: bool,
    ) -> io::Result<()> {
        let offset = offset.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        let flags = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        // Elsewhere first, and then moved. If a file system refuses only when it is asked, the kernel
        // (before 6.12) has made room already, and another thread could map something there.
        // SAFETY: without `MAP_FIXED` the kernel chooses addresses that nothing uses.
        let elsewhere = unsafe {
            libc::mmap(ptr::null_mut(), len, READ_WRITE, flags, file.as_raw_fd(), offset)
        };
        if elsewhere == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: what is moved is ours since the call above, and what it replaces is the caller's
        // to replace.
        let moved = unsafe { libc::mremap(elsewhere, len, len, flags, base.as_ptr()) };
        if moved == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            // SAFETY: as above; nobody knows it.
            unsafe { libc::munmap(elsewhere, len) };
            return Err(error);
        }
        Ok(())
    }

    /// Has what was written to a shared file mapping reach the file's storage. Where no file is
    /// shared, it does nothing.
    ///
    /// # Errors
    /// The system's, for instance if the storage fails.
    ///
    /// # Safety
    /// The range is whole pages within a mapping from [`map`].
    pub(crate) unsafe fn sync_file(base: NonNull<u8>, len: usize) -> io::Result<()> {
        // SAFETY: the caller's promise; the contents stay.
        let result = unsafe { libc::msync(base.as_ptr().cast(), len, libc::MS_SYNC) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Registers the process for [`heavy_barrier`], once; false if the kernel has none, or a
    /// sandbox forbids it.
    pub(crate) fn register_barrier() -> bool {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        *REGISTERED.get_or_init(|| {
            let known = membarrier(MEMBARRIER_QUERY);
            known > 0
                && known & c_long::from(MEMBARRIER_PRIVATE_EXPEDITED) != 0
                && membarrier(MEMBARRIER_REGISTER_PRIVATE_EXPEDITED) == 0
        })
    }

    /// A full barrier on every thread of the process that runs now, and on this one; a thread that
    /// does not run has one before it runs again. Pairs with a `compiler_fence(SeqCst)` of the
    /// others.
    ///
    /// # Panics
    /// If [`register_barrier`] did not say true before.
    pub(crate) fn heavy_barrier() {
        let result = membarrier(MEMBARRIER_PRIVATE_EXPEDITED);
        assert!(result == 0, "the barrier is used without being registered");
    }

    fn membarrier(command: c_int) -> c_long {
        const NO_FLAGS: c_int = 0;
        // SAFETY: the call reads and writes no memory of ours. It is opaque to the compiler, which
        // moves no access to shared memory across it.
        unsafe { libc::syscall(libc::SYS_membarrier, command, NO_FLAGS, 0) }
    }
}

#[cfg(any(miri, loom))]
mod stand_in {
    use std::{
        alloc::{self, Layout},
        io,
        os::fd::BorrowedFd,
        ptr::NonNull,
    };

    use super::{REGION_ALIGN, is_mappable};

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, REGION_ALIGN).expect("`map` has checked the length")
    }

    pub(crate) fn map(len: usize) -> Option<NonNull<u8>> {
        // Miri ends the process where the system would refuse: a tebibyte is refused here.
        if !is_mappable(len) || len > 1 << 40 {
            return None;
        }
        // SAFETY: the length is not 0.
        NonNull::new(unsafe { alloc::alloc_zeroed(layout(len)) })
    }

    /// # Safety
    /// `base` and `len` are a mapping from [`map`], whole, and nothing refers to it any more.
    pub(crate) unsafe fn unmap(base: NonNull<u8>, len: usize) {
        // SAFETY: it came from `map` with the same length.
        unsafe { alloc::dealloc(base.as_ptr(), layout(len)) }
    }

    /// # Safety
    /// The range is within a mapping from [`map`], and nothing else reads or writes it.
    pub(crate) unsafe fn discard(base: NonNull<u8>, len: usize) -> bool {
        // SAFETY: the caller's promise.
        unsafe { base.write_bytes(0, len) };
        true
    }

    pub(crate) fn resident_bytes(_base: NonNull<u8>, _len: usize) -> Option<u64> {
        None
    }

    /// # Safety
    /// None is needed here.
    pub(crate) unsafe fn prefer_huge(_base: NonNull<u8>, _len: usize) {}

    /// # Safety
    /// None is needed here.
    pub(crate) unsafe fn collapse(_base: NonNull<u8>, _len: usize) -> bool {
        false
    }

    /// # Safety
    /// None is needed here.
    pub(crate) unsafe fn map_file(
        _base: NonNull<u8>,
        _file: BorrowedFd<'_>,
        _offset: u64,
        _len: usize,
        _shared: bool,
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// # Safety
    /// None is needed here.
    pub(crate) unsafe fn sync_file(_base: NonNull<u8>, _len: usize) -> io::Result<()> {
        Ok(())
    }

    /// False under Miri, which has fences alone. In a model the guard's fences are the barrier.
    pub(crate) fn register_barrier() -> bool {
        cfg!(loom)
    }

    pub(crate) fn heavy_barrier() {
        assert!(cfg!(loom), "`register_barrier` says that there is no barrier");
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    /// A mapping of a test, all of it the test's own.
    struct Mapping(NonNull<u8>, usize);

    impl Mapping {
        fn new(len: usize) -> Self {
            Self(map(len).unwrap(), len)
        }

        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: the mapping is zeroed or written, and borrowed through `self`.
            unsafe { slice::from_raw_parts_mut(self.0.as_ptr(), self.1) }
        }

        fn at(&self, offset: usize) -> NonNull<u8> {
            assert!(offset < self.1);
            // SAFETY: checked above.
            unsafe { self.0.add(offset) }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: it came from `map`; `bytes` borrows from what ends here.
            unsafe { unmap(self.0, self.1) }
        }
    }

    #[test]
    fn mappings_are_aligned_zeroed_and_writable_to_the_last_byte() {
        for len in [PAGE_BYTES, REGION_ALIGN, REGION_ALIGN + PAGE_BYTES, 3 * REGION_ALIGN] {
            let mut mapping = Mapping::new(len);
            assert_eq!(mapping.0.addr().get() % REGION_ALIGN, 0);
            let bytes = mapping.bytes();
            assert_eq!((bytes[0], bytes[len / 2], bytes[len - 1]), (0, 0, 0));
            bytes[len - 1] = 7;
        }
    }

    #[test]
    fn lengths_that_no_system_has_are_refused() {
        for len in [0, 1, PAGE_BYTES + 1, 1 << 50, (1 << 63) - PAGE_BYTES, 1 << 63] {
            assert_eq!(map(len), None, "{len}");
        }
    }

    #[test]
    fn discarded_pages_read_zero_and_their_neighbours_stay() {
        let mut mapping = Mapping::new(REGION_ALIGN);
        mapping.bytes()[..4 * PAGE_BYTES].fill(9);
        // SAFETY: nothing else uses the mapping.
        assert!(unsafe { discard(mapping.at(PAGE_BYTES), 2 * PAGE_BYTES) });
        let firsts: Vec<u8> = mapping.bytes().iter().step_by(PAGE_BYTES).copied().collect();
        assert_eq!(firsts[..5], [9, 0, 0, 9, 0]);
    }

    #[cfg(not(any(miri, loom)))]
    mod with_a_kernel {
        use std::{fs::File, io::Write, os::fd::AsFd, process::Command};

        use super::*;

        #[test]
        fn the_page_size_is_the_systems() {
            // SAFETY: the call has no preconditions.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            assert_eq!(usize::try_from(page), Ok(PAGE_BYTES));
        }

        fn resident_pages(mapping: &Mapping) -> usize {
            let mut pages = vec![0_u8; mapping.1 / PAGE_BYTES];
            // SAFETY: the vector has a byte for every page of the range.
            let result =
                unsafe { libc::mincore(mapping.0.as_ptr().cast(), mapping.1, pages.as_mut_ptr()) };
            assert_eq!(result, 0);
            pages.iter().filter(|&&page| page & 1 == 1).count()
        }

        #[test]
        fn a_touch_makes_one_page_resident_and_a_discard_none() {
            let mut mapping = Mapping::new(2 * REGION_ALIGN);
            assert_eq!(resident_pages(&mapping), 0);
            mapping.bytes()[REGION_ALIGN] = 1;
            mapping.bytes()[0] = 1;
            assert_eq!(resident_pages(&mapping), 2);
            assert_eq!(resident_bytes(mapping.0, mapping.1), Some(2 * PAGE_BYTES as u64));
            // SAFETY: nothing else uses the mapping.
            assert!(unsafe { discard(mapping.0, mapping.1) });
            assert_eq!(resident_pages(&mapping), 0);
        }

        #[test]
        fn locked_pages_are_discarded_too() {
            let mut mapping = Mapping::new(REGION_ALIGN);
            // SAFETY: the range is mapped; locking changes no contents.
            let locked = unsafe { libc::mlock(mapping.0.as_ptr().cast(), PAGE_BYTES) };
            if locked != 0 {
                assert!(std::env::var_os("CI").is_none(), "a page can be locked");
                eprintln!("skipped: the limit on locked memory allows not one page");
                return;
            }
            mapping.bytes()[..PAGE_BYTES].fill(9);
            // SAFETY: nothing else uses the mapping.
            let given_back = unsafe { discard(mapping.0, PAGE_BYTES) };
            if given_back {
                assert_eq!(resident_pages(&mapping), 0);
            }
            assert!(mapping.bytes()[..PAGE_BYTES].iter().all(|&byte| byte == 0));
        }

        #[test]
        fn collapsed_ranges_keep_their_contents_and_are_resident_throughout() {
            let mut mapping = Mapping::new(REGION_ALIGN);
            mapping.bytes()[5 * PAGE_BYTES] = 9;
            // SAFETY: nothing else uses the mapping.
            let collapsed = unsafe { collapse(mapping.0, REGION_ALIGN) };
            assert_eq!(mapping.bytes()[5 * PAGE_BYTES], 9);
            if !collapsed {
                eprintln!("skipped: this system has no huge page to collapse into");
                return;
            }
            assert_eq!(resident_pages(&mapping), REGION_ALIGN / PAGE_BYTES);
            // What is discarded comes back in small pages.
            // SAFETY: as above.
            assert!(unsafe { discard(mapping.0, REGION_ALIGN) });
            mapping.bytes()[0] = 1;
            assert_eq!(resident_pages(&mapping), 1);
        }

        #[test]
        fn preferring_huge_pages_keeps_the_contents() {
            let mut mapping = Mapping::new(REGION_ALIGN);
            mapping.bytes()[0] = 9;
            // SAFETY: nothing else uses the mapping.
            unsafe { prefer_huge(mapping.0, mapping.1) };
            mapping.bytes()[PAGE_BYTES] = 8;
            assert_eq!((mapping.bytes()[0], mapping.bytes()[PAGE_BYTES]), (9, 8));
        }

        /// An unlinked file in memory.
        fn file_of(bytes: &[u8]) -> File {
            use std::os::fd::FromRawFd;
            // SAFETY: the name is a C string.
            let file = unsafe { libc::memfd_create(c"tripod-test".as_ptr(), libc::MFD_CLOEXEC) };
            assert!(file >= 0);
            // SAFETY: the descriptor is fresh and nobody else's.
            let mut file = unsafe { File::from_raw_fd(file) };
            file.write_all(bytes).unwrap();
            file
        }

        #[test]
        fn a_file_appears_in_the_middle_and_goes_with_the_rest() {
            use std::os::unix::fs::FileExt;
            for shared in [false, true] {
                let file = file_of(&[[1; PAGE_BYTES], [2; PAGE_BYTES]].concat());
                let mut mapping = Mapping::new(REGION_ALIGN);
                let at = mapping.at(PAGE_BYTES);
                let second = PAGE_BYTES as u64;
                // SAFETY: nothing else uses the mapping, or the file.
                unsafe { map_file(at, file.as_fd(), second, PAGE_BYTES, shared) }.unwrap();
                assert_eq!(mapping.bytes()[PAGE_BYTES - 1..][..2], [0, 2]);
                assert_eq!(mapping.bytes()[2 * PAGE_BYTES - 1..][..2], [2, 0]);
                mapping.bytes()[PAGE_BYTES] = 3;
                let mut byte = [0];
                file.read_exact_at(&mut byte, second).unwrap();
                assert_eq!(byte, if shared { [3] } else { [2] });
                // SAFETY: as above.
                unsafe { sync_file(at, PAGE_BYTES) }.unwrap();
                let mapped = || std::fs::read_to_string("/proc/self/maps").unwrap();
                assert!(mapped().contains("memfd:tripod-test"));
                drop(mapping);
                assert!(!mapped().contains("memfd:tripod-test"));
            }
        }

        #[test]
        fn what_cannot_be_mapped_leaves_the_memory_as_it_was() {
            let file = File::open("/dev/null").unwrap();
            let mut mapping = Mapping::new(REGION_ALIGN);
            mapping.bytes()[0] = 9;
            for offset in [0, u64::MAX] {
                // SAFETY: nothing else uses the mapping.
                unsafe { map_file(mapping.0, file.as_fd(), offset, PAGE_BYTES, true) }.unwrap_err();
                assert_eq!(mapping.bytes()[0], 9);
            }
        }

        #[test]
        fn the_barrier_works_where_it_is_registered() {
            let registered = register_barrier();
            assert_eq!(registered, register_barrier());
            if registered {
                heavy_barrier();
            } else {
                assert!(std::env::var_os("CI").is_none(), "the kernel has membarrier(2)");
                eprintln!("skipped: no membarrier(2) here");
            }
        }

        /// The limit is a process's: this test runs itself once more, with a limit.
        #[test]
        fn a_limit_on_address_space_refuses_and_leaks_nothing() {
            const INNER: &str = "TRIPOD_TEST_ADDRESS_SPACE";
            if std::env::var_os(INNER).is_none() {
                let name = std::thread::current().name().unwrap().to_owned();
                let status = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", &name])
                    .env(INNER, "1")
                    .status();
                assert!(status.unwrap().success());
                return;
            }
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
            let most = pages * PAGE_BYTES as u64 + (64 << 20);
            let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
            // SAFETY: the pointer is to a live value.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
            for _ in 0..1000 {
                assert_eq!(map(128 << 20), None);
                drop(Mapping::new(REGION_ALIGN));
            }
        }
    }
}
