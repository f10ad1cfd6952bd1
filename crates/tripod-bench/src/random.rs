//! Random numbers that are the same in every run.

/// A generator of the kind xorshift64: quick, and good enough to vary a workload.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// # Panics
    /// If `seed` is 0, from which nothing comes but zeroes.
    pub(crate) fn new(seed: u64) -> Self {
        assert!(seed != 0, "a seed is not 0");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A whole number from 0 to `limit - 1`.
    pub(crate) fn below(&mut self, limit: u64) -> f64 {
        (self.next() % limit) as f64
    }

    /// From 0 to 1, without 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
