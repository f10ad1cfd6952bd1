//! The depot under loom.
