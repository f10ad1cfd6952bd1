//! Traces of what programs ask of their allocator.

pub(crate) mod format;
pub(crate) mod generate;
