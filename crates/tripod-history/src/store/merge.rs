//! Several small blocks become a large one, which compresses better and is one file.

use std::collections::HashMap;
use std::sync::Arc;

use super::block::{Block, ReadError};
use super::column::Column;
use super::disk::Disk;
use super::span::Span;
use crate::codec::block::{BlockWriter, Descriptor};
use crate::codec::{ColumnEncoder, Presence};
use crate::source::is_stale;

/// Finds neighbouring blocks that have at least `rows_min` rows together, and none by itself.
pub(super) fn group(blocks: &[Arc<Block>], rows_min: usize) -> Option<Vec<Arc<Block>>> {
    let small = |block: &Block| block.times.len() < rows_min && !block.is_damaged();
    blocks.chunk_by(|one, next| small(one) && small(next) && follows(one, next)).find_map(|run| {
        let mut rows = 0;
        let enough = run.iter().position(|block| {
            rows += block.times.len();
            rows >= rows_min
        })?;
        (enough > 0).then(|| run[..=enough].to_vec())
    })
}

/// Whether nothing is or was between two blocks, and time went on.
fn follows(one: &Block, next: &Block) -> bool {
    let (one, next) = (one.descriptor, next.descriptor);
    one.step_ms == next.step_ms
        && one.sequence_last + 1 == next.sequence_first
        && one.covers.to_ms < next.covers.from_ms
}

/// Merges blocks that follow each other.
pub(super) fn merge(disk: &dyn Disk, group: &[Arc<Block>]) -> Result<Block, ReadError> {
    let (first, last) = (&group[0], &group[group.len() - 1]);
    let descriptor = Descriptor {
        sequence_first: first.descriptor.sequence_first,
        sequence_last: last.descriptor.sequence_last,
        covers: Span::new(first.descriptor.covers.from_ms, last.descriptor.covers.to_ms),
        ..first.descriptor
    };
    let times: Box<[i64]> = group.iter().flat_map(|block| block.times.iter().copied()).collect();
    // Their bytes all at once, the values of one series at a time: the whole group decoded would be
    // several times the size of the block that it becomes.
    let mut loaded = Vec::with_capacity(group.len());
    let mut first_row = 0;
    for block in group {
        loaded.push((block.load(disk)?, first_row));
        first_row += block.times.len() as u32;
    }

    let series = places(group);
    let mut writer = BlockWriter::new();
    let mut encoder = ColumnEncoder::default();
    let (mut points, mut presence, mut values) = (Vec::new(), Presence::default(), Vec::new());
    for (column, places) in &series {
        points.clear();
        for &(block, number) in places {
            let (loaded, first_row) = &loaded[block as usize];
            let (presence, values) = loaded.column(number)?;
            points.extend(presence.rows().map(|row| first_row + row as u32).zip(values));
        }
        fill(&mut points, times.len(), &mut presence, &mut values);
        writer.push(&column.labels, column.kind, &presence, |out| encoder.encode(&values, out));
    }
    let (bytes, extents) = writer.finish(&descriptor, &times);
    let columns: Arc<[Column]> = series.into_iter().map(|(column, _)| column).collect();
    Ok(Block::in_memory(descriptor, times, columns, extents, bytes))
}

/// Each series, and where it is: numbers of a block of the group and of a column in it.
fn places(group: &[Arc<Block>]) -> Vec<(Column, Vec<(u32, u32)>)> {
    let mut series: Vec<(Column, Vec<(u32, u32)>)> = Vec::new();
    let mut known: HashMap<usize, usize> = HashMap::new();
    for (block_number, block) in group.iter().enumerate() {
        for (number, column) in block.series.iter().enumerate() {
            let place = *known.entry(column.key()).or_insert_with(|| {
                series.push((column.clone(), Vec::new()));
                series.len() - 1
            });
            series[place].1.push((block_number as u32, number as u32));
        }
    }
    series
}

/// Splits points into values and the rows they are in.
fn fill(points: &mut Vec<(u32, f64)>, rows: usize, presence: &mut Presence, values: &mut Vec<f64>) {
    // Only a series that was retired and registered anew is twice in a block.
    if !points.is_sorted_by(|one, next| one.0 < next.0) {
        points.sort_by_key(|(row, value)| (*row, is_stale(*value)));
        points.dedup_by_key(|(row, _)| *row);
    }
    values.clear();
    if points.len() == rows {
        presence.set_all(rows);
        values.extend(points.iter().map(|(_, value)| *value));
        return;
    }
    presence.clear();
    let mut points = points.iter().peekable();
    for row in 0..rows as u32 {
        let point = points.next_if(|(own, _)| *own == row);
        presence.push(point.is_some());
        values.extend(point.map(|(_, value)| *value));
    }
}
