//! A look at the text of a query before it is parsed.
//!
//! What it guarantees: what passes is short and shallow enough that parsing it, walking the result
//! and dropping it, each of which recurses, fit a stack of 2 MiB; and its durations are such that
//! the parser reads them as they are written. The parser panics on `x[1e300]` and takes
//! `[5000000000ms]` for zero.
//!
//! Where it stops: it knows strings, comments, brackets, words and numbers, and no grammar. What it
//! lets through may still be no query.

use super::error::QueryError;

/// The most bytes in a query.
const BYTES_MAX: usize = 64 * 1024;
/// The most brackets open at once.
const BRACKETS_MAX: usize = 64;
/// The most operators, of which each may nest what stands beside it one deeper.
const OPERATORS_MAX: usize = 128;

/// Checks a query.
///
/// # Errors
/// [`QueryError::TooComplex`], or [`QueryError::Parse`] with the place of the fault.
pub(super) fn check(query: &str) -> Result<(), QueryError> {
    if query.len() > BYTES_MAX {
        return Err(QueryError::TooComplex { what: "bytes", limit: BYTES_MAX });
    }
    let mut scan = Scan { text: query.as_bytes(), at: 0, open: Vec::new(), operators: 0 };
    while let Some(&byte) = scan.text.get(scan.at) {
        scan.step(byte)?;
    }
    Ok(())
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    open: Vec<u8>,
    operators: usize,
}

