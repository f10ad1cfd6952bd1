//! A strict reader of the text formats: Prometheus 0.0.4 and OpenMetrics 1.0.
//!
//! Scrapers are lenient and overlook, among others, duplicate series and histograms without a sum,
//! so the tests judge pages by this reader. It shares no code with the writer. Where the formats
//! leave a choice, it wants what this crate writes: a header for every family, numbers in their
//! shortest form.

use std::collections::BTreeSet;

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
    NegativeCount,
    NoEof,
    BadUnit,
    NotCanonical,
    BadExemplar,
    BadQuantile,
    NamesClash,
    SeriesSplit,
}

/// Which of the two formats a page is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Text,
    OpenMetrics,
}

/// One family as read back, escapes undone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) metric_type: String,
    pub(crate) unit: Option<String>,
    pub(crate) samples: Vec<Sample>,
}

/// One line of numbers; the value stays text, so that no digit is lost.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: String,
    pub(crate) exemplar: Option<Exemplar>,
}

/// What stands behind a value in OpenMetrics.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: String,
    pub(crate) time: String,
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
    read_as(Dialect::Text, page)
}

/// As [`read`], for an OpenMetrics page.
#[track_caller]
pub(crate) fn read_openmetrics(page: &str) -> Vec<Family> {
    read_as(Dialect::OpenMetrics, page)
}

#[track_caller]
fn read_as(dialect: Dialect, page: &str) -> Vec<Family> {
    let mut families = match check_as(dialect, page) {
        Ok(families) => families,
        Err((line, defect)) => panic!("{defect:?} near line {line} of:\n{page}"),
    };
    families.retain(|family| !family.name.starts_with("tripod_metrics_"));
    families
}

/// Reads a page, or says what is wrong with it and near which line, counted from 1.
pub(crate) fn check(page: &str) -> Result<Vec<Family>, (usize, Defect)> {
    check_as(Dialect::Text, page)
}

/// As [`check`], in either format.
pub(crate) fn check_as(dialect: Dialect, page: &str) -> Result<Vec<Family>, (usize, Defect)> {
    let mut families: Vec<Family> = Vec::new();
    let mut names = BTreeSet::new();
    // Not `str::lines`, which would swallow a carriage return that belongs to a help text.
    let mut lines: Vec<&str> = page.split('\n').collect();
    if lines.pop() != Some("") {
        return Err((lines.len() + 1, Defect::NoFinalNewline));
    }
    if dialect == Dialect::OpenMetrics && lines.pop() != Some("# EOF") {
        return Err((lines.len() + 1, Defect::NoEof));
    }
    let mut position = 0;
    while position < lines.len() {
        let here = |defect| (position + 1, defect);
        let (mut family, header_lines) = header(dialect, &lines[position..]).map_err(here)?;
        if families.iter().any(|other| other.name == family.name) {
            return Err(here(Defect::FamilyTwice));
        }
        if !line_names(&family).all(|name| names.insert(name)) {
            return Err(here(Defect::NamesClash));
        }
        position += header_lines;
        while let Some(line) = lines.get(position).filter(|line| !line.starts_with('#')) {
            let sample = sample(dialect, line).map_err(|defect| (position + 1, defect))?;
            family.samples.push(sample);
            position += 1;
        }
        check_family(dialect, &family).map_err(|defect| (position, defect))?;
        families.push(family);
    }
    Ok(families)
}

