//! Files as buffers.

#![expect(unsafe_code, reason = "to map a file is")]
#![cfg(not(miri))]

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use tempfile::NamedTempFile;
use tripod_memory::{AcquireError, Budget, Buffer, MapError, MemoryManager, Sharing};

use crate::manager;

/// A file of `len` bytes, each the number of its page.
fn paged_file(len: usize) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("there is room for temporary files");
    let bytes: Vec<u8> = (0..len).map(|index| (index / 4096) as u8).collect();
    file.write_all(&bytes).expect("there is room for temporary files");
    file
}

fn map(
    budget: &Budget,
    file: &File,
    offset: u64,
    len: usize,
    sharing: Sharing,
) -> Result<Buffer, MapError> {
    // SAFETY: the tests' files are their own, and no test maps one twice to write to it.
    unsafe { budget.map_file(file, offset, len, sharing) }
}

fn byte_at(file: &File, offset: u64) -> u8 {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("the byte is within the file");
    byte[0]
}

/// How often the process has the file mapped, by the kernel's account.
fn mappings_of(file: &NamedTempFile) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
    let path = file.path().to_str().expect("a name in ASCII");
    maps.lines().filter(|line| line.ends_with(path)).count()
}

#[test]
fn a_file_is_a_buffer_charged_by_pages_until_it_is_dropped() {
    let memory = manager(1 << 20);
    let budget = memory.budget("files").limit_bytes(16 << 10).create().unwrap();
    let file = paged_file(20_000);
    let mut buffer = map(&budget, file.as_file(), 4096, 5000, Sharing::Private).unwrap();
    assert_eq!((buffer.len(), buffer.capacity(), mappings_of(&file)), (5000, 8192, 1));
    assert_eq!((buffer[0], buffer[4095], buffer[4096], buffer[4999]), (1, 1, 2, 2));
    assert_eq!((budget.used_bytes(), memory.stats().used_bytes), (8192, 8192));
    assert_eq!(memory.stats().committed_bytes, 8192);
    buffer.resize(8192).unwrap();
    assert_eq!(buffer[8191], 2);
    assert!(buffer.resize(8193).is_err());
    drop(buffer);
    assert_eq!((budget.used_bytes(), memory.stats().committed_bytes), (0, 0));
    assert_eq!(mappings_of(&file), 0);
}

#[test]
fn private_writes_stay_in_the_buffer() {
    let memory = manager(1 << 20);
    let file = paged_file(8192);
    let read_only = File::open(file.path()).unwrap();
    let mut first = map(memory.root(), &read_only, 0, 8192, Sharing::Private).unwrap();
    first.fill(9);
    let second = map(memory.root(), &read_only, 0, 8192, Sharing::Private).unwrap();
    assert_eq!((first[0], second[0], byte_at(&read_only, 0)), (9, 0, 0));
    first.sync_file().unwrap();
    drop((first, second));
    assert_eq!(byte_at(&read_only, 5000), 1);
}

#[test]
fn shared_writes_are_the_files() {
    let memory = manager(1 << 20);
    let file = paged_file(10_000);
    let mut buffer = map(memory.root(), file.as_file(), 4096, 5904, Sharing::Shared).unwrap();
    buffer[4096] = 9;
    assert_eq!(byte_at(file.as_file(), 8192), 9);
    buffer.clear();
    buffer.write_all(b"written").unwrap();
    buffer.sync_file().unwrap();
    drop(buffer);
    assert_eq!(std::fs::read(file.path()).unwrap()[4096..4104], *b"written\x01");
    assert_eq!(file.as_file().metadata().unwrap().len(), 10_000);
}

#[test]
fn a_file_may_be_closed_and_unlinked_while_bytes_of_it_are_held() {
    let memory = manager(1 << 20);
    let file = paged_file(8192);
    let buffer = map(memory.root(), file.as_file(), 0, 8192, Sharing::Private).unwrap();
    drop(file);
    let tail = Bytes::from(buffer).slice(8000..);
    assert_eq!((tail[0], memory.stats().used_bytes), (1, 8192));
    drop(tail);
    assert_eq!(memory.stats().used_bytes, 0);
}

#[test]
fn what_the_file_does_not_have_is_an_error() {
    let memory = manager(1 << 20);
    let file = paged_file(5000);
    for (offset, len) in [(0, 5001), (4096, 905), (8192, 0), (u64::MAX - 4095, 4096)] {
        let error = map(memory.root(), file.as_file(), offset, len, Sharing::Private).unwrap_err();
        assert!(matches!(error, MapError::BeyondEnd { file_bytes: 5000, .. }), "{error}");
    }
    let error = map(memory.root(), file.as_file(), 0, 5001, Sharing::Private).unwrap_err();
    assert_eq!(
        error.to_string(),
        "5001 bytes from byte 0 on are not within the file, which has 5000"
    );
    let error = map(memory.root(), file.as_file(), 100, 1, Sharing::Private).unwrap_err();
    assert!(matches!(error, MapError::Unaligned { offset: 100 }), "{error}");
    let zero = File::open("/dev/zero").unwrap();
    let error = map(memory.root(), &zero, 0, 4096, Sharing::Private).unwrap_err();
    assert!(matches!(error, MapError::BeyondEnd { file_bytes: 0, .. }), "{error}");
    assert!(map(memory.root(), file.as_file(), 4096, 904, Sharing::Private).is_ok());
    assert!(map(memory.root(), file.as_file(), 4096, 0, Sharing::Private).unwrap().is_empty());
    let stats = memory.stats();
    assert_eq!((stats.used_bytes, stats.refused), (0, 0));
}

#[test]
fn a_budget_without_room_maps_nothing() {
    let memory = manager(1 << 20);
    let budget = memory.budget("files").limit_bytes(8192).create().unwrap();
    let file = paged_file(12_288);
    let error = map(&budget, file.as_file(), 0, 8193, Sharing::Private).unwrap_err();
    assert!(matches!(error, MapError::Acquire(AcquireError::Unsatisfiable { .. })), "{error}");
    let held = budget.acquire(4096).unwrap();
    let error = map(&budget, file.as_file(), 0, 4097, Sharing::Private).unwrap_err();
    assert!(matches!(
        error,
        MapError::Acquire(AcquireError::OverBudget { needed_bytes: 8192, free_bytes: 4096, .. })
    ));
    assert_eq!((budget.used_bytes(), memory.stats().refused, mappings_of(&file)), (4096, 2, 0));
    drop(held);
    assert!(map(&budget, file.as_file(), 0, 4097, Sharing::Private).is_ok());
}

#[test]
fn what_the_system_refuses_is_uncharged() {
    let memory = MemoryManager::builder().build().unwrap();
    let file = paged_file(4096);
    let read_only = File::open(file.path()).unwrap();
    let write_only = OpenOptions::new().write(true).open(file.path()).unwrap();
    for (file, sharing) in [(&read_only, Sharing::Shared), (&write_only, Sharing::Private)] {
        match map(memory.root(), file, 0, 4096, sharing) {
            Err(MapError::System(error)) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
    let stats = memory.stats();
    assert_eq!((stats.used_bytes, stats.committed_bytes), (0, 0));
}

#[test]
fn other_buffers_have_nothing_to_sync() {
    let memory = manager(1 << 30);
    for len in [0, 100, 4096, 100 << 20] {
        memory.acquire(len).unwrap().sync_file().unwrap();
    }
}
