//! The blocks of each tier, and which of them answer for which time.

use std::sync::Arc;

use super::block::Block;
use super::column::Table;
use super::row::{Row, Rows};
use super::span::{Open, Span};

/// The blocks of one tier, in the order of [`Block::rank`].
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) step_ms: i64,
    pub(super) keep_ms: i64,
    pub(super) blocks: Vec<Arc<Block>>,
}

impl Shelf {
    pub(super) fn insert(&mut self, block: Arc<Block>) {
        let place = self.blocks.partition_point(|other| other.rank() <= block.rank());
        self.blocks.insert(place, block);
    }
}

/// All tiers, the finest first.
#[derive(Debug)]
pub(super) struct Shelves {
    pub(super) tiers: Vec<Shelf>,
}

/// Points to be read: those of one source in some stretches of time.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) points: Points,
    pub(super) spans: Vec<Span>,
}

#[derive(Debug)]
pub(super) enum Points {
    Block(Arc<Block>),
    Rows(Table, Vec<Arc<Row>>),
}

impl Piece {
    pub(super) fn takes(&self, time_ms: i64) -> bool {
        self.spans.iter().any(|span| span.contains(time_ms))
    }
}

impl Shelves {
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.tiers.iter().flat_map(|shelf| &shelf.blocks)
    }

    /// Decides where the points of a stretch of time come from, so that each moment has one source.
    ///
    /// First asked is the coarsest tier with at most `step_ms` between points. For what it does
    /// not cover come the finer ones, which reach closer to the present, and then the coarser ones,
    /// which reach further back. Within a tier a newer block hides an older one, so that a block
    /// hides those it was merged from, and a clock that was set right the time before.
    pub(super) fn plan(&self, newest: &Rows, whole: Span, step_ms: i64) -> Vec<Piece> {
        let first = self.tiers.iter().rposition(|shelf| shelf.step_ms <= step_ms).unwrap_or(0);
        let mut open = Open::new(whole);
        let mut pieces = Vec::new();
        for tier in (0..=first).rev().chain(first + 1..self.tiers.len()) {
            if tier == 0 {
                plan_rows(newest, &mut open, &mut pieces);
            }
            for block in self.tiers[tier].blocks.iter().rev().filter(|block| !block.is_damaged()) {
                let spans = open.take(block.descriptor.covers);
                if !spans.is_empty() {
                    pieces.push(Piece { points: Points::Block(Arc::clone(block)), spans });
                }
            }
        }
        pieces
    }
}

fn plan_rows(newest: &Rows, open: &mut Open, pieces: &mut Vec<Piece>) {
    for rows in newest.ascending().rev() {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { continue };
        let spans = open.take(Span::new(first.time_ms, last.time_ms));
        if !spans.is_empty() {
            let points = Points::Rows(Arc::clone(&newest.table), rows.to_vec());
            pieces.push(Piece { points, spans });
        }
    }
}
