//! Filling buffers from readers, blocking and asynchronous, and reading them again.

use std::io::{self, BufRead, Cursor, ErrorKind, Read, Seek, SeekFrom, Write};

use tripod_memory::{Buffer, ResizeError};

use crate::manager;

/// An empty buffer with room for exactly 64 bytes, all of which are 0xEE.
fn room_for_64() -> Buffer {
    let mut buffer = manager(1 << 20).acquire(64).expect("it fits the budget");
    buffer.fill(0xEE);
    buffer.clear();
    buffer
}

#[test]
fn resizing_shows_what_was_there_and_stops_at_the_capacity() {
    let mut buffer = manager(1 << 20).acquire(100).unwrap();
    assert_eq!(buffer.capacity(), 112);
    buffer.fill(1);
    buffer.spare_capacity().fill(2);
    buffer.resize(10).unwrap();
    assert_eq!(buffer.spare_capacity().len(), 102);
    buffer.resize(112).unwrap();
    assert_eq!((buffer[99], buffer[100], buffer[111]), (1, 2, 2));
    assert!(buffer.spare_capacity().is_empty());
    let refused = buffer.resize(113).unwrap_err();
    assert_eq!(refused, ResizeError::BeyondCapacity { len: 113, capacity: 112 });
    assert_eq!(refused.to_string(), "113 bytes are more than the 112 that the buffer has room for");
    assert_eq!(buffer.len(), 112);
}

#[test]
fn a_buffer_without_memory_has_room_for_nothing() {
    let mut buffer = manager(1 << 20).acquire(0).unwrap();
    assert!(buffer.resize(1).is_err());
    assert!(buffer.spare_capacity().is_empty());
    assert_eq!(buffer.write(b"x").unwrap(), 0);
    assert_eq!(buffer.read_from(&mut &b"x"[..]).unwrap(), 0);
}

#[test]
fn writes_append_until_the_capacity_is_reached() {
    let mut buffer = room_for_64();
    buffer.write_all(&[1; 40]).unwrap();
    assert_eq!(buffer.write(&[2; 40]).unwrap(), 24);
    assert_eq!(buffer.write(&[3]).unwrap(), 0);
    assert_eq!(buffer.write_all(&[3]).unwrap_err().kind(), ErrorKind::WriteZero);
    assert_eq!(&buffer[..], [[1; 40].as_slice(), &[2; 24]].concat());
}

#[test]
fn reading_appends_what_comes_and_says_when_nothing_does() {
    let text: Vec<u8> = (0..100).collect();
    let mut source = text[..30].chain(&text[30..]);
    let mut buffer = room_for_64();
    assert_eq!(buffer.read_from(&mut source).unwrap(), 30);
    assert_eq!(buffer.read_from(&mut source).unwrap(), 34);
    assert_eq!(buffer.read_from(&mut source).unwrap(), 0, "it is full");
    assert_eq!(&buffer[..], &text[..64]);
    buffer.clear();
    assert_eq!(buffer.read_from(&mut source).unwrap(), 36);
    assert_eq!(buffer.read_from(&mut source).unwrap(), 0, "the source is at its end");
    assert_eq!(&buffer[..], &text[64..]);
}

/// Fails, or claims to have read this many bytes.
struct Broken(io::Result<usize>);

impl Read for Broken {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        bytes[0] = 7;
        match &self.0 {
            Ok(claimed) => Ok(*claimed),
            Err(error) => Err(error.kind().into()),
        }
    }
}

#[test]
fn a_reader_that_fails_shows_nothing() {
    let mut buffer = room_for_64();
    buffer.write_all(b"kept").unwrap();
    let mut reader = Broken(Err(ErrorKind::ConnectionReset.into()));
    assert_eq!(buffer.read_from(&mut reader).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(&buffer[..], b"kept");
}

#[test]
#[should_panic(expected = "the reader says it read 65 bytes, into room for 64")]
fn a_reader_that_claims_more_than_there_is_room_for_is_found_out() {
    let _ = room_for_64().read_from(&mut Broken(Ok(65)));
}

#[test]
fn a_buffer_is_read_with_a_cursor() {
    let mut buffer = room_for_64();
    buffer.write_all(b"first\nsecond\n").unwrap();
    let mut line = String::new();
    let mut cursor = Cursor::new(buffer);
    cursor.read_line(&mut line).unwrap();
    assert_eq!(line, "first\n");
    cursor.seek(SeekFrom::Current(1)).unwrap();
    let mut rest = String::new();
    cursor.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "econd\n");
    assert_eq!((&cursor.into_inner()[..5]).read(&mut [0; 9]).unwrap(), 5);
}

mod with_tokio {
    // Not beside `std::io::Read`: their methods share names.
    use std::io::Cursor;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{manager, room_for_64};

    #[tokio::test]
    async fn a_socket_is_read_straight_into_a_buffer_and_written_out_of_one() {
        let (mut near, mut far) = tokio::io::duplex(1000);
        let text: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let memory = manager(1 << 20);
        let mut received = memory.acquire(5000).unwrap();
        let start = received.as_ptr();
        received.clear();
        let mut sent = memory.acquire(5000).unwrap();
        sent.copy_from_slice(&text);
        let send = async move {
            far.write_all_buf(&mut Cursor::new(sent)).await.unwrap();
        };
        let receive = async {
            while near.read_buf(&mut received).await.unwrap() > 0 {}
            received
        };
        let ((), received) = tokio::join!(send, receive);
        assert_eq!((received.as_ptr(), &received[..]), (start, &text[..]));
    }

    #[tokio::test]
    async fn a_full_buffer_takes_no_more_from_a_socket() {
        let mut buffer = room_for_64();
        let mut source: &[u8] = &[9; 100];
        assert_eq!(source.read_buf(&mut buffer).await.unwrap(), 64);
        assert_eq!(source.read_buf(&mut buffer).await.unwrap(), 0);
        assert_eq!((source.len(), &buffer[..]), (36, &[9; 64][..]));
    }
}
