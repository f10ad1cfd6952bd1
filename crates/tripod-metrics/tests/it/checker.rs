//! A strict reader of the text exposition format.
//!
//! Scrapers are lenient and overlook, among others, duplicate series and histograms without a sum,
//! so the tests judge pages by this reader. It shares no code with the writer.

use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    NoFinalNewline,
    NoHelp,
    NoType,
    UnknownType,
    NoSamples,
    FamilyTwice,
    BadName,
    BadEscape,
    BadSyntax,
    BadNumber,
    LabelTwice,
    ReservedLabel,
    ForeignSample,
    SeriesTwice,
    NoSum,
    NoCount,
    NoInfinity,
    BoundsNotAscending,
    BucketsNotMonotone,
    InfinityIsNotCount,
}

/// One family as read back, escapes undone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) metric_type: String,
    pub(crate) samples: Vec<Sample>,
}

/// One line of numbers; the value stays text, so that no digit is lost.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: String,
}

impl Family {
    /// Returns the values of the samples called `name`, each with its label values.
    pub(crate) fn values(&self, name: &str) -> Vec<(Vec<&str>, &str)> {
        let labels = |sample: &'_ Sample| sample.labels.len();
        self.samples
            .iter()
            .filter(|sample| sample.name == name)
            .map(|sample| {
                let mut values = Vec::with_capacity(labels(sample));
                values.extend(sample.labels.iter().map(|(_, value)| value.as_str()));
                (values, sample.value.as_str())
            })
            .collect()
    }
}

/// Reads a page that must be right, and returns it without the collector's own family.
#[track_caller]
pub(crate) fn read(page: &str) -> Vec<Family> {
    let mut families = match check(page) {
        Ok(families) => families,
        Err((line, defect)) => panic!("{defect:?} near line {line} of:\n{page}"),
    };
    families.retain(|family| !family.name.starts_with("tripod_metrics_"));
    families
}

/// Reads a page, or says what is wrong with it and near which line, counted from 1.
pub(crate) fn check(page: &str) -> Result<Vec<Family>, (usize, Defect)> {
    let mut families: Vec<Family> = Vec::new();
    // Not `str::lines`, which would swallow a carriage return that belongs to a help text.
    let mut lines: Vec<&str> = page.split('\n').collect();
    if lines.pop() != Some("") {
        return Err((lines.len() + 1, Defect::NoFinalNewline));
    }
    let mut position = 0;
    while position < lines.len() {
        let at = |defect| move |()| (position + 1, defect);
        let header = family_header(&lines[position..]).map_err(|defect| (position + 1, defect))?;
        if families.iter().any(|family| family.name == header.name) {
            return Err(at(Defect::FamilyTwice)(()));
        }
        let mut family = header;
        position += 2;
        while let Some(line) = lines.get(position).filter(|line| !line.starts_with('#')) {
            let sample = sample(line).map_err(|defect| (position + 1, defect))?;
            family.samples.push(sample);
            position += 1;
        }
        check_family(&family).map_err(|defect| (position, defect))?;
        families.push(family);
    }
    Ok(families)
}

fn family_header(lines: &[&str]) -> Result<Family, Defect> {
    let help = lines[0].strip_prefix("# HELP ").ok_or(Defect::NoHelp)?;
    let (name, help) = help.split_once(' ').ok_or(Defect::NoHelp)?;
    let types = lines.get(1).and_then(|line| line.strip_prefix("# TYPE ")).ok_or(Defect::NoType)?;
    let (typed_name, metric_type) = types.split_once(' ').ok_or(Defect::NoType)?;
    if typed_name != name {
        return Err(Defect::NoType);
    }
    if !is_name(name) {
        return Err(Defect::BadName);
    }
    if !["counter", "gauge", "histogram"].contains(&metric_type) {
        return Err(Defect::UnknownType);
    }
    let (name, metric_type) = (name.to_owned(), metric_type.to_owned());
    Ok(Family { name, help: unescape(help, "\\n")?, metric_type, samples: Vec::new() })
}

