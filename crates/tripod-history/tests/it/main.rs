//! Integration tests of `tripod-history`.

mod compression;
mod directory;
