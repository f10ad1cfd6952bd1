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
//! Every byte of a frame is in `docs/formats.md`.
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
