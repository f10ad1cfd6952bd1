//! The output of one command: held in pooled buffers that count against the budget, spilled to a
//! temporary file beyond [`MEMORY_BYTES_MAX`] or when the budget has no room.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use tripod::{Buffer, MemoryManager};

/// The output of one command that is held in memory at most, both streams together.
pub(crate) const MEMORY_BYTES_MAX: usize = 1 << 20;

/// The first buffer of a stream is small, since most commands say little; later ones are large.
const FIRST_BUFFER_BYTES: usize = 4 << 10;
const BUFFER_BYTES: usize = 64 << 10;

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// What a command has written.
#[derive(Debug)]
pub(crate) struct Capture {
    memory: MemoryManager,
    out: Stored,
    err: Stored,
}

impl Capture {
    pub(crate) fn new(memory: MemoryManager) -> Self {
        Self { memory, out: Stored::default(), err: Stored::default() }
    }

    /// Appends what was read from `stream`.
    ///
    /// # Errors
    /// If a temporary file is needed and cannot be written, as on a full disk.
    pub(crate) fn append(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if self.memory_bytes() + bytes.len() > MEMORY_BYTES_MAX {
            self.spill()?;
        }
        let stored = match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        };
        stored.append(&self.memory, bytes)
    }

    /// Moves what is held in memory to temporary files.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(crate) fn spill(&mut self) -> io::Result<()> {
        self.out.spill()?;
        self.err.spill()
    }

    /// Whether some of it is in a temporary file.
    pub(crate) fn is_in_files(&self) -> bool {
        self.out.file.is_some() || self.err.file.is_some()
    }

    /// The bytes of pooled buffers in use.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.out.memory_bytes() + self.err.memory_bytes()
    }

    pub(crate) fn stream(&self, stream: Stream) -> &Stored {
        match stream {
            Stream::Out => &self.out,
            Stream::Err => &self.err,
        }
    }
}

/// The bytes of one stream.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Full ones, then the one being filled.
    buffers: Vec<Buffer>,
    /// The bytes used of the last buffer.
    last_len: usize,
    /// Where the bytes are once they were spilled; no buffers then.
    file: Option<File>,
}

impl Stored {
    pub(crate) fn is_empty(&self) -> bool {
        self.buffers.is_empty() && self.file.is_none()
    }

    fn memory_bytes(&self) -> usize {
        self.buffers.iter().map(Buffer::capacity).sum()
    }

    fn append(&mut self, memory: &MemoryManager, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if let Some(file) = &mut self.file {
                return file.write_all(bytes);
            }
            let room = self.buffers.last().map_or(0, |buffer| buffer.len() - self.last_len);
            if room == 0 && !self.add_buffer(memory) {
                self.spill()?;
                if self.file.is_none() {
                    self.file = Some(tempfile::tempfile()?);
                }
                continue;
            }
            let buffer = self.buffers.last_mut().expect("there is room in it");
            let len = bytes.len().min(buffer.len() - self.last_len);
            buffer[self.last_len..self.last_len + len].copy_from_slice(&bytes[..len]);
            self.last_len += len;
            bytes = &bytes[len..];
        }
        Ok(())
    }

    /// Whether the budget had room for one more buffer.
    fn add_buffer(&mut self, memory: &MemoryManager) -> bool {
        let len = if self.buffers.is_empty() { FIRST_BUFFER_BYTES } else { BUFFER_BYTES };
        let Ok(buffer) = memory.acquire(len) else { return false };
        self.buffers.push(buffer);
        self.last_len = 0;
        true
    }

    /// Moves what there is to a file; nothing needs none.
    fn spill(&mut self) -> io::Result<()> {
        if !self.buffers.is_empty() {
            let mut file = tempfile::tempfile()?;
            for chunk in self.chunks() {
                file.write_all(chunk)?;
            }
            self.file = Some(file);
            self.buffers.clear();
        }
        Ok(())
    }

    fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let last = self.buffers.len().saturating_sub(1);
        self.buffers.iter().enumerate().map(move |(index, buffer)| {
            if index == last { &buffer[..self.last_len] } else { &buffer[..] }
        })
    }

    /// Hands all bytes to `take`, piece by piece in order.
    ///
    /// # Errors
    /// Those of `take`, and of reading a temporary file.
    pub(crate) fn for_each_chunk(
        &self,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        for chunk in self.chunks() {
            take(chunk)?;
        }
        let Some(mut file) = self.file.as_ref() else { return Ok(()) };
        file.seek(SeekFrom::Start(0))?;
        let mut chunk = vec![0; BUFFER_BYTES];
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(()),
                len => take(&chunk[..len])?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(budget_bytes: u64) -> MemoryManager {
        MemoryManager::builder().budget_bytes(budget_bytes).build().unwrap()
    }

    fn contents(capture: &Capture, stream: Stream) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut take = |chunk: &[u8]| bytes.write_all(chunk);
        capture.stream(stream).for_each_chunk(&mut take).unwrap();
        bytes
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn what_is_written_in_any_pieces_comes_back_in_order() {
        let memory = memory(64 << 20);
        for piece in [1, 4095, 4096, 4097, 70_000] {
            let bytes = pattern(200_000);
            let mut capture = Capture::new(memory.clone());
            for chunk in bytes.chunks(piece) {
                capture.append(Stream::Out, chunk).unwrap();
                capture.append(Stream::Err, &chunk[..1]).unwrap();
            }
            assert_eq!(contents(&capture, Stream::Out), bytes);
            assert_eq!(contents(&capture, Stream::Err).len(), bytes.chunks(piece).len());
            assert!(capture.memory_bytes() > 0, "small output stays in memory");
        }
    }

    #[test]
    fn beyond_a_mebibyte_it_is_in_a_file_and_its_memory_is_back() {
        let memory = memory(64 << 20);
        let bytes = pattern(3 * MEMORY_BYTES_MAX);
        let mut capture = Capture::new(memory.clone());
        for chunk in bytes.chunks(65_536) {
            capture.append(Stream::Out, chunk).unwrap();
            assert!(capture.memory_bytes() <= MEMORY_BYTES_MAX + BUFFER_BYTES);
        }
        assert_eq!(capture.memory_bytes(), 0);
        assert_eq!(memory.stats().used_bytes, 0);
        assert_eq!(contents(&capture, Stream::Out), bytes);
        assert_eq!(contents(&capture, Stream::Out), bytes, "it can be read again");
    }

    #[test]
    fn without_room_in_the_budget_nothing_is_lost() {
        let memory = memory(100 << 10);
        let _rest = memory.try_reserve(90 << 10).unwrap();
        let bytes = pattern(50_000);
        let mut capture = Capture::new(memory.clone());
        for chunk in bytes.chunks(1000) {
            capture.append(Stream::Err, chunk).unwrap();
        }
        assert_eq!(contents(&capture, Stream::Err), bytes);
        assert_eq!(capture.memory_bytes(), 0);
    }
}