/// Reads the lines before the samples of a family; returns how many they are.
fn header(dialect: Dialect, lines: &[&str]) -> Result<(Family, usize), Defect> {
    let (help_at, type_at) = match dialect {
        Dialect::Text => (0, 1),
        Dialect::OpenMetrics => (1, 0),
    };
    let line = |at: usize, word| lines.get(at).and_then(|line| line.strip_prefix(word));
    let unit = match dialect {
        Dialect::Text => None,
        Dialect::OpenMetrics => line(1, "# UNIT "),
    };
    let help_at = help_at + usize::from(unit.is_some());
    let help_missing =
        if type_at == 0 && line(0, "# TYPE ").is_none() { Defect::NoType } else { Defect::NoHelp };
    let help = line(help_at, "# HELP ").ok_or(help_missing)?;
    let (name, help) = help.split_once(' ').ok_or(Defect::NoHelp)?;
    let types = line(type_at, "# TYPE ").ok_or(Defect::NoType)?;
    let (typed_name, metric_type) = types.split_once(' ').ok_or(Defect::NoType)?;
    if typed_name != name {
        return Err(Defect::NoType);
    }
    if !is_name(name) {
        return Err(Defect::BadName);
    }
    if !["counter", "gauge", "histogram", "summary"].contains(&metric_type) {
        return Err(Defect::UnknownType);
    }
    let unit = unit.map(|unit| checked_unit(name, unit)).transpose()?;
    let help = match dialect {
        Dialect::Text => unescape(help, "\\n")?,
        Dialect::OpenMetrics if has_bare_quote(help) => return Err(Defect::BadEscape),
        Dialect::OpenMetrics => unescape(help, "\\n\"")?,
    };
    let header_lines = 2 + usize::from(unit.is_some());
    let (name, metric_type) = (name.to_owned(), metric_type.to_owned());
    Ok((Family { name, help, metric_type, unit, samples: Vec::new() }, header_lines))
}

fn checked_unit(name: &str, unit: &str) -> Result<String, Defect> {
    let own = unit.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
    let own = own.filter(|own| is_name(own) && name.ends_with(&format!("_{own}")));
    own.map(str::to_owned).ok_or(Defect::BadUnit)
}

fn has_bare_quote(text: &str) -> bool {
    closing_quote(text).is_some()
}

/// All names that samples of the family may have in OpenMetrics, and its own.
fn line_names(family: &Family) -> impl Iterator<Item = String> {
    let suffixes: &[&str] = match family.metric_type.as_str() {
        "counter" => &["", "_total", "_created"],
        "histogram" => &["", "_bucket", "_sum", "_count", "_created"],
        "summary" => &["", "_sum", "_count", "_created"],
        _ => &[""],
    };
    suffixes.iter().map(|suffix| format!("{}{suffix}", family.name))
}

fn sample(dialect: Dialect, line: &str) -> Result<Sample, Defect> {
    let name_end = line.find(['{', ' ']).ok_or(Defect::BadSyntax)?;
    let (name, rest) = line.split_at(name_end);
    if !is_name(name) {
        return Err(Defect::BadName);
    }
    let (labels, rest) = if rest.starts_with('{') { labels(rest)? } else { (Vec::new(), rest) };
    let value = rest.strip_prefix(' ').ok_or(Defect::BadSyntax)?;
    let (value, exemplar) = match (dialect, value.split_once(" # ")) {
        (Dialect::OpenMetrics, Some((value, exemplar))) => (value, Some(self::exemplar(exemplar)?)),
        _ => (value, None),
    };
    float(value)?;
    Ok(Sample { name: name.to_owned(), labels, value: value.to_owned(), exemplar })
}

type Labels = Vec<(String, String)>;

/// Reads `{name="value",..}`; returns what is behind it.
fn labels(text: &str) -> Result<(Labels, &str), Defect> {
    let mut labels = Labels::new();
    let mut rest = text.strip_prefix('{').ok_or(Defect::BadSyntax)?;
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
            return Ok((labels, tail));
        }
        rest = rest.strip_prefix(',').ok_or(Defect::BadSyntax)?;
    }
}

fn exemplar(text: &str) -> Result<Exemplar, Defect> {
    let (labels, rest) = match text.strip_prefix("{}") {
        Some(rest) => (Labels::new(), rest),
        None => labels(text)?,
    };
    let numbers = rest.strip_prefix(' ').and_then(|numbers| numbers.split_once(' '));
    let (value, time) = numbers.ok_or(Defect::BadExemplar)?;
    let characters: usize = labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
    if characters > 128 || !float(time)?.is_finite() {
        return Err(Defect::BadExemplar);
    }
    float(value)?;
    Ok(Exemplar { labels, value: value.to_owned(), time: time.to_owned() })
}

fn check_family(dialect: Dialect, family: &Family) -> Result<(), Defect> {
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
    let series = series(dialect, family)?;
    let check = match family.metric_type.as_str() {
        "counter" => check_counter,
        "histogram" => check_distribution,
        "summary" => check_summary,
        _ => check_gauge,
    };
    series.iter().try_for_each(|(_, lines)| check(dialect, lines))
}

