//! The live stream: a subscriber sees the series of a process change, for a few bytes a tick.
//!
//! An [`Encoder`] holds the last state that it told. [`tick`](Encoder::tick) makes a *delta frame*
//! of what changed since; [`key_frame`](Encoder::key_frame) makes a frame of everything, for a
//! subscriber that comes or has missed a frame. A [`Decoder`] applies frames and then holds the same
//! state, bit by bit. A [`Subscription`] decides what a slow subscriber gets. [`Feed`] drives an
//! encoder from [`Snapshot`](crate::snapshot::Snapshot)s.
//!
//! What it guarantees: after a frame was applied, the decoder's table equals the encoder's at that
//! frame; a lost frame is noticed by its sequence number before a value is touched; arbitrary bytes
//! neither panic nor take memory beyond a small multiple of their length, and over many frames not
//! more than [`SERIES_MAX`] and [`SYMBOL_BYTES_MAX`] allow.
//!
//! Where it stops: frames have no checksum. They travel by TCP or WebSocket, which check and frame
//! their bytes; lengths, counts and references are checked here, so a foreign or cut frame is
//! refused. All code here is pure (no clock, thread or IO), so the decoder compiles to WebAssembly.
//!
//! # Format, version 1
//! `varint` is an unsigned LEB128 of at most 10 bytes; `zigzag` a varint of a signed number mapped to
//! 0, -1, 1, -2, ...; `text` a varint length and UTF-8.
//!
//! | field | type | meaning |
//! |---|---|---|
//! | magic | 2 bytes | `TS` |
//! | version | 1 byte | 1 |
//! | kind | 1 byte | 0 key frame, 1 delta frame |
//! | epoch | varint | names the encoder's tables; a delta applies only to tables of its epoch |
//! | sequence | varint | of the tick; a delta applies to the state of the one before |
//! | time | zigzag | of the tick, milliseconds since 1970 |
//!
//! A key frame goes on with: a count and that many `text` symbols; a count and that many *families*;
//! a count and that many slots, by ascending series id from 0, each a *series* or one 0 byte for a
//! hole.
//!
//! A delta frame goes on with: a count and that many *id gaps* of retired series; new symbols and new
//! families as above, which are appended to the tables; a count and for each new series an id gap and
//! a *series*; a count and for each changed series an id gap and a *change*.
//!
//! - *family*: name, help (varints, index of the symbol), unit (varint, index plus 1, or 0 for none),
//!   1 byte kind (0 counter, 1 gauge, 2 histogram, 3 summary).
//! - *series*: varint index of the family plus 1; a count of labels and for each the symbols of name
//!   and value; 1 byte type of the value, 0 with a varint or 1 with the 8 bytes of a double, little
//!   endian.
//! - *id gap*: varint of the distance from the id before, minus 1 (the first counts from -1).
//! - *change* of a whole number: zigzag of the difference, modulo 2^64.
//! - *change* of a double, if both are multiples of 1, 0.01, 0.001 or 0.000001: varint of the zigzag
//!   of the difference in that unit times 8, plus 2 times the unit's index (0 to 3). Else one byte,
//!   1 + 2 × trailing zero bytes + 16 × (length - 1), and the remaining `length` bytes of the exclusive
//!   or of both doubles, little endian.
//!
//! A frame ends with its last field; bytes behind it are an error.
//!
//! # Examples
//! ```
//! use tripod_metrics::snapshot::Kind;
//! use tripod_metrics::stream::{Decoder, Encoder, FamilyInfo, Number};
//!
//! let mut encoder = Encoder::new(1);
//! let family = FamilyInfo { name: "jobs_total", help: "Jobs.", unit: None, kind: Kind::Counter };
//! let jobs = encoder.add(family, [("queue", "mail")], Number::Whole(7))?;
//! encoder.tick(1_000, &[]);
//!
//! let mut decoder = Decoder::new();
//! decoder.apply(&encoder.key_frame().bytes)?;
//! let delta = encoder.tick(2_000, &[(jobs, Number::Whole(9))]);
//! decoder.apply(&delta.bytes)?;
//!
//! let series = decoder.get(jobs).expect("the series was announced");
//! assert_eq!(series.value, Number::Whole(9));
//! assert_eq!(series.labels().collect::<Vec<_>>(), [("queue", "mail")]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decoder;
mod encoder;
mod feed;
mod read;
mod subscription;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use decoder::{DecodeError, Decoder};
pub use encoder::{AddError, Encoder};
pub use feed::Feed;
pub use subscription::{Offered, QUEUED_FRAMES_MAX, Subscription, Take};
pub use table::{FamilyInfo, SeriesView};
pub use value::Number;

/// The most series that a stream carries at once.
pub const SERIES_MAX: usize = 1 << 20;

/// The most bytes that the texts of a stream take, each counted with 32 more for its keeping.
pub const SYMBOL_BYTES_MAX: usize = 64 << 20;

/// The most labels that one series has.
pub const LABELS_MAX: usize = 255;

/// The most families of a stream; a histogram takes three.
pub const FAMILIES_MAX: usize = 1 << 16;

const MAGIC: &[u8; 2] = b"TS";
const VERSION: u8 = 1;

/// Which of the two kinds a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Holds everything, and can be applied at any time.
    Key,
    /// Holds what changed since the frame before, and can be applied only after that.
    Delta,
}

/// One message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// What it holds.
    pub kind: FrameKind,
    /// The tick whose state it leads to.
    pub sequence: u64,
    /// What is sent, whole and as one message.
    pub bytes: Vec<u8>,
}
