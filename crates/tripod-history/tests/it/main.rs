//! Integration tests of `tripod-history`.

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "promql")]
mod promql;
