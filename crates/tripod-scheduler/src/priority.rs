//! The five priorities of a task.

use std::fmt;
use std::str::FromStr;

/// Says how urgent a task is; a higher priority always starts first.
///
/// Ordered from [`Low`](Self::Low) to [`Emergency`](Self::Emergency). The default is
/// [`Normal`](Self::Normal). As text (`Display`, `FromStr`, metric labels) a priority is its name
/// in lower case.
///
/// # Examples
/// ```
/// use tripod_scheduler::Priority;
///
/// assert!(Priority::Emergency > Priority::Low);
/// assert_eq!("high".parse(), Ok(Priority::High));
/// assert_eq!(Priority::default().to_string(), "normal");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Work that may wait as long as there is anything else to do.
    Low,
    /// Ordinary work; the default.
    #[default]
    Normal,
    /// Work somebody waits for.
    High,
    /// Work the service depends on.
    Critical,
    /// Work that must start before everything else.
    Emergency,
}

impl Priority {
    /// Lists every priority, lowest first.
    pub const ALL: [Self; 5] =
        [Self::Low, Self::Normal, Self::High, Self::Critical, Self::Emergency];

    /// How many priorities there are.
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// Returns the name in lower case, as in text and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
            Self::Emergency => "emergency",
        }
    }

    /// The place of this priority in [`ALL`](Self::ALL).
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = ParsePriorityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|priority| priority.as_str() == text)
            .ok_or_else(|| ParsePriorityError { text: text.to_owned() })
    }
}

/// Says that a text names no [`Priority`], and which texts do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no priority (one of: low, normal, high, critical, emergency)")]
pub struct ParsePriorityError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_priority_survives_its_text_and_stands_at_its_index() {
        for (index, priority) in Priority::ALL.into_iter().enumerate() {
            assert_eq!(priority.to_string().parse(), Ok(priority));
            assert_eq!(priority.index(), index);
        }
        assert!(Priority::ALL.is_sorted());
    }

    #[test]
    fn a_wrong_name_is_answered_with_every_right_one() {
        let message = "High".parse::<Priority>().unwrap_err().to_string();
        for priority in Priority::ALL {
            assert!(message.contains(priority.as_str()), "{priority} is missing in: {message}");
        }
        assert!(message.contains("\"High\""));
    }
}