/// The lines of one series.
#[derive(Debug, Default)]
struct Lines<'a> {
    /// Those of the family's own name, or that of a counter; with `quantile` for a summary.
    plain: Vec<(Option<&'a str>, &'a Sample)>,
    /// By the text of the bound.
    buckets: Vec<(&'a str, &'a Sample)>,
    sum: Option<&'a str>,
    count: Option<&'a str>,
    created: Option<&'a str>,
}

/// Labels but `le` and `quantile`, sorted, and the lines that have them.
type Series<'a> = (Vec<&'a (String, String)>, Lines<'a>);

/// Puts together the lines of each series, which have to stand together.
fn series<'a>(dialect: Dialect, family: &'a Family) -> Result<Vec<Series<'a>>, Defect> {
    let mut series: Vec<Series<'_>> = Vec::new();
    let mut seen = BTreeSet::new();
    for sample in &family.samples {
        let special = |name: &str| {
            sample.labels.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
        };
        let is_special = |name: &str| name == "le" || name == "quantile";
        let mut key: Vec<_> = sample.labels.iter().filter(|(name, _)| !is_special(name)).collect();
        key.sort();
        if series.last().is_none_or(|(last, _)| *last != key) {
            if !seen.insert(key.clone()) {
                return Err(Defect::SeriesSplit);
            }
            series.push((key, Lines::default()));
        }
        let Some((_, lines)) = series.last_mut() else { unreachable!("one was pushed") };
        add_line(dialect, family, lines, sample, special("le"), special("quantile"))?;
    }
    Ok(series)
}

fn add_line<'a>(
    dialect: Dialect,
    family: &Family,
    lines: &mut Lines<'a>,
    sample: &'a Sample,
    bound: Option<&'a str>,
    quantile: Option<&'a str>,
) -> Result<(), Defect> {
    let suffix = sample.name.strip_prefix(&family.name).ok_or(Defect::ForeignSample)?;
    let is_openmetrics = dialect == Dialect::OpenMetrics;
    let metric_type = family.metric_type.as_str();
    let has_sum = matches!(metric_type, "histogram" | "summary");
    let value = sample.value.as_str();
    let takes_exemplar =
        matches!((metric_type, suffix), ("counter", "_total") | ("histogram", "_bucket"));
    if sample.exemplar.is_some() && !takes_exemplar {
        return Err(Defect::BadExemplar);
    }
    match (metric_type, suffix, bound, quantile) {
        ("histogram", "_bucket", Some(bound), None) => lines.buckets.push((bound, sample)),
        ("summary", "", None, Some(_)) => lines.plain.push((quantile, sample)),
        ("histogram", "_bucket", None, _) => return Err(Defect::ForeignSample),
        (_, _, None, None) => match (metric_type, suffix) {
            ("counter", "_total") if is_openmetrics => lines.plain.push((None, sample)),
            ("counter", "") if !is_openmetrics => lines.plain.push((None, sample)),
            ("gauge", "") => lines.plain.push((None, sample)),
            (_, "_sum") if has_sum => lines.sum = Some(value),
            (_, "_count") if has_sum => lines.count = Some(value),
            (_, "_created") if is_openmetrics && metric_type != "gauge" => {
                lines.created = Some(value);
            }
            _ => return Err(Defect::ForeignSample),
        },
        _ => return Err(Defect::ReservedLabel),
    }
    Ok(())
}

fn check_gauge(_: Dialect, lines: &Lines<'_>) -> Result<(), Defect> {
    if lines.plain.len() == 1 { Ok(()) } else { Err(Defect::ForeignSample) }
}

fn check_counter(dialect: Dialect, lines: &Lines<'_>) -> Result<(), Defect> {
    let [(_, sample)] = lines.plain[..] else { return Err(Defect::ForeignSample) };
    total(&sample.value)?;
    check_created(dialect, lines)
}

fn check_created(dialect: Dialect, lines: &Lines<'_>) -> Result<(), Defect> {
    match (dialect, lines.created) {
        (Dialect::Text, None) => Ok(()),
        (Dialect::OpenMetrics, Some(created)) if float(created)? >= 0.0 => Ok(()),
        _ => Err(Defect::BadNumber),
    }
}

