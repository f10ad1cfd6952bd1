//! Labels as text, which is also the identity of a series.
//!
//! `a="1",b="2"`, values escaped, is written once when a series is made, copied to every page, and
//! compared in full when the series is looked up. Escaping is reversible and every value stands in
//! quotes, so two different lists of values never have the same text.

/// Appends `text` with a backslash before each backslash and quote, and line feeds as `\n`.
pub(crate) fn escape_value(out: &mut String, text: &str) {
    escape(out, text, |byte| matches!(byte, b'\\' | b'"' | b'\n'));
}

/// Appends a help text: in format 0.0.4 quotes stay as they are.
pub(crate) fn escape_help(out: &mut String, text: &str) {
    escape(out, text, |byte| matches!(byte, b'\\' | b'\n'));
}

fn escape(out: &mut String, text: &str, is_special: fn(u8) -> bool) {
    let mut rest = text;
    while let Some(position) = rest.bytes().position(is_special) {
        let (plain, tail) = rest.split_at(position);
        let (special, tail) = tail.split_at(1); // The special characters are ASCII.
        out.push_str(plain);
        out.push('\\');
        out.push_str(if special == "\n" { "n" } else { special });
        rest = tail;
    }
    out.push_str(rest);
}

/// Appends `name="value"`, after a comma if something is there already.
pub(crate) fn write_pair(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    escape_value(out, value);
    out.push('"');
}

/// Undoes [`write_pair`]: names and values of a text made by it.
pub(crate) fn parse_pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while let Some((name, quoted)) = rest.split_once("=\"") {
        let (value, tail) = unescape(quoted);
        pairs.push((name.to_owned(), value));
        rest = tail.strip_prefix(',').unwrap_or(tail);
    }
    pairs
}

/// Reads up to the closing quote; returns the value and what is behind the quote.
fn unescape(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[place + 1..]),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => break,
            },
            plain => value.push(plain),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_special_characters_are_escaped() {
        let mut text = String::new();
        escape_value(&mut text, "\n\"a\\n\"\r\té\0\\");
        assert_eq!(text, "\\n\\\"a\\\\n\\\"\r\té\0\\\\");
        text.clear();
        escape_help(&mut text, "\"a\\\n");
        assert_eq!(text, "\"a\\\\\\n");
    }

    #[test]
    fn pairs_come_back_as_they_were() {
        let sets: [&[(&str, &str)]; 4] = [
            &[],
            &[("a", "")],
            &[("a", "\",b=\""), ("b", "\\"), ("c", "\n=\"x\"")],
            &[("x", "é,漢"), ("y", "\\n")],
        ];
        for set in sets {
            let mut text = String::new();
            set.iter().for_each(|(name, value)| write_pair(&mut text, name, value));
            let owned: Vec<_> = set
                .iter()
                .map(|(name, value)| (String::from(*name), String::from(*value)))
                .collect();
            assert_eq!(parse_pairs(&text), owned, "{text}");
        }
    }
}
