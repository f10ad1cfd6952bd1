//! Which series are meant: conditions on labels.

use regex::Regex;

use crate::labels::Labels;

/// How a [`Matcher`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends.
    Regex,
    /// `!~`, anchored at both ends.
    NotRegex,
}

/// One condition on one label; an absent label has the value "".
///
/// # Examples
/// ```
/// # use tripod_history::{Labels, MatchOp, Matcher};
/// let fast = Matcher::new("path", MatchOp::Regex, "/api/.*")?;
/// assert!(fast.matches(&Labels::new([("path", "/api/x")])));
/// assert!(!fast.matches(&Labels::new([("path", "/x/api/x")])));
/// # Ok::<(), tripod_history::MatcherError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Matcher {
    name: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Equal(String),
    NotEqual(String),
    Regex(Regex),
    NotRegex(Regex),
}

/// Why a matcher was refused.
#[derive(Debug, Clone, thiserror::Error)]
#[error("label {name:?} is compared with {pattern:?}, which is no regular expression: {why}")]
pub struct MatcherError {
    /// The label.
    pub name: String,
    /// The pattern as given.
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
}

impl Matcher {
    /// Makes a condition on the label `name`.
    ///
    /// # Errors
    /// [`MatcherError`] if `value` is to be a regular expression and is none.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, MatcherError> {
        let regex = || {
            Regex::new(&format!("^(?s:{value})$")).map_err(|error| MatcherError {
                name: name.to_owned(),
                pattern: value.to_owned(),
                why: error.to_string(),
            })
        };
        let test = match op {
            MatchOp::Equal => Test::Equal(value.to_owned()),
            MatchOp::NotEqual => Test::NotEqual(value.to_owned()),
            MatchOp::Regex => Test::Regex(regex()?),
            MatchOp::NotRegex => Test::NotRegex(regex()?),
        };
        Ok(Self { name: name.to_owned(), test })
    }

    /// The label that is compared.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value that the label has to have, for a matcher with [`MatchOp::Equal`].
    #[must_use]
    pub fn equal_value(&self) -> Option<&str> {
        match &self.test {
            Test::Equal(value) => Some(value),
            _ => None,
        }
    }

    /// Whether a value fulfils the condition; "" stands for an absent label.
    #[must_use]
    pub fn matches_value(&self, value: &str) -> bool {
        match &self.test {
            Test::Equal(wanted) => wanted == value,
            Test::NotEqual(unwanted) => unwanted != value,
            Test::Regex(regex) => regex.is_match(value),
            Test::NotRegex(regex) => !regex.is_match(value),
        }
    }

    /// Whether a series fulfils the condition.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.get(&self.name).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(op: MatchOp, pattern: &str, value: &str, expected: bool) {
        let matcher = Matcher::new("x", op, pattern).expect("a good pattern");
        assert_eq!(
            matcher.matches(&Labels::new([("x", value)])),
            expected,
            "{matcher:?} {value:?}"
        );
    }

    #[test]
    fn patterns_are_anchored_and_an_absent_label_is_empty() {
        check(MatchOp::Regex, "a|b", "b", true);
        check(MatchOp::Regex, "a|b", "ab", false);
        check(MatchOp::Regex, "a.c", "a\nc", true);
        check(MatchOp::NotRegex, "a|b", "ab", true);
        check(MatchOp::Equal, "", "", true);
        check(MatchOp::Regex, ".+", "", false);
        check(MatchOp::NotEqual, "a", "", true);
    }

    #[test]
    fn a_bad_pattern_is_an_error_that_shows_it() {
        let error = Matcher::new("x", MatchOp::Regex, "(").expect_err("no expression");
        assert!(error.to_string().contains("\"(\""), "{error}");
    }
}
