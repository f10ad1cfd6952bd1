//! The state that an encoder and its decoders have in common.

use std::sync::Arc;

use super::value::Number;
use super::{FAMILIES_MAX, SERIES_MAX, SYMBOL_BYTES_MAX};
use crate::snapshot::Kind;

/// What an encoder is told of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyInfo<'a> {
    /// The name of the series, with `_bucket`, `_sum` or `_count` where that is part of it.
    pub name: &'a str,
    /// The help text.
    pub help: &'a str,
    /// The unit, if one was declared.
    pub unit: Option<&'a str>,
    /// What the family is.
    pub kind: Kind,
}

/// One series as it is after the last frame.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct SeriesView<'a> {
    /// The small number by which frames name it. It is used again after the series has ended.
    pub id: u32,
    /// What it belongs to.
    pub family: FamilyInfo<'a>,
    /// Its value.
    pub value: Number,
    table: &'a Table,
    labels: &'a [(u32, u32)],
}

impl<'a> SeriesView<'a> {
    /// Its labels, names with values.
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let table = self.table;
        self.labels.iter().map(move |(name, value)| (table.symbol(*name), table.symbol(*value)))
    }
}

impl std::fmt::Debug for SeriesView<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SeriesView")
            .field("id", &self.id)
            .field("family", &self.family)
            .field("labels", &self.labels().collect::<Vec<_>>())
            .field("value", &self.value)
            .finish()
    }
}

/// Symbols, families and series. Indices in it are always valid: they are checked on the way in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Table {
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    pub(super) time_ms: i64,
    symbols: Vec<Arc<str>>,
    symbol_bytes: usize,
    families: Vec<FamilyRow>,
    rows: Vec<Option<Row>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FamilyRow {
    pub(super) name: u32,
    pub(super) help: u32,
    pub(super) unit: Option<u32>,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) family: u32,
    pub(super) labels: Box<[(u32, u32)]>,
    pub(super) value: Number,
}

/// A limit of the stream is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// What a symbol costs beside its text.
const SYMBOL_OVERHEAD_BYTES: usize = 32;

impl Table {
    pub(super) fn new(epoch: u64, sequence: u64, time_ms: i64) -> Self {
        Self { epoch, sequence, time_ms, ..Self::default() }
    }

    pub(super) fn symbols(&self) -> &[Arc<str>] {
        &self.symbols
    }

    pub(super) fn symbol(&self, index: u32) -> &str {
        &self.symbols[index as usize]
    }

    pub(super) fn push_symbol(&mut self, text: Arc<str>) -> Result<u32, Full> {
        let bytes = self.symbol_bytes + text.len() + SYMBOL_OVERHEAD_BYTES;
        if bytes > SYMBOL_BYTES_MAX {
            return Err(Full);
        }
        self.symbol_bytes = bytes;
        self.symbols.push(text);
        Ok(self.symbols.len() as u32 - 1)
    }

    pub(super) fn families(&self) -> &[FamilyRow] {
        &self.families
    }

    pub(super) fn push_family(&mut self, family: FamilyRow) -> Result<u32, Full> {
        if self.families.len() == FAMILIES_MAX {
            return Err(Full);
        }
        self.families.push(family);
        Ok(self.families.len() as u32 - 1)
    }

    /// By id; a hole is a series that has ended.
    pub(super) fn rows(&self) -> &[Option<Row>] {
        &self.rows
    }

    pub(super) fn row_mut(&mut self, id: usize) -> Option<&mut Row> {
        self.rows.get_mut(id)?.as_mut()
    }

    pub(super) fn take_row(&mut self, id: usize) -> Option<Row> {
        self.rows.get_mut(id)?.take()
    }

    /// Puts a row into a hole or at the end; false if `id` is taken, or leaves a gap.
    pub(super) fn put_row(&mut self, id: usize, row: Row) -> bool {
        if id == self.rows.len() && id < SERIES_MAX {
            self.rows.push(Some(row));
            return true;
        }
        match self.rows.get_mut(id) {
            Some(slot @ None) => {
                *slot = Some(row);
                true
            }
            _ => false,
        }
    }

    pub(super) fn push_hole(&mut self) {
        self.rows.push(None);
    }

    pub(super) fn view(&self, id: u32) -> Option<SeriesView<'_>> {
        let row = self.rows.get(id as usize)?.as_ref()?;
        let family = self.families[row.family as usize];
        let family = FamilyInfo {
            name: self.symbol(family.name),
            help: self.symbol(family.help),
            unit: family.unit.map(|unit| self.symbol(unit)),
            kind: family.kind,
        };
        Some(SeriesView { id, family, value: row.value, table: self, labels: &row.labels })
    }

    pub(super) fn views(&self) -> impl Iterator<Item = SeriesView<'_>> {
        (0..self.rows.len() as u32).filter_map(|id| self.view(id))
    }
}
