//! The judgement of PyPI's `prometheus_client`, whose OpenMetrics parser is the strictest there is.
//!
//! It runs in a Python process that takes pages and answers with what it read, line by line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use proptest::prelude::*;
use tripod_metrics::MetricsCollector;

use crate::checker;

const PROGRAM: &str = r"
import io, sys
from prometheus_client.openmetrics.parser import text_fd_to_metric_families

def coded(text):
    return text.encode('utf-8').hex()

def coded_labels(labels):
    return ','.join(coded(name) + '=' + coded(value) for name, value in labels.items())

print('ready', flush=True)
for size in iter(sys.stdin.buffer.readline, b''):
    page = sys.stdin.buffer.read(int(size)).decode('utf-8')
    lines = []
    try:
        for family in text_fd_to_metric_families(io.StringIO(page, newline='\n')):
            head = (family.name, family.type, coded(family.unit), coded(family.documentation))
            lines.append('family\t%s\t%s\t%s\t%s' % head)
            for sample in family.samples:
                lines.append('sample\t%s\t%s\t%r' % (sample.name, coded_labels(sample.labels), sample.value))
                if sample.exemplar:
                    lines.append('exemplar\t%s\t%r' % (coded_labels(sample.exemplar.labels), sample.exemplar.value))
        lines.append('end')
    except Exception as error:
        lines.append('refused\t%s' % coded(repr(error)))
    print('\n'.join(lines), flush=True)
";

/// One family as Python read it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) metric_type: String,
    pub(crate) unit: String,
    pub(crate) help: String,
    pub(crate) samples: Vec<Sample>,
}

/// One line of numbers. Whole numbers are to the last digit, floats as Python writes them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: String,
    pub(crate) exemplar: Option<(BTreeMap<String, String>, String)>,
}

