//! Where the arguments come from: standard input, a file, or the command line.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use tokio::sync::mpsc;

use super::template::argument_bytes_max;

/// How far reading runs ahead of the commands, by number and by memory, whichever is less: both
/// bounds are those of a batch times the batches in flight.
const BATCHES_AHEAD_MAX: usize = 128;
const BATCH_LEN_MAX: usize = 1024;
const READ_AHEAD_BYTES_MAX: usize = 32 << 20;

/// The memory of a batch: 256 KiB, or two of the longest arguments where pages are large.
fn batch_bytes_max() -> usize {
    (256 << 10).max(2 * (argument_bytes_max() + 1))
}

/// A source of arguments, opened but not yet read.
#[derive(Debug)]
pub(crate) enum Source {
    Given(Vec<OsString>),
    Read { from: Reader, separator: u8 },
}

/// A file or standard input.
#[derive(Debug)]
pub(crate) enum Reader {
    Stdin(io::Stdin),
    File(File, PathBuf),
}

/// The arguments as they are read.
pub(crate) type Batches = mpsc::Receiver<io::Result<Vec<OsString>>>;

impl Source {
    /// Opens the file named by `-a`, or standard input.
    ///
    /// # Errors
    /// If the file cannot be opened or is a directory.
    pub(crate) fn open(file: Option<PathBuf>, nul_separated: bool) -> io::Result<Self> {
        let from = match file {
            None => Reader::Stdin(io::stdin()),
            Some(path) => {
                let file = File::open(&path)?;
                if file.metadata()?.is_dir() {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                Reader::File(file, path)
            }
        };
        let separator = if nul_separated { 0 } else { b'\n' };
        Ok(Self::Read { from, separator })
    }

    /// Whether a person is expected to type the arguments.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Self::Read { from: Reader::Stdin(stdin), .. } if stdin.is_terminal())
    }

    /// Starts to read on a thread of its own. The channel closes after the last argument.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start(self) -> io::Result<Batches> {
        let batches_ahead = BATCHES_AHEAD_MAX.min(READ_AHEAD_BYTES_MAX / batch_bytes_max());
        let (sender, batches) = mpsc::channel(batches_ahead.max(1));
        std::thread::Builder::new().name("input".to_owned()).spawn(move || match self {
            Self::Given(arguments) => {
                // Nobody listens after an interrupt.
                let _ = sender.blocking_send(Ok(arguments));
            }
            Self::Read { from: Reader::Stdin(stdin), separator } => {
                send_all(BufReader::with_capacity(1 << 16, stdin), separator, &sender);
            }
            Self::Read { from: Reader::File(file, path), separator } => {
                let name = |error: io::Error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                };
                let reader = Named { reader: file, name };
                send_all(BufReader::with_capacity(1 << 16, reader), separator, &sender);
            }
        })?;
        Ok(batches)
    }
}

/// A reader whose errors say which file they are about.
struct Named<R, F> {
    reader: R,
    name: F,
}

impl<R: Read, F: Fn(io::Error) -> io::Error> Read for Named<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(&self.name)
    }
}

fn send_all<R: Read>(
    mut reader: BufReader<R>,
    separator: u8,
    sender: &mpsc::Sender<io::Result<Vec<OsString>>>,
) {
    loop {
        let (batch, end) = next_batch(&mut reader, separator);
        if !batch.is_empty() && sender.blocking_send(Ok(batch)).is_err() {
            return;
        }
        match end {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                let _ = sender.blocking_send(Err(error));
                return;
            }
        }
    }
}

/// Reads arguments until the reader would have to wait for more, and whether that was the end.
fn next_batch<R: Read>(
    reader: &mut BufReader<R>,
    separator: u8,
) -> (Vec<OsString>, io::Result<bool>) {
    let (mut batch, mut batch_bytes) = (Vec::new(), 0);
    // The next argument is not known before it is read; the largest one has to fit.
    let batch_bytes_enough = batch_bytes_max() - (argument_bytes_max() + 1);
    loop {
        match next_argument(reader, separator) {
            Ok(None) => return (batch, Ok(true)),
            Ok(Some(argument)) => {
                batch_bytes += argument.capacity();
                batch.push(argument);
            }
            Err(error) => return (batch, Err(error)),
        }
        // What is buffered may end inside an argument, which would wait; better send what is there.
        if batch.len() == BATCH_LEN_MAX
            || batch_bytes >= batch_bytes_enough
            || !reader.buffer().contains(&separator)
        {
            return (batch, Ok(false));
        }
    }
}

