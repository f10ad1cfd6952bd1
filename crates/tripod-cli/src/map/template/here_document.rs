//! Here-documents: `<<EOF`, and the lines below that belong to it.

/// A here-document whose operator has been read and whose lines have not.
#[derive(Debug)]
pub(super) struct HereDocument {
    pub(super) delimiter: Vec<u8>,
    /// Whether any part of the delimiter was quoted: nothing in the body is expanded then.
    pub(super) quoted: bool,
    /// `<<-`: tabs at the start of a line do not count.
    strips_tabs: bool,
    /// The interpreter that reads the body as its program, as in `sh <<EOF`.
    pub(super) interpreter: Option<&'static str>,
}

impl HereDocument {
    /// Reads the delimiter after `<<` or `<<-`, and its length in bytes with the blanks before it.
    ///
    /// A shell expands nothing in a delimiter (POSIX XCU 2.7.4), so neither do we.
    pub(super) fn parse(rest: &[u8], strips_tabs: bool) -> (Self, usize) {
        let mut position = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let (mut delimiter, mut quoted) = (Vec::new(), false);
        let mut open_quote = None;
        while let Some(&byte) = rest.get(position) {
            match (byte, open_quote) {
                (_, Some(quote)) if byte == quote => open_quote = None,
                (_, Some(_)) => delimiter.push(byte),
                (b'\'' | b'"', None) => (open_quote, quoted) = (Some(byte), true),
                (b'\\', None) => {
                    quoted = true;
                    position += 1;
                    delimiter.extend(rest.get(position));
                }
                (b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')', None) => {
                    break;
                }
                _ => delimiter.push(byte),
            }
            position += 1;
        }
        (Self { delimiter, quoted, strips_tabs, interpreter: None }, position.min(rest.len()))
    }

    /// The length of the body that `rest` begins with, without and with the line that ends it.
    ///
    /// Without such a line everything is body, as shells have it (with a warning).
    pub(super) fn extent(&self, rest: &[u8]) -> (usize, usize) {
        let (mut line_start, mut continued) = (0, false);
        while line_start < rest.len() {
            let newline = rest[line_start..].iter().position(|b| *b == b'\n');
            let line_end = newline.map_or(rest.len(), |len| line_start + len);
            let next_line = (line_end + 1).min(rest.len());
            let line = &rest[line_start..line_end];
            if !continued && self.ends_at(line) {
                return (line_start, next_line);
            }
            let backslashes = line.iter().rev().take_while(|b| **b == b'\\').count();
            continued = !self.quoted && backslashes % 2 == 1;
            line_start = next_line;
        }
        (rest.len(), rest.len())
    }

    fn ends_at(&self, line: &[u8]) -> bool {
        let tabs = line.iter().take_while(|b| self.strips_tabs && **b == b'\t').count();
        line[tabs..] == self.delimiter
    }
}
