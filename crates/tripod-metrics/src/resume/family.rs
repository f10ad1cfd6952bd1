//! The part of a family, and of a series in many blocks, that the keeper is told of.
//!
//! A family is behind the lock of its table, so nobody else makes or removes a series of it meanwhile.

use super::keeper::Keeper;
use super::layout;
use crate::cells::Slot;
use crate::definition::Shape;
use crate::sync::{Arc, MutexGuard};

/// What a family tells the keeper of its series, by their positions.
#[derive(Debug)]
pub(crate) struct KeptFamily {
    keeper: Arc<Keeper>,
    name: String,
    layout: Vec<u8>,
    ids: Vec<Option<u64>>,
}

/// What a series tells the keeper of blocks that it makes later.
#[derive(Debug)]
pub(crate) struct KeptSeries {
    keeper: Arc<Keeper>,
    id: u64,
}

impl KeptFamily {
    pub(crate) fn new(keeper: &Arc<Keeper>, name: &str, shape: &Shape) -> Self {
        let layout = layout::of(shape);
        Self { keeper: Arc::clone(keeper), name: name.to_owned(), layout, ids: Vec::new() }
    }

    /// Writes down a series that was just made, and that nobody else knows of yet. `place` puts the
    /// numbers of an earlier process into the cells, if it is given any, and says where all are.
    ///
    /// Returns when the series was first made.
    pub(crate) fn enrol(
        &mut self,
        position: u32,
        text: &str,
        now_ms: u64,
        place: impl FnOnce(&[(u32, Vec<u64>)]) -> Vec<(u32, Slot)>,
    ) -> u64 {
        let taken = self.keeper.take(&self.name, &self.layout, text);
        let (created_ms, blocks) =
            taken.dormant.as_ref().map_or((now_ms, &[][..]), |own| (own.created_ms, &own.blocks));
        let places = place(blocks);
        let id = self.keeper.enrol(&taken, text, created_ms, places);
        let position = position as usize;
        if self.ids.len() <= position {
            self.ids.resize(position + 1, None);
        }
        self.ids[position] = Some(id);
        created_ms
    }

    /// Says that a name now stands for numbers that do not go on, as those of gauges.
    pub(crate) fn supersede(&self, text: &str) {
        drop(self.keeper.take(&self.name, &self.layout, text));
    }

    /// Writes down that a series is no more, before its cells are given back.
    pub(crate) fn gone(&mut self, position: u32) {
        if let Some(id) = self.ids.get_mut(position as usize).and_then(Option::take) {
            self.keeper.gone(id);
        }
    }

    /// The part for the series at `position`, which is written down.
    pub(crate) fn series(&self, position: u32) -> Option<KeptSeries> {
        let id = self.ids.get(position as usize).copied().flatten()?;
        Some(KeptSeries { keeper: Arc::clone(&self.keeper), id })
    }
}

impl KeptSeries {
    /// To be held while a block is made.
    pub(crate) fn making(&self) -> MutexGuard<'_, ()> {
        self.keeper.making()
    }

    /// Writes down where one more block is, before anybody stores in it.
    pub(crate) fn add_block(&self, key: u32, slot: Slot) {
        self.keeper.add_block(self.id, key, slot);
    }
}
