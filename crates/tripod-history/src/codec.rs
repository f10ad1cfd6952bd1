//! How points become bytes and come back: columns of values, and blocks of columns.
//!
//! What comes back is what was given, bit by bit. What was not written by this module is refused,
//! or, where only a checksum could tell, decodes to something within the stated sizes; no input
//! makes it panic or allocate more than those. Columns are public for measurements; the format of
//! blocks is described byte by byte in `docs/formats.md`.

pub(crate) mod block;
mod column;
mod rows;
mod varint;

pub use block::{BlockError, BlockSummary, check_block};
pub(crate) use column::ColumnEncoder;
pub use column::{decode_column, encode_column};
pub(crate) use rows::Presence;

/// Why bytes could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Bytes are missing.
    #[error("the bytes end too early")]
    Short,
    /// Bytes mean nothing.
    #[error("the bytes contain {0}")]
    Malformed(&'static str),
}
