//! Label texts of many series in few allocations.

/// Bytes of a block of texts, but for one longer text that has a block of its own.
const BLOCK_BYTES: usize = 16 * 1024;

/// Where a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextRef {
    block: u32,
    start: u16,
    /// Of the texts that share a block; a text alone in its block ends where the block does.
    len: u16,
}

impl TextRef {
    /// Stands for no text.
    pub(super) const NONE: Self = Self { block: u32::MAX, start: 0, len: 0 };
}

/// Texts in blocks; a block is freed when its last text is removed.
#[derive(Debug, Default)]
pub(super) struct Texts {
    blocks: Vec<Block>,
    free: Vec<u32>,
    /// The block that takes the next text.
    open: Option<u32>,
}

#[derive(Debug, Default)]
struct Block {
    text: String,
    texts: u32,
}

impl Texts {
    pub(super) fn add(&mut self, text: &str) -> TextRef {
        if text.len() >= BLOCK_BYTES {
            let block = self.new_block(text.len());
            self.blocks[block as usize] = Block { text: text.to_owned(), texts: 1 };
            return TextRef { block, start: 0, len: u16::MAX };
        }
        let is_room = |block: &u32| {
            let block = &self.blocks[*block as usize].text;
            block.len() + text.len() <= BLOCK_BYTES
        };
        let block = self.open.filter(is_room).unwrap_or_else(|| self.open_block());
        let Block { text: all, texts } = &mut self.blocks[block as usize];
        let start = all.len() as u16;
        // The first blocks grow as they fill: most families have few series.
        all.push_str(text);
        *texts += 1;
        TextRef { block, start, len: text.len() as u16 }
    }

    #[inline]
    pub(super) fn get(&self, TextRef { block, start, len }: TextRef) -> &str {
        let all = &self.blocks[block as usize].text;
        if len == u16::MAX { all } else { &all[usize::from(start)..][..usize::from(len)] }
    }

    pub(super) fn remove(&mut self, TextRef { block, .. }: TextRef) {
        let own = &mut self.blocks[block as usize];
        own.texts -= 1;
        if own.texts == 0 && self.open != Some(block) {
            *own = Block::default();
            self.free.push(block);
        }
    }

    fn open_block(&mut self) -> u32 {
        // What is full and empty again was kept only because it was open.
        if let Some(open) = self.open.take() {
            let block = &mut self.blocks[open as usize];
            if block.texts == 0 {
                *block = Block::default();
                self.free.push(open);
            }
        }
        let capacity = if self.blocks.is_empty() { 0 } else { BLOCK_BYTES };
        let block = self.new_block(capacity);
        self.open = Some(block);
        block
    }

    fn new_block(&mut self, capacity: usize) -> u32 {
        let block = Block { text: String::with_capacity(capacity), texts: 0 };
        if let Some(place) = self.free.pop() {
            self.blocks[place as usize] = block;
            return place;
        }
        self.blocks.push(block);
        (self.blocks.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_any_length_come_back_and_empty_blocks_are_used_again() {
        let mut texts = Texts::default();
        let lengths = [0, 1, 50, BLOCK_BYTES - 1, BLOCK_BYTES, 70_000, 3];
        let wanted: Vec<String> = lengths.iter().map(|length| "é".repeat(*length)).collect();
        let added: Vec<TextRef> = wanted.iter().map(|text| texts.add(text)).collect();
        for (text, place) in wanted.iter().zip(&added) {
            assert!(texts.get(*place) == text, "{place:?}");
        }
        added.into_iter().for_each(|place| texts.remove(place));
        let blocks = texts.blocks.len();
        for _ in 0..3 {
            let places: Vec<TextRef> = wanted.iter().map(|text| texts.add(text)).collect();
            places.into_iter().for_each(|place| texts.remove(place));
        }
        assert!(texts.blocks.len() <= blocks + 1, "{} after {blocks}", texts.blocks.len());
    }
}