/// A running parser.
pub(crate) struct StrictParser {
    child: Child,
    pages: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl StrictParser {
    /// Starts it; `None` if Python or the package is not installed, which is an error under `CI`.
    pub(crate) fn start() -> Option<Self> {
        let command = Command::new("python3")
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let started = command.ok().and_then(|mut child| {
            let pages = child.stdin.take();
            let answers = BufReader::new(child.stdout.take()?);
            let mut parser = Self { child, pages, answers };
            (parser.line() == "ready").then_some(parser)
        });
        if started.is_none() {
            assert!(std::env::var_os("CI").is_none(), "prometheus_client is missing (CI is set)");
            eprintln!("skipped: python3 with prometheus_client is not installed");
        }
        started
    }

    /// Reads a page, or says why it is refused.
    pub(crate) fn parse(&mut self, page: &str) -> Result<Vec<Family>, String> {
        let pages = self.pages.as_mut().expect("it is taken at the end only");
        write!(pages, "{}\n{page}", page.len()).and_then(|()| pages.flush()).expect("it reads");
        let mut families: Vec<Family> = Vec::new();
        loop {
            let line = self.line();
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                ["end"] => return Ok(families),
                ["refused", reason] => return Err(decoded(reason)),
                ["family", name, metric_type, unit, help] => families.push(Family {
                    name: name.to_owned(),
                    metric_type: metric_type.to_owned(),
                    unit: decoded(unit),
                    help: decoded(help),
                    samples: Vec::new(),
                }),
                ["sample", name, labels, value] => {
                    let family = families.last_mut().expect("samples come behind their family");
                    family.samples.push(Sample {
                        name: name.to_owned(),
                        labels: decoded_labels(labels),
                        value: value.to_owned(),
                        exemplar: None,
                    });
                }
                ["exemplar", labels, value] => {
                    let samples = families.last_mut().map(|family| &mut family.samples);
                    let sample = samples.and_then(|samples| samples.last_mut()).expect("a sample");
                    sample.exemplar = Some((decoded_labels(labels), value.to_owned()));
                }
                _ => panic!("unknown answer {line:?}"),
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        assert!(read.is_ok(), "{read:?}");
        line.trim_end_matches('\n').to_owned()
    }
}

impl Drop for StrictParser {
    fn drop(&mut self) {
        drop(self.pages.take());
        let _rest = self.answers.read_to_end(&mut Vec::new());
        let _status = self.child.wait();
    }
}

fn decoded(hex: &str) -> String {
    let digits: Vec<u8> =
        hex.chars().map(|digit| digit.to_digit(16).expect("a hex digit") as u8).collect();
    let bytes = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    String::from_utf8(bytes).expect("it was UTF-8")
}

fn decoded_labels(labels: &str) -> BTreeMap<String, String> {
    let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// Both numbers are the same: whole ones to the last digit, floats to the last bit.
fn is_same(ours: &str, theirs: &str) -> bool {
    let float = |text: &str| text.replace("+Inf", "inf").parse::<f64>();
    match (ours.parse::<u64>(), theirs.parse::<u64>()) {
        (Ok(ours), Ok(theirs)) => ours == theirs,
        _ => match (float(ours), float(theirs)) {
            (Ok(ours), Ok(theirs)) => ours == theirs || ours.is_nan() && theirs.is_nan(),
            _ => false,
        },
    }
}

/// Panics unless both parsers accept the page and read the same from it; returns the families without
/// the collector's own.
#[track_caller]
pub(crate) fn agree(parser: &mut StrictParser, page: &str) -> Vec<checker::Family> {
    let ours = match checker::check_as(checker::Dialect::OpenMetrics, page) {
        Ok(families) => families,
        Err((line, defect)) => panic!("{defect:?} near line {line} of:\n{page}"),
    };
    let theirs = match parser.parse(page) {
        Ok(families) => families,
        Err(reason) => panic!("{reason} in:\n{page}"),
    };
    assert_eq!(ours.len(), theirs.len(), "{page}");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        // It takes a blank at the start of a help text for one of those between the words before.
        let help = ours.help.trim_start_matches(' ');
        assert_eq!((&*ours.name, help), (&*theirs.name, theirs.help.trim_start_matches(' ')));
        assert_eq!(ours.metric_type, theirs.metric_type);
        assert_eq!(ours.unit.as_deref().unwrap_or(""), theirs.unit);
        assert_eq!(ours.samples.len(), theirs.samples.len(), "{page}");
        for (ours, theirs) in ours.samples.iter().zip(&theirs.samples) {
            let labels: BTreeMap<_, _> = ours.labels.iter().cloned().collect();
            assert_eq!((&ours.name, labels), (&theirs.name, theirs.labels.clone()));
            assert!(is_same(&ours.value, &theirs.value), "{ours:?} {theirs:?}");
            match (&ours.exemplar, &theirs.exemplar) {
                (None, None) => {}
                (Some(ours), Some((labels, value))) => {
                    assert_eq!(&ours.labels.iter().cloned().collect::<BTreeMap<_, _>>(), labels);
                    assert!(is_same(&ours.value, value), "{ours:?} {value:?}");
                }
                differing => panic!("{differing:?}"),
            }
        }
    }
    ours.into_iter().filter(|family| !family.name.starts_with("tripod_metrics_")).collect()
}

#[test]
fn the_strict_parser_would_have_found_something() {
    let Some(mut parser) = StrictParser::start() else { return };
    let good = "# TYPE a counter\n# HELP a A.\na_total 1\n# EOF\n";
    assert_eq!(parser.parse(good).unwrap().len(), 1);
    for bad in [
        good.replace("# EOF\n", ""),
        good.replace("a_total 1", "a_total -1"),
        good.replace("a_total 1", "a_total NaN"),
        good.replace("a_total 1", "a_total{x=\"\\q} 1"),
        good.replace("a_total 1", "a_total 1\na_total"),
        good.replace("counter", "untyped"),
    ] {
        assert!(parser.parse(&bad).is_err(), "{bad}");
    }
}

/// What the collector of a property has.
#[derive(Debug, Clone)]
struct Content {
    help: String,
    labels: Vec<String>,
    counters: Vec<u64>,
    values: Vec<f64>,
    bounds: Vec<f64>,
}

fn content() -> impl Strategy<Value = Content> {
    let special = prop::sample::select(vec!['\\', '"', '\n', 'n', '\r', ' ', '{', '}', ',', '#']);
    let text = || {
        let character = prop_oneof![special.clone(), any::<char>()];
        prop::collection::vec(character, 0..10).prop_map(String::from_iter)
    };
    let number = || {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            -100.0..100.0_f64,
            prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e16, 1e6]),
        ]
    };
    let help = text().prop_filter("blank help is refused", |help| !help.trim().is_empty());
    let labels = prop::collection::vec(text(), 1..4);
    let counters = prop::collection::vec(any::<u64>(), 3);
    let values = prop::collection::vec(number(), 0..12);
    let bounds = prop::collection::vec(number(), 0..6);
    (help, labels, counters, values, bounds).prop_map(|(help, labels, counters, values, bounds)| {
        Content { help, labels, counters, values, bounds }
    })
}

