//! Integration tests of `tripod-history`.
