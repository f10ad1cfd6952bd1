//! The three legs together.

mod joined;
