//! Any bytes as a block file, as a column, and as values: no panic, no more memory than the bytes
//! justify, and values come back bit by bit. The first byte says which of the three.
//!
//! Run by `cargo +nightly fuzz run history_block`. That sets `--cfg fuzzing`, under which checksums
//! count as right, so that the fuzzer gets past them. A block file with a byte 0 put before it is a
//! good seed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tripod_history::codec::{check_block, decode_column, encode_column};

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    match choice % 3 {
        0 => block(bytes),
        1 => column(bytes),
        _ => values(bytes),
    }
});

fn block(bytes: &[u8]) {
    if let Ok(summary) = check_block(bytes) {
        assert!(summary.points <= summary.columns as u64 * summary.rows as u64);
    }
}

/// The first two bytes say how many values are expected.
fn column(bytes: &[u8]) {
    let Some((len, column)) = bytes.split_first_chunk::<2>() else { return };
    let len = usize::from(u16::from_le_bytes(*len) % 2048);
    if let Ok(values) = decode_column(column, len) {
        assert_eq!(values.len(), len);
    }
}

fn values(bytes: &[u8]) {
    let values: Vec<f64> =
        bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    let back = decode_column(&encode_column(&values), values.len()).expect("own bytes");
    assert!(values.iter().zip(&back).all(|(one, other)| one.to_bits() == other.to_bits()));
}
