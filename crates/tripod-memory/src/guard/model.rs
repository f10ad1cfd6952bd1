//! The guard under loom.
