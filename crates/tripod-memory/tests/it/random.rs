//! Numbers for tests that try many things: the same ones for the same seed, which failures print.
//!
//! Those in the crate itself have it by its path. Quality does not matter here.

/// Xorshift; the seed is not 0.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
