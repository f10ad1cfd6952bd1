//! What the numbers of a family look like in the cells, as bytes that two processes can compare.
//!
//! Two families of one name are the same only if these bytes are, so a program that is started with
//! other buckets counts anew.

use crate::cells::BLOCK_HEAD;
use crate::definition::Shape;
use crate::exponential::Scale;

const COUNTER: u8 = 1;
const FLOAT_COUNTER: u8 = 2;
const GAUGE: u8 = 3;
const CLASSIC: u8 = 4;
const EXPONENTIAL: u8 = 5;
const SUMMARY: u8 = 6;

/// The key of the block that holds all of a series, where there is but one.
pub(crate) const KEY_ONLY: u32 = 0;

/// The key of the block of zeros of an exponential series.
pub(crate) const KEY_ZERO: u32 = 2 << 16;

/// The key of a page of an exponential series; `side` is 0 for positive values, 1 for negative ones.
pub(crate) fn page_key(side: u32, page: usize) -> u32 {
    side << 16 | page as u32
}

/// What a number, or several that belong together, are in the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    Whole,
    Fraction,
    Block { counts: usize },
}

impl Numbers {
    /// Cells in a row.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Whole | Self::Fraction => 1,
            Self::Block { counts } => BLOCK_HEAD + counts,
        }
    }
}

/// The layout of a shape.
pub(super) fn of(shape: &Shape) -> Vec<u8> {
    match shape {
        Shape::Counter => vec![COUNTER],
        Shape::FloatCounter => vec![FLOAT_COUNTER],
        Shape::Gauge => vec![GAUGE],
        Shape::Classic(bounds) => {
            let bounds = bounds.finite().iter().flat_map(|bound| bound.to_le_bytes());
            [CLASSIC].into_iter().chain(bounds).collect()
        }
        Shape::Exponential(schema) => scaled(EXPONENTIAL, Scale::of_schema(*schema)),
        Shape::Summary(_) => scaled(SUMMARY, Scale::of_summaries()),
    }
}

/// Everything that decides in which bucket of which page a value falls.
fn scaled(kind: u8, scale: &Scale) -> Vec<u8> {
    let bytes = [scale.per_doubling() as u8, scale.page_buckets() as u8];
    let pages = (scale.pages() as u16).to_le_bytes();
    [kind].into_iter().chain(bytes).chain(pages).chain(Scale::SMALLEST.to_le_bytes()).collect()
}

/// What the block with this key is, in a family of this layout; `None` if there is no such block.
pub(super) fn numbers(layout: &[u8], key: u32) -> Option<Numbers> {
    let (kind, rest) = layout.split_first()?;
    match *kind {
        COUNTER if key == KEY_ONLY => Some(Numbers::Whole),
        FLOAT_COUNTER if key == KEY_ONLY => Some(Numbers::Fraction),
        CLASSIC if key == KEY_ONLY => Some(Numbers::Block { counts: rest.len() / 8 + 1 }),
        EXPONENTIAL | SUMMARY if key == KEY_ZERO => Some(Numbers::Block { counts: 1 }),
        EXPONENTIAL | SUMMARY if key < KEY_ZERO => {
            let [_, buckets, pages @ ..] = rest.first_chunk::<4>()?;
            let is_page = key & 0xffff < u32::from(u16::from_le_bytes(*pages));
            is_page.then_some(Numbers::Block { counts: usize::from(*buckets) })
        }
        _ => None,
    }
}