/// Reads one argument, or `None` at the end.
///
/// Of one that is too long for the kernel only so much is kept that it stays too long: starting its
/// command then fails and says why, and a file without separators does not fill the memory.
fn next_argument<R: Read>(
    reader: &mut BufReader<R>,
    separator: u8,
) -> io::Result<Option<OsString>> {
    let kept_max = argument_bytes_max() + 1;
    let mut argument = Vec::new();
    // A buffer is far smaller than the address space, so no length is lost here.
    let len = reader.by_ref().take(kept_max as u64).read_until(separator, &mut argument)?;
    if argument.last() == Some(&separator) {
        argument.pop();
    } else if len == kept_max {
        reader.skip_until(separator)?;
        // It has grown by doubling.
        argument.shrink_to_fit();
    }
    Ok((len > 0).then(|| OsString::from_vec(argument)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &[u8], separator: u8) -> Vec<OsString> {
        let mut reader = BufReader::with_capacity(16, text);
        let mut all = Vec::new();
        loop {
            let (batch, end) = next_batch(&mut reader, separator);
            all.extend(batch);
            if end.unwrap() {
                return all;
            }
        }
    }

    #[test]
    fn each_line_is_an_argument_empty_ones_too() {
        assert_eq!(read_all(b"a\n\n b c \nlast", b'\n'), ["a", "", " b c ", "last"]);
        assert_eq!(read_all(b"a\n", b'\n'), ["a"]);
        assert_eq!(read_all(b"", b'\n'), Vec::<OsString>::new());
    }

    #[test]
    fn with_nul_a_newline_is_part_of_the_argument() {
        assert_eq!(read_all(b"a\nb\0\xff\0", 0), ["a\nb".into(), OsString::from_vec(vec![255])]);
    }

    #[test]
    fn arguments_longer_than_the_buffer_are_whole() {
        let long = "x".repeat(1000);
        let text = format!("{long}\n{long}y");
        assert_eq!(read_all(text.as_bytes(), b'\n'), text.lines().collect::<Vec<_>>());
    }

    #[test]
    fn what_no_program_can_be_given_is_not_held_whole() {
        let text = [&vec![b'x'; 3 << 20][..], b"\ngood\n", &vec![b'y'; 3 << 20]].concat();
        let all = read_all(&text, b'\n');
        assert_eq!(all.len(), 3);
        assert_eq!(all[1], "good");
        for too_long in [&all[0], &all[2]] {
            assert_eq!(too_long.len(), argument_bytes_max() + 1);
            assert!(too_long.capacity() < 2 * argument_bytes_max());
        }
    }

    #[test]
    fn an_argument_at_the_limit_is_cut_nowhere() {
        for len in argument_bytes_max() - 1..=argument_bytes_max() + 1 {
            let long = "x".repeat(len);
            assert_eq!(read_all(format!("{long}\nnext").as_bytes(), b'\n'), [&long, "next"]);
        }
    }

    #[test]
    fn a_batch_is_bounded_by_bytes() {
        let line = [&vec![b'x'; 100 << 10][..], b"\n"].concat();
        let text = line.repeat(20);
        let mut reader = BufReader::with_capacity(text.len(), &text[..]);
        let (mut lines, mut batches) = (0, 0);
        loop {
            let (batch, end) = next_batch(&mut reader, b'\n');
            assert!(batch.iter().map(OsString::capacity).sum::<usize>() <= batch_bytes_max());
            lines += batch.len();
            batches += 1;
            if end.unwrap() {
                break;
            }
        }
        assert_eq!(lines, 20);
        assert!(batches <= 11, "{batches} batches for 20 lines");
    }

    #[test]
    fn a_batch_is_sent_before_the_reader_would_wait() {
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, b"one\ntwo\nthr").unwrap();
        let mut reader = BufReader::new(reader);
        let (batch, end) = next_batch(&mut reader, b'\n');
        assert_eq!((batch, end.unwrap()), (vec!["one".into(), "two".into()], false));
        io::Write::write_all(&mut writer, b"ee\n").unwrap();
        drop(writer);
        assert_eq!(next_batch(&mut reader, b'\n').0, ["three"]);
    }
}
