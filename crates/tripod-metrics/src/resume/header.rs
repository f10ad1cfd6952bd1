//! The first page of the series file: whose it is, and how far it is valid. Pure.
//!
//! Its first part is written once, with a checksum. Two words behind it change while the file is in
//! use, each by one store: [`COMMITTED`] says where the records end, and [`VOID`] that the file does
//! not have everything, so that nothing may be taken from it.

use crate::cells::PAGE_BYTES;

/// The index of the word that says where the records end.
pub(super) const COMMITTED: usize = 8;

/// The index of the word that is 0 as long as the file is complete.
pub(super) const VOID: usize = 9;

const MAGIC: [u8; 8] = *b"TRPDCTRS";
const VERSION: u32 = 1;
const SIGNED: usize = 60;
const CHECKSUM_BITS: u32 = 24;

/// Identifies one start of the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boot(pub(crate) [u8; 16]);

impl Boot {
    /// Reads the identifier from its text, 32 hexadecimal digits with or without hyphens.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits: String = text.trim().chars().filter(|character| *character != '-').collect();
        if digits.len() != 32 {
            return None;
        }
        u128::from_str_radix(&digits, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

/// What the first part of the page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) boot: Boot,
    pub(super) generation: u64,
    /// The inode of the series file itself, so that a copy is known as one.
    pub(super) own_inode: u64,
    /// The inode of the file with the cells.
    pub(super) cells_inode: u64,
}

/// Why a page is not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoHeader {
    Damaged,
    /// It is one of a version that this code does not know.
    Version(u32),
}

/// A header and its two words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) header: Header,
    /// Where the records end, bytes from the start of the file.
    pub(super) end: u64,
    pub(super) is_void: bool,
}

impl Page {
    pub(super) fn write(&self) -> [u8; PAGE_BYTES] {
        let Header { boot, generation, own_inode, cells_inode } = self.header;
        let mut page = [0; PAGE_BYTES];
        page[..8].copy_from_slice(&MAGIC);
        page[8..12].copy_from_slice(&VERSION.to_le_bytes());
        page[12..16].copy_from_slice(&(PAGE_BYTES as u32).to_le_bytes());
        page[16..32].copy_from_slice(&boot.0);
        page[32..40].copy_from_slice(&generation.to_le_bytes());
        page[40..48].copy_from_slice(&own_inode.to_le_bytes());
        page[48..56].copy_from_slice(&cells_inode.to_le_bytes());
        let checksum = crc32c::crc32c(&page[..SIGNED]);
        page[SIGNED..64].copy_from_slice(&checksum.to_le_bytes());
        page[COMMITTED * 8..][..8].copy_from_slice(&committed(self.end).to_ne_bytes());
        page[VOID * 8..][..8].copy_from_slice(&void(self.is_void).to_ne_bytes());
        page
    }

    pub(super) fn read(page: &[u8]) -> Result<Self, NoHeader> {
        let page: &[u8; PAGE_BYTES] = page.first_chunk().ok_or(NoHeader::Damaged)?;
        let word = |at: usize| std::array::from_fn::<u8, 8, _>(|byte| page[at + byte]);
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| page[at + byte]));
        if page[..8] != MAGIC || crc32c::crc32c(&page[..SIGNED]) != half(SIGNED) {
            return Err(NoHeader::Damaged);
        }
        let version = half(8);
        if version != VERSION || half(12) != PAGE_BYTES as u32 {
            return Err(NoHeader::Version(version));
        }
        let header = Header {
            boot: Boot(std::array::from_fn(|byte| page[16 + byte])),
            generation: u64::from_le_bytes(word(32)),
            own_inode: u64::from_le_bytes(word(40)),
            cells_inode: u64::from_le_bytes(word(48)),
        };
        let end = end_of(u64::from_ne_bytes(word(COMMITTED * 8))).ok_or(NoHeader::Damaged)?;
        Ok(Self { header, end, is_void: word(VOID * 8) != [0; 8] })
    }
}

/// The word that says that the records end at `end`: 40 bits of it, and 24 bits of their checksum.
pub(super) fn committed(end: u64) -> u64 {
    let checksum = crc32c::crc32c(&end.to_le_bytes());
    end << CHECKSUM_BITS | u64::from(checksum) & ((1 << CHECKSUM_BITS) - 1)
}

/// Undoes [`committed`].
fn end_of(word: u64) -> Option<u64> {
    let end = word >> CHECKSUM_BITS;
    (committed(end) == word).then_some(end)
}

/// The word that says whether the file is void.
pub(super) fn void(is_void: bool) -> u64 {
    if is_void { u64::MAX } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Page = Page {
        header: Header { boot: Boot([7; 16]), generation: 3, own_inode: 1 << 40, cells_inode: 9 },
        end: 5000,
        is_void: false,
    };

    #[test]
    fn a_page_comes_back_as_it_was() {
        for page in [PAGE, Page { is_void: true, end: (1 << 40) - 1, ..PAGE }] {
            assert_eq!(Page::read(&page.write()), Ok(page));
        }
    }

    #[test]
    fn no_byte_can_change_what_a_page_says_but_to_make_it_void() {
        let page = PAGE.write();
        for place in 0..PAGE_BYTES {
            for flip in 1..=u8::MAX {
                let mut flipped = page;
                flipped[place] ^= flip;
                match Page::read(&flipped) {
                    Ok(Page { is_void: true, .. }) => assert_eq!(place / 8, VOID),
                    Ok(read) => {
                        assert_eq!(read, PAGE, "{flip} at {place}");
                        assert!(place >= 80, "only behind the words is nothing noticed: {place}");
                    }
                    Err(error) => assert_eq!(error, NoHeader::Damaged),
                }
                // One thing a second is enough where nothing can be noticed.
                if place >= 80 {
                    break;
                }
            }
        }
    }

    #[test]
    fn another_version_is_known_as_one() {
        let mut page = PAGE.write();
        page[8] = 2;
        let checksum = crc32c::crc32c(&page[..SIGNED]);
        page[SIGNED..64].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Page::read(&page), Err(NoHeader::Version(2)));
    }

    #[test]
    fn a_boot_is_read_from_its_text() {
        let boot = Boot::parse("00010203-0405-0607-0809-0a0b0c0d0e0f\n");
        assert_eq!(boot, Some(Boot(std::array::from_fn(|byte| byte as u8))));
        for text in
            ["", "00010203-0405-0607-0809-0a0b0c0d0e", "zz010203-0405-0607-0809-0a0b0c0d0e0f"]
        {
            assert_eq!(Boot::parse(text), None, "{text}");
        }
    }
}
