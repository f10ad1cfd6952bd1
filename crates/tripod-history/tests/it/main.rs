//! Integration tests of `tripod-history`.

mod compression;
mod directory;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "promql")]
mod promql;