fn sample(line: &str) -> Result<Sample, Defect> {
    let name_end = line.find(['{', ' ']).ok_or(Defect::BadSyntax)?;
    let (name, mut rest) = line.split_at(name_end);
    if !is_name(name) {
        return Err(Defect::BadName);
    }
    let mut labels: Vec<(String, String)> = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, tail) = rest.split_once("=\"").ok_or(Defect::BadSyntax)?;
            if !is_name(label) || label.starts_with("__") {
                return Err(Defect::BadName);
            }
            if labels.iter().any(|(name, _)| name == label) {
                return Err(Defect::LabelTwice);
            }
            let end = closing_quote(tail).ok_or(Defect::BadSyntax)?;
            labels.push((label.to_owned(), unescape(&tail[..end], "\\n\"")?));
            rest = &tail[end + 1..];
            if let Some(tail) = rest.strip_prefix('}') {
                rest = tail;
                break;
            }
            rest = rest.strip_prefix(',').ok_or(Defect::BadSyntax)?;
        }
    }
    let value = rest.strip_prefix(' ').ok_or(Defect::BadSyntax)?;
    float(value)?;
    Ok(Sample { name: name.to_owned(), labels, value: value.to_owned() })
}

fn check_family(family: &Family) -> Result<(), Defect> {
    if family.samples.is_empty() {
        return Err(Defect::NoSamples);
    }
    let mut seen = BTreeSet::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        labels.sort();
        if !seen.insert((&sample.name, labels)) {
            return Err(Defect::SeriesTwice);
        }
    }
    if family.metric_type == "histogram" {
        return check_histogram(family);
    }
    for sample in &family.samples {
        if sample.name != family.name {
            return Err(Defect::ForeignSample);
        }
        if sample.labels.iter().any(|(name, _)| name == "le" || name == "quantile") {
            return Err(Defect::ReservedLabel);
        }
        if family.metric_type == "counter" {
            whole(&sample.value)?;
        }
    }
    Ok(())
}

/// The lines of one series of a histogram.
#[derive(Default)]
struct Distribution<'a> {
    buckets: Vec<(f64, u64)>,
    sum: Option<&'a str>,
    count: Option<u64>,
}

fn check_histogram(family: &Family) -> Result<(), Defect> {
    let mut series: BTreeMap<Vec<&(String, String)>, Distribution<'_>> = BTreeMap::new();
    for sample in &family.samples {
        let bound = sample.labels.iter().find(|(name, _)| name == "le").map(|(_, value)| value);
        let mut key: Vec<_> = sample.labels.iter().filter(|(name, _)| name != "le").collect();
        key.sort();
        let lines = series.entry(key).or_default();
        let suffix = sample.name.strip_prefix(&family.name).ok_or(Defect::ForeignSample)?;
        match (suffix, bound) {
            ("_bucket", Some(bound)) => lines.buckets.push((float(bound)?, whole(&sample.value)?)),
            ("_sum", None) => lines.sum = Some(&sample.value),
            ("_count", None) => lines.count = Some(whole(&sample.value)?),
            ("_sum" | "_count", Some(_)) => return Err(Defect::ReservedLabel),
            _ => return Err(Defect::ForeignSample),
        }
    }
    series.values().try_for_each(check_distribution)
}

fn check_distribution(lines: &Distribution<'_>) -> Result<(), Defect> {
    let count = lines.count.ok_or(Defect::NoCount)?;
    lines.sum.ok_or(Defect::NoSum)?;
    if !lines.buckets.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(Defect::BoundsNotAscending);
    }
    if !lines.buckets.is_sorted_by_key(|bucket| bucket.1) {
        return Err(Defect::BucketsNotMonotone);
    }
    match lines.buckets.last() {
        Some((f64::INFINITY, total)) if *total == count => Ok(()),
        Some((f64::INFINITY, _)) => Err(Defect::InfinityIsNotCount),
        _ => Err(Defect::NoInfinity),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
}

/// Finds the first quote that no backslash stands before.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(index, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(index)
    })
}

/// Undoes escapes, of which only those in `allowed` exist. A bare quote cannot get here in a label.
fn unescape(text: &str, allowed: &str) -> Result<String, Defect> {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        plain.push(match c {
            '\\' => match rest.next().filter(|c| allowed.contains(*c)) {
                Some('n') => '\n',
                Some(escaped) => escaped,
                None => return Err(Defect::BadEscape),
            },
            c => c,
        });
    }
    Ok(plain)
}

fn whole(text: &str) -> Result<u64, Defect> {
    let number = text.parse::<u64>().map_err(|_| Defect::BadNumber)?;
    if number.to_string() == text { Ok(number) } else { Err(Defect::BadNumber) }
}

fn float(text: &str) -> Result<f64, Defect> {
    let special = ["NaN", "+Inf", "-Inf"].contains(&text);
    let plain = !text.is_empty() && text.chars().all(|c| "0123456789.-+e".contains(c));
    if !special && !plain {
        return Err(Defect::BadNumber);
    }
    text.parse().map_err(|_| Defect::BadNumber)
}
