//! The identity of a series.

/// The label under which the name of a metric is kept, as in the Prometheus data model.
pub const NAME_LABEL: &str = "__name__";

/// Labels of one series, sorted by name, each name once, no value empty.
///
/// The name of the metric is the label [`NAME_LABEL`]. As in the Prometheus data model, a label with
/// an empty value is the same as no label, so those are left out.
///
/// # Examples
/// ```
/// # use tripod_history::Labels;
/// let labels = Labels::new([("job", "api"), ("__name__", "up"), ("zone", "")]);
/// assert_eq!(labels.get("job"), Some("api"));
/// assert_eq!(labels.iter().count(), 2);
/// assert_eq!(labels.to_string(), r#"up{job="api"}"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Sorts labels by name; of several with one name the last stays.
    pub fn new<N: Into<Box<str>>, V: Into<Box<str>>>(
        labels: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let mut by_name = std::collections::BTreeMap::new();
        for (name, value) in labels {
            by_name.insert(name.into(), value.into());
        }
        Self(by_name.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    /// Returns the value of a label.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let place = self.0.binary_search_by(|(own, _)| (**own).cmp(name)).ok()?;
        Some(&self.0[place].1)
    }

    /// Returns the name of the metric, which may be absent from a computed series.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.get(NAME_LABEL)
    }

    /// Goes through names and values, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether there are no labels at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As PromQL writes it: `name{label="value"}`, values escaped.
impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name().unwrap_or_default())?;
        let mut open = false;
        for (name, value) in self.iter().filter(|(name, _)| *name != NAME_LABEL) {
            write!(f, "{}{name}={value:?}", if open { ',' } else { '{' })?;
            open = true;
        }
        if open || self.is_empty() { f.write_str(if open { "}" } else { "{}" }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_same_in_any_order_and_without_empty_ones() {
        let one = Labels::new([("a", "1"), ("b", "2"), ("c", "")]);
        assert_eq!(one, Labels::new([("b", "2"), ("a", "1")]));
        assert_ne!(Labels::new([("x", "ab"), ("y", "c")]), Labels::new([("x", "a"), ("y", "bc")]));
        assert_eq!(one.get("c"), None);
        assert_eq!(Labels::default().to_string(), "{}");
    }
}
