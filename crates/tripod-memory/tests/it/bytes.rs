//! Buffers as `Bytes`, and filled through `BufMut`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use bytes::{Buf, BufMut, Bytes};
use tripod_memory::Buffer;

use crate::manager;

fn numbered(len: usize, memory: &tripod_memory::MemoryManager) -> Buffer {
    let mut buffer = memory.acquire(len).expect("it fits the budget");
    buffer.iter_mut().enumerate().for_each(|(index, byte)| *byte = index as u8);
    buffer
}

#[test]
fn bytes_are_the_buffer_itself_and_the_last_clone_gives_it_back() {
    let memory = manager(1 << 20);
    let buffer = numbered(5000, &memory);
    let start = buffer.as_ptr();
    let bytes = Bytes::from(buffer);
    assert_eq!((bytes.as_ptr(), bytes.len()), (start, 5000));

    let tail = bytes.slice(4990..);
    let clone = bytes.clone();
    drop(bytes);
    thread::scope(|scope| {
        scope.spawn(|| drop(clone));
    });
    assert_eq!(memory.stats().used_bytes, 5120);
    assert_eq!(tail[9], 4999_u32 as u8);
    drop(tail);
    assert_eq!(memory.stats().used_bytes, 0);
    assert_eq!(memory.acquire(5000).unwrap().as_ptr(), start, "it is back in its pool");
}

#[test]
fn bytes_may_outlive_the_manager() {
    let memory = manager(1 << 20);
    let bytes = Bytes::from(numbered(100, &memory));
    drop(memory);
    assert_eq!(bytes[99], 99);
}

#[test]
fn only_visible_bytes_are_handed_on_and_none_hold_nothing() {
    let memory = manager(1 << 20);
    let mut buffer = numbered(100, &memory);
    buffer.truncate(3);
    assert_eq!(Bytes::from(buffer), [0_u8, 1, 2][..]);
    let mut cleared = numbered(100, &memory);
    cleared.clear();
    let nothing = Bytes::from(cleared);
    assert_eq!((nothing.len(), memory.stats().used_bytes), (0, 0));
}

#[test]
fn sixteen_bytes_of_each_of_10_000_buffers_fit_a_budget_of_16_buffers() {
    const SIZE: usize = 64 << 10;
    let memory = manager(16 * SIZE as u64);

    let kept: Vec<Bytes> = (0..10_000_u32)
        .map(|number| {
            let mut buffer = memory.acquire(SIZE).unwrap();
            buffer[16..20].copy_from_slice(&number.to_be_bytes());
            buffer.slice_or_copy(16..32, 4)
        })
        .collect();
    assert!((0..10_000_u32).zip(&kept).all(|(number, kept)| kept[..4] == number.to_be_bytes()));
    let stats = memory.stats();
    assert_eq!((stats.used_bytes, stats.peak_bytes), (0, SIZE as u64));

    // What it is for: slices of the buffers themselves hold all of them.
    let pinned: Vec<Bytes> =
        (0..16).map(|_| Bytes::from(memory.acquire(SIZE).unwrap()).slice(16..32)).collect();
    assert!(memory.acquire(SIZE).is_err());
    assert_eq!(pinned.iter().map(Bytes::len).sum::<usize>(), 256);
}

#[test]
fn a_part_is_copied_exactly_when_it_would_hold_too_much() {
    let memory = manager(1 << 20);
    for (range, held_max, is_copied) in [
        (0..4096, 1, false),
        (0..4095, 1, true),
        (1000..2024, 4, false),
        (1000..2023, 4, true),
        (7..8, usize::MAX, false),
        (0..4096, 0, true),
        (50..50, 4096, true),
    ] {
        let buffer = numbered(4096, &memory);
        let part = buffer.as_ptr().wrapping_add(range.start);
        let expected = buffer[range.clone()].to_vec();
        let bytes = buffer.slice_or_copy(range, held_max);
        assert_eq!(bytes, expected);
        let used = if is_copied { 0 } else { 4096 };
        assert_eq!((bytes.as_ptr() != part, memory.stats().used_bytes), (is_copied, used));
    }
}

#[test]
#[should_panic(expected = "out of range")]
fn a_part_beyond_the_visible_bytes_is_refused() {
    let mut buffer = numbered(100, &manager(1 << 20));
    buffer.truncate(10);
    let _ = buffer.slice_or_copy(..11, 4);
}

#[test]
fn puts_append_and_a_cursor_gets_them_back() {
    let mut buffer = numbered(64, &manager(1 << 20));
    assert_eq!(buffer.remaining_mut(), 0);
    buffer.clear();
    buffer.put_u32(0xDEAD_BEEF);
    buffer.put_slice(b"text");
    buffer.put(&mut Bytes::from_static(b"more").chain(&b"!"[..]));
    assert_eq!((buffer.len(), buffer.remaining_mut()), (13, 51));
    let mut cursor = std::io::Cursor::new(buffer);
    assert_eq!(cursor.get_u32(), 0xDEAD_BEEF);
    assert_eq!(cursor.copy_to_bytes(9), b"textmore!"[..]);
    assert!(!cursor.has_remaining());
}

#[test]
fn a_put_without_room_panics_and_leaves_the_rest_as_it_was() {
    let mut buffer = numbered(64, &manager(1 << 20));
    buffer.truncate(60);
    let result = catch_unwind(AssertUnwindSafe(|| buffer.put_slice(&[7; 5])));
    assert!(result.is_err());
    assert_eq!((buffer.len(), buffer[59]), (60, 59));
}

#[test]
fn a_limit_on_the_writer_leaves_the_room_behind() {
    let mut buffer = numbered(64, &manager(1 << 20));
    buffer.clear();
    let mut limited = (&mut buffer).limit(8);
    limited.put_u64(1);
    assert_eq!(limited.remaining_mut(), 0);
    assert_eq!((&buffer[..], buffer.remaining_mut()), (&1_u64.to_be_bytes()[..], 56));
}