fn check_summary(dialect: Dialect, lines: &Lines<'_>) -> Result<(), Defect> {
    whole(lines.count.ok_or(Defect::NoCount)?)?;
    let mut last = -1.0;
    for (quantile, sample) in &lines.plain {
        let text = quantile.unwrap_or_default();
        let (quantile, value) = (float(text)?, float(&sample.value)?);
        if !(0.0..=1.0).contains(&quantile) || quantile <= last {
            return Err(Defect::BadQuantile);
        }
        if dialect == Dialect::OpenMetrics {
            check_canonical(text)?;
            if value < 0.0 {
                return Err(Defect::NegativeCount);
            }
        }
        last = quantile;
    }
    match (dialect, lines.sum) {
        (Dialect::Text, None) => return Err(Defect::NoSum),
        (Dialect::OpenMetrics, Some(sum)) if !is_positive(float(sum)?) => {
            return Err(Defect::NegativeCount);
        }
        _ => {}
    }
    check_created(dialect, lines)
}

/// NaN is not.
fn is_positive(number: f64) -> bool {
    number >= 0.0
}

fn check_distribution(dialect: Dialect, lines: &Lines<'_>) -> Result<(), Defect> {
    let mut buckets = Vec::new();
    for (text, sample) in &lines.buckets {
        buckets.push((float(text)?, whole(&sample.value)?));
        if dialect == Dialect::OpenMetrics {
            check_canonical(text)?;
        }
    }
    let is_at_zero = |bucket: &(f64, u64)| bucket.0 < 0.0 || bucket.1 > 0;
    let sum_may_fall = buckets.first().is_some_and(is_at_zero);
    match (dialect, lines.sum, lines.count) {
        (Dialect::OpenMetrics, None, None) if sum_may_fall => {}
        (_, _, None) => return Err(Defect::NoCount),
        (_, None, _) => return Err(Defect::NoSum),
        (Dialect::OpenMetrics, Some(sum), _)
            if !is_positive(float(sum)?) || buckets.first().is_some_and(|(b, _)| *b < 0.0) =>
        {
            return Err(Defect::NegativeCount);
        }
        _ => {}
    }
    if !buckets.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(Defect::BoundsNotAscending);
    }
    if !buckets.is_sorted_by_key(|bucket| bucket.1) {
        return Err(Defect::BucketsNotMonotone);
    }
    check_bucket_exemplars(&buckets, lines)?;
    let Some((f64::INFINITY, in_last)) = buckets.last() else { return Err(Defect::NoInfinity) };
    match lines.count {
        Some(count) if whole(count)? != *in_last => Err(Defect::InfinityIsNotCount),
        _ => check_created(dialect, lines),
    }
}

/// An exemplar stands in the bucket of its value.
fn check_bucket_exemplars(buckets: &[(f64, u64)], lines: &Lines<'_>) -> Result<(), Defect> {
    let mut below = f64::NEG_INFINITY;
    for ((_, sample), (bound, _)) in lines.buckets.iter().zip(buckets) {
        if let Some(exemplar) = &sample.exemplar {
            let value = float(&exemplar.value)?;
            if value > *bound || value <= below && below > f64::NEG_INFINITY {
                return Err(Defect::BadExemplar);
            }
        }
        below = *bound;
    }
    Ok(())
}

/// Bounds and quantiles are written as the `%g` of C and Go does, and have a point or an exponent.
fn check_canonical(text: &str) -> Result<(), Defect> {
    let number = float(text)?;
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let expected = if number.is_infinite() {
        String::from(if number > 0.0 { "+Inf" } else { "-Inf" })
    } else if (-4..6).contains(&exponent) {
        format!("{number:?}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.abs())
    };
    if text == expected { Ok(()) } else { Err(Defect::NotCanonical) }
}

/// The value of a counter: a whole number to its last digit, or a fraction in its shortest form.
fn total(text: &str) -> Result<f64, Defect> {
    if let Ok(number) = whole(text) {
        return Ok(number as f64);
    }
    let number = float(text)?;
    if number < 0.0 {
        return Err(Defect::NegativeCount);
    }
    let is_fraction = number.trunc() != number || text.contains('e') || number.is_infinite();
    if is_fraction && !number.is_nan() { Ok(number) } else { Err(Defect::BadNumber) }
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
