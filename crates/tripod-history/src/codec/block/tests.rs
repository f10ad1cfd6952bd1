use super::*;
use crate::codec::ColumnEncoder;

fn labels(number: usize) -> Labels {
    let number = number.to_string();
    Labels::new([("__name__", "requests_total"), ("shard", &number), ("zone", "a\n\"ß")])
}

/// A small block with every kind of column, and gaps.
fn sample() -> (Vec<u8>, Vec<Vec<(usize, f64)>>) {
    let rows = 40;
    let shapes: [fn(usize) -> Option<f64>; 5] = [
        |row| Some((row * 1000 + row * row % 37) as f64),
        |_| Some(5.0),
        |row| (row % 7 != 0).then(|| (row as f64).sqrt()),
        |row| Some(if row == 39 { crate::STALE_NAN } else { row as f64 }),
        |row| (row == 3).then_some(-0.0),
    ];
    let mut writer = BlockWriter::new();
    let mut expected = Vec::new();
    for (number, shape) in shapes.iter().enumerate() {
        let (mut presence, mut values) = (Presence::default(), Vec::new());
        for row in 0..rows {
            presence.push(shape(row).is_some());
            values.extend(shape(row));
        }
        let kind = if number == 0 { ColumnKind::Cumulative } else { ColumnKind::Gauge };
        writer.push(&labels(number), kind, &presence, |out| {
            ColumnEncoder::default().encode(&values, out);
        });
        expected.push((0..rows).filter_map(|row| Some((row, shape(row)?))).collect());
    }
    let times: Vec<i64> = (0..rows as i64).map(|row| 1_000_000 + row * 1000 + row % 3).collect();
    let covers = Span::new(times[0] - 5, times[rows - 1] + 5);
    let descriptor = Descriptor { step_ms: 1000, sequence_first: 3, sequence_last: 4, covers };
    (writer.finish(&descriptor, &times).0, expected)
}

#[test]
fn a_block_gives_back_series_times_and_values() {
    let (bytes, expected) = sample();
    let parsed = Parsed::new(&bytes).expect("own bytes");
    assert_eq!(parsed.descriptor.sequence_last, 4);
    assert_eq!(parsed.times[1], 1_001_001);
    assert_eq!(parsed.series[0], (labels(0), ColumnKind::Cumulative));
    for (column, expected) in expected.iter().enumerate() {
        let range = parsed.extents[column].range();
        let column = &bytes[range.start as usize..range.end as usize];
        let extent = parsed.extents.iter().find(|extent| extent.range() == range).expect("it");
        let (presence, values) = extent.decode(column, 40).expect("own bytes");
        let points: Vec<_> =
            presence.rows().zip(values.iter().map(|value| value.to_bits())).collect();
        let expected: Vec<_> =
            expected.iter().map(|(row, value)| (*row, value.to_bits())).collect();
        assert_eq!(points, expected);
    }
    let summary = check_block(&bytes).expect("own bytes");
    assert_eq!((summary.columns, summary.rows, summary.points), (5, 40, 40 * 3 + 34 + 1));
}

#[test]
fn every_changed_byte_and_every_truncation_is_found() {
    let (bytes, _) = sample();
    for place in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[place] ^= flip;
            let error = Parsed::new(&changed).expect_err("a changed byte");
            assert!(!matches!(error, BlockError::Newer { .. }), "{place}: {error}");
        }
        assert!(Parsed::new(&bytes[..place]).is_err(), "cut at {place}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(Parsed::new(&longer).is_err());
}

#[test]
fn a_newer_version_says_so() {
    let (mut bytes, _) = sample();
    bytes[8..10].copy_from_slice(&(VERSION + 1).to_le_bytes());
    bytes[12..16].fill(0);
    let crc = crc32c::crc32c(&bytes[..HEADER_BYTES]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Parsed::new(&bytes).err(), Some(BlockError::Newer { version: VERSION + 1 }));
}

/// Right checksums do not make up for contents that cannot be.
#[test]
fn contents_that_cannot_be_are_refused_though_the_checksums_are_right() {
    let times = [1000, 2000];
    let write = |covers, sequence_first, rows: &[i64], twice: bool| {
        let mut writer = BlockWriter::new();
        let mut presence = Presence::default();
        rows.iter().for_each(|_| presence.push(true));
        for _ in 0..=usize::from(twice) {
            writer.push(&labels(0), ColumnKind::Gauge, &presence, |out| {
                ColumnEncoder::default().encode(&vec![1.0; rows.len()], out);
            });
        }
        let descriptor = Descriptor { step_ms: 1, sequence_first, sequence_last: 1, covers };
        writer.finish(&descriptor, rows).0
    };
    assert!(Parsed::new(&write(Span::new(1000, 2000), 1, &times, false)).is_ok());
    // A series that ended and came back within a block is in it twice.
    assert!(Parsed::new(&write(Span::new(1000, 2000), 1, &times, true)).is_ok());
    assert!(Parsed::new(&write(Span::new(1001, 2000), 1, &times, false)).is_err());
    assert!(Parsed::new(&write(Span::new(1000, 1999), 1, &times, false)).is_err());
    assert!(Parsed::new(&write(Span::new(1000, 2000), 2, &times, false)).is_err());
    assert!(Parsed::new(&write(Span::new(0, 9), 1, &[], false)).is_err());
    let covers = Span::new(0, 9);
    let descriptor = Descriptor { step_ms: 1, sequence_first: 1, sequence_last: 1, covers };
    assert!(Parsed::new(&BlockWriter::new().finish(&descriptor, &[5]).0).is_err());
}