/// Records the content in every type, a series for each label.
fn record(content: &Content) -> MetricsCollector {
    let Content { help, labels, counters, values, bounds } = content;
    let metrics = MetricsCollector::new();
    let mut bounds = bounds.clone();
    bounds.retain(|bound| bound.is_finite());
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    bounds.push(f64::MAX);
    bounds.dedup();
    let jobs = metrics.counter("a_total", help).labels(["x"]).register().unwrap();
    let work = metrics.float_counter("b_total", help).labels(["x"]).register().unwrap();
    let levels = metrics.gauge("c", help).labels(["x"]).register().unwrap();
    let sizes = metrics.histogram("d_bytes", help).labels(["x"]).unit("bytes").buckets(bounds);
    let sizes = sizes.register().unwrap();
    let waits = metrics.histogram("e", help).labels(["x"]).exponential(2).register().unwrap();
    let ages = metrics.summary("f", help).labels(["x"]).register().unwrap();
    for (place, label) in labels.iter().enumerate() {
        jobs.add(&[label], counters[place]).unwrap();
        drop(ages.with(&[label]).unwrap());
        for value in values {
            work.add(&[label], *value).unwrap();
            levels.set(&[label], *value).unwrap();
            sizes.observe(&[label], *value).unwrap();
            waits.observe(&[label], *value).unwrap();
            ages.observe(&[label], *value).unwrap();
        }
    }
    metrics
}

/// The total that a counter should show for each label.
fn totals(content: &Content) -> BTreeMap<&str, u64> {
    let mut totals = BTreeMap::new();
    for (label, count) in content.labels.iter().zip(&content.counters) {
        let total: &mut u64 = totals.entry(label.as_str()).or_default();
        *total = total.wrapping_add(*count);
    }
    totals
}

#[test]
fn the_strict_parser_reads_what_was_recorded() {
    let Some(parser) = StrictParser::start() else { return };
    let parser = std::cell::RefCell::new(parser);
    proptest!(ProptestConfig::with_cases(200), |(content in content())| {
        let metrics = record(&content);
        let families = agree(&mut parser.borrow_mut(), &metrics.encode_openmetrics());
        for family in &families {
            prop_assert_eq!(&family.help, &content.help);
        }
        let found = families.iter().find(|family| family.name == "a");
        let found: BTreeMap<&str, u64> = found
            .into_iter()
            .flat_map(|family| family.values("a_total"))
            .map(|(labels, value)| (labels[0], value.parse().unwrap()))
            .collect();
        prop_assert_eq!(found, totals(&content));
        // The same in the other format.
        checker::read(&metrics.encode_text());
    });
}
