//! What a program asked of its allocator and when, and the file that it is kept in.
//!
//! A file is the text `tripod-trace 1`, a line feed, and the events one after the other, in the
//! order in which they came. All numbers are varints: seven bits a byte, the lowest first, the
//! highest bit set on all but the last.
//!
//! - The first number of an event is twice the microseconds since the event before it (since the
//!   start, for the first), plus one if it frees.
//! - An allocation goes on with its size in bytes. Its identity is its place among the allocations,
//!   from 0, and is not written.
//! - A free goes on with its distance: how many allocations were made after the one that it frees.
//!
//! This file uses nothing else of the crate, since the example that records compiles it, too.

const MAGIC: &[u8] = b"tripod-trace 1\n";

/// Something that was asked of an allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    /// Since the start.
    pub(crate) time_us: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The next identity, from 0.
    Allocate {
        bytes: u32,
    },
    Free {
        id: u32,
    },
}

/// Writes events as a file has them.
///
/// # Panics
/// If times go back, or something is freed before it is allocated.
#[cfg_attr(not(test), allow(dead_code, reason = "the bench only reads; the example writes"))]
pub(crate) fn encode(events: &[Event]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    let (mut before_us, mut allocated) = (0, 0);
    for event in events {
        let since = event.time_us.checked_sub(before_us).expect("times do not go back");
        before_us = event.time_us;
        match event.what {
            What::Allocate { bytes } => {
                put(&mut file, since << 1);
                put(&mut file, u64::from(bytes));
                allocated += 1;
            }
            What::Free { id } => {
                assert!(id < allocated, "{id} is freed before it is allocated");
                put(&mut file, since << 1 | 1);
                put(&mut file, u64::from(allocated - 1 - id));
            }
        }
    }
    file
}

/// Reads the events of a file; `None` if it is not one of a trace, or ends within an event.
#[cfg_attr(not(test), allow(dead_code, reason = "the example only writes; the bench reads"))]
pub(crate) fn decode(file: &[u8]) -> Option<Vec<Event>> {
    let mut rest = file.strip_prefix(MAGIC)?;
    let mut events = Vec::new();
    let (mut time_us, mut allocated) = (0_u64, 0_u32);
    while !rest.is_empty() {
        let first = take(&mut rest)?;
        let number = u32::try_from(take(&mut rest)?).ok()?;
        time_us = time_us.checked_add(first >> 1)?;
        let what = if first & 1 == 0 {
            allocated = allocated.checked_add(1)?;
            What::Allocate { bytes: number }
        } else {
            What::Free { id: allocated.checked_sub(1)?.checked_sub(number)? }
        };
        events.push(Event { time_us, what });
    }
    Some(events)
}

fn put(file: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        file.push(number as u8 | 0x80);
        number >>= 7;
    }
    file.push(number as u8);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_and_what_is_cut_off_is_refused() {
        let allocate = |time_us, bytes| Event { time_us, what: What::Allocate { bytes } };
        let free = |time_us, id| Event { time_us, what: What::Free { id } };
        let events = [
            allocate(3, 64),
            allocate(3, u32::MAX),
            free(400, 0),
            allocate(1_000_000, 127),
            free(1_000_000, 2),
            free(9_000_000_000, 1),
        ];
        let file = encode(&events);
        assert_eq!(decode(&file).as_deref(), Some(&events[..]));
        assert_eq!(decode(&file[..file.len() - 1]), None);
        assert_eq!(decode(b"tripod-trace 2\n"), None);
        assert_eq!(decode(b"tripod-trace 1\n\x01\x00"), None, "nothing is there to be freed");
    }

    #[test]
    fn an_event_takes_two_bytes_at_least_and_few_more() {
        let event = Event { time_us: 63, what: What::Allocate { bytes: 127 } };
        assert_eq!(encode(&[event])[MAGIC.len()..], [126, 127]);
        let event = Event { time_us: 64, what: What::Allocate { bytes: 128 } };
        assert_eq!(encode(&[event])[MAGIC.len()..], [0x80, 1, 0x80, 1]);
    }
}
