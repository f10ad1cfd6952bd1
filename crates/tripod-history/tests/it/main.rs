//! Integration tests of `tripod-history`.

#[cfg(feature = "promql")]
mod promql;
