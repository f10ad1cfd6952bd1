//! Filling a buffer from readers and by writes.
//!
//! Everything here goes behind the visible bytes, straight into the buffer's memory, and stops at the
//! capacity: nothing is allocated and nothing moves. Reading out needs no code: a slice of a buffer
//! is `Read`, and a `Cursor` around one keeps the position.

use std::io::{self, Read, Write};

use super::Buffer;

impl Buffer {
    /// Reads once from `reader`, straight behind the visible bytes; returns how many bytes were added.
    ///
    /// That is 0 at the end of what there is to read, or if the buffer is full, which
    /// [`spare_capacity`](Self::spare_capacity) tells. The counterpart for tokio is
    /// `AsyncReadExt::read_buf(&mut buffer)`.
    ///
    /// # Errors
    /// The reader's. Nothing became visible then.
    ///
    /// # Panics
    /// If the reader says that it read more than it had room for.
    ///
    /// # Examples
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// let memory = MemoryManager::builder().build()?;
    /// let mut buffer = memory.acquire(4096)?;
    /// buffer.clear();
    /// let mut file = std::fs::File::open("Cargo.toml")?;
    /// while buffer.read_from(&mut file)? > 0 {}
    /// assert!(buffer.starts_with(b"[package]"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// With tokio:
    /// ```
    /// # use tripod_memory::MemoryManager;
    /// use tokio::io::AsyncReadExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let memory = MemoryManager::builder().build()?;
    /// # let (mut socket, mut peer) = tokio::io::duplex(64);
    /// # tokio::io::AsyncWriteExt::write_all(&mut peer, b"hello").await?;
    /// # drop(peer);
    /// let mut buffer = memory.acquire(4096)?;
    /// buffer.clear();
    /// while socket.read_buf(&mut buffer).await? > 0 {}
    /// assert_eq!(&buffer[..], b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_from(&mut self, reader: &mut (impl Read + ?Sized)) -> io::Result<usize> {
        let spare = self.spare_capacity();
        let room = spare.len();
        if room == 0 {
            return Ok(0);
        }
        let added = reader.read(spare)?;
        assert!(added <= room, "the reader says it read {added} bytes, into room for {room}");
        self.set_len(self.len() + added);
        Ok(added)
    }
}

/// Appends up to the capacity. A full buffer takes 0 bytes, as a full slice does, and `write_all`
/// then fails with [`WriteZero`](io::ErrorKind::WriteZero).
///
/// # Examples
/// ```
/// # use tripod_memory::MemoryManager;
/// use std::io::Write;
///
/// let mut buffer = MemoryManager::builder().build()?.acquire(64)?;
/// buffer.clear();
/// write!(buffer, "{} and {}", 1, 2)?;
/// assert_eq!(&buffer[..], b"1 and 2");
/// assert!(buffer.write_all(&[0; 64]).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut spare = self.spare_capacity();
        let added = spare.write(bytes)?;
        self.set_len(self.len() + added);
        Ok(added)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
