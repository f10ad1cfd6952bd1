//! What a manager says about itself.

/// A manager's counts since it was built and its bytes at one moment.
///
/// The bytes are of one moment; the counts are read beside it and are exact when nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Buffers that came out of a pool.
    pub hits: u64,
    /// Buffers whose memory had to be asked of the system.
    pub misses: u64,
    /// Buffers that were asked for and not handed out.
    pub refused: u64,
    /// Bytes of all reservations, those granted and not yet taken among them.
    pub reserved_bytes: u64,
    /// Bytes of all buffers handed out, by capacity.
    pub used_bytes: u64,
    /// Bytes of the buffers that rest in pools or are just being given back to the system.
    pub idle_bytes: u64,
    /// The sum of reserved, used and idle bytes; never above `budget_bytes`.
    pub committed_bytes: u64,
    /// The most that `committed_bytes` has ever been, buffers on their way back to the system included.
    pub peak_bytes: u64,
    /// The root's limit in bytes; `u64::MAX` is unlimited.
    pub budget_bytes: u64,
    /// Requests for a reservation that had to wait.
    pub waits: u64,
    /// Requests for a reservation that wait now.
    pub waiting: usize,
}

impl MemoryStats {
    /// Returns the share of handed-out buffers that came out of a pool, 0.0 to 1.0; 0.0 if there were
    /// none. Refused and empty buffers do not count.
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            handed_out => self.hits as f64 / handed_out as f64,
        }
    }
}