impl Scan<'_> {
    fn step(&mut self, byte: u8) -> Result<(), QueryError> {
        match byte {
            b'"' | b'\'' | b'`' => self.skip_string(byte),
            b'#' => self.skip_while(|byte| byte != b'\n' && byte != b'\r'),
            b'(' | b'[' | b'{' => self.open(byte)?,
            b')' | b']' | b'}' => {
                self.open.pop();
                self.at += 1;
            }
            b'0'..=b'9' | b'.' => self.number(false)?,
            // Of a subquery; elsewhere it is part of a word.
            b':' if self.open.last() == Some(&b'[') => self.at += 1,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b':' => self.word()?,
            b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'<' | b'>' | b'=' | b'!' => {
                // `==`, `!=`, `<=` and `>=` are one.
                let two = b"=!<>".contains(&byte) && self.text.get(self.at + 1) == Some(&b'=');
                self.at += if two { 2 } else { 1 };
                self.count_operator()?;
            }
            _ => self.at += 1,
        }
        Ok(())
    }

    fn open(&mut self, bracket: u8) -> Result<(), QueryError> {
        self.open.push(bracket);
        self.at += 1;
        if self.open.len() > BRACKETS_MAX {
            return Err(QueryError::TooComplex {
                what: "brackets open at once",
                limit: BRACKETS_MAX,
            });
        }
        Ok(())
    }

    fn count_operator(&mut self) -> Result<(), QueryError> {
        // Between braces they compare labels and nest nothing.
        if self.open.last() != Some(&b'{') {
            self.operators += 1;
        }
        if self.operators > OPERATORS_MAX {
            return Err(QueryError::TooComplex { what: "operators", limit: OPERATORS_MAX });
        }
        Ok(())
    }

    fn skip_while(&mut self, more: impl Fn(u8) -> bool) {
        while self.text.get(self.at).is_some_and(|byte| more(*byte)) {
            self.at += 1;
        }
    }

    fn skip_string(&mut self, quote: u8) {
        self.at += 1;
        while let Some(&byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                b'\\' if quote != b'`' => self.at += 1,
                _ if byte == quote => break,
                _ => {}
            }
        }
    }

    fn word(&mut self) -> Result<(), QueryError> {
        let begin = self.at;
        self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':');
        let word = &self.text[begin..self.at];
        let is = |other: &str| word.eq_ignore_ascii_case(other.as_bytes());
        if is("and") || is("or") || is("unless") || is("atan2") {
            self.count_operator()?;
        }
        if self.open.last() == Some(&b'[') {
            return Err(self.fault(begin, "a duration such as 5m was expected"));
        }
        if is("offset") { self.offset() } else { Ok(()) }
    }

    /// What follows the word `offset`, unless that is a metric's name here.
    fn offset(&mut self) -> Result<(), QueryError> {
        self.skip_while(|byte| byte.is_ascii_whitespace());
        if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
            self.at += 1;
            self.skip_while(|byte| byte.is_ascii_whitespace());
        }
        match self.text.get(self.at) {
            Some(b'0'..=b'9' | b'.') => self.number(true),
            Some(b'i' | b'I' | b'n' | b'N') => {
                Err(self.fault(self.at, "a duration such as 5m was expected"))
            }
            _ => Ok(()),
        }
    }

    /// A number or a duration. Where one has to be a duration, a number is refused.
    fn number(&mut self, after_offset: bool) -> Result<(), QueryError> {
        let begin = self.at;
        self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
        let text = &self.text[begin..self.at];
        let unit = |byte: &u8| matches!(byte, b's' | b'm' | b'h' | b'd' | b'w' | b'y');
        let hexadecimal = text.get(1).is_some_and(|byte| byte.eq_ignore_ascii_case(&b'x'));
        if hexadecimal || !text.iter().any(unit) {
            if self.open.last() == Some(&b'[') || after_offset {
                return Err(self.fault(begin, "a duration such as 5m was expected, not a number"));
            }
            return Ok(());
        }
        for digits in text.split(|byte| !byte.is_ascii_digit()) {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            if !digits.is_empty() && digits.parse::<u32>().is_err() {
                return Err(self.fault(begin, "a number in a duration is above 4294967295"));
            }
        }
        Ok(())
    }

    fn fault(&self, position: usize, message: &str) -> QueryError {
        QueryError::Parse { message: message.to_owned(), position: Some(position) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused_at(query: &str, expected: Option<usize>) {
        match check(query) {
            Ok(()) => assert_eq!(expected, None, "{query} passed"),
            Err(QueryError::Parse { position, .. }) => assert_eq!(position, expected, "{query}"),
            Err(error) => panic!("{query}: {error}"),
        }
    }

    #[test]
    fn durations_that_the_parser_would_misread_are_refused_in_place() {
        refused_at("rate(x[1e300])", Some(7));
        refused_at("x[inf]", Some(2));
        refused_at("x[5m:nan]", Some(5));
        refused_at("x offset 1e300", Some(9));
        refused_at("x offset - Inf", Some(11));
        refused_at("x[5000000000ms]", Some(2));
        refused_at("x[300]", Some(2));
    }

    #[test]
    fn good_queries_pass() {
        for query in [
            "rate(x[5m] offset -1h30m) + 1e300 - 0x1F",
            "max_over_time(x[5m:30s])[1h:] # x[1e300]",
            r#"label_replace(x, "[1e300]", '\'[inf]', `\`, "")"#,
            "x{a=\"b\", offset=\"inf\"} @ 1e3 offset 1y2w",
            "avg by (job:x, _y) (offset)",
        ] {
            refused_at(query, None);
        }
    }

    #[test]
    fn size_and_depth_have_limits() {
        let too_complex = |query: String| {
            assert!(matches!(check(&query), Err(QueryError::TooComplex { .. })), "{query:.40}");
        };
        too_complex("(".repeat(BRACKETS_MAX + 1));
        too_complex("-".repeat(OPERATORS_MAX + 1));
        too_complex("x or ".repeat(OPERATORS_MAX + 1));
        too_complex(" ".repeat(BYTES_MAX + 1));
        assert_eq!(check(&"x >= ".repeat(OPERATORS_MAX)), Ok(()));
        assert_eq!(check(&format!("x{{{}}}", "a=\"b\",".repeat(OPERATORS_MAX + 1))), Ok(()));
    }
}
