//! Queries compared with a real Prometheus over the same samples.

pub(crate) mod client;
mod compare;
mod grammar;
pub(crate) mod memory;
pub(crate) mod prometheus;
pub(crate) mod random;
pub(crate) mod samples;

use tripod_history::promql::{Engine, QueryError, QueryValue};

use self::compare::{Tolerance, difference};
use self::grammar::{Grammar, Query};
use self::memory::Memory;
use self::prometheus::Prometheus;
use self::random::Random;

/// How many queries are compared.
const QUERIES: usize = 3000;

/// Of these, how many have to be answered at all, so that agreement is not agreement to fail.
const ANSWERED_MIN: usize = 2000;

/// What every value has to keep to.
const LOOSE: Tolerance = Tolerance { relative: 1e-9, absolute: 1e-12 };

/// What nearly every answer keeps to.
const STRICT: Tolerance = Tolerance { relative: 1e-12, absolute: 1e-14 };

/// How many answers may be within the loose tolerance only.
const ONLY_LOOSE_MAX: usize = QUERIES / 1000;

fn ask_ours(source: &Memory, query: &Query) -> Result<QueryValue, QueryError> {
    let engine = Engine::default();
    match *query {
        Query::Instant { ref text, time_ms } => engine.instant(source, text, time_ms),
        Query::Range { ref text, start_ms, end_ms, step_ms } => {
            engine.range(source, text, start_ms, end_ms, step_ms)
        }
    }
}

#[test]
fn answers_are_those_of_prometheus() {
    let seed = Random::seed_from_environment();
    eprintln!("seed: {seed} (set TRIPOD_SEED to repeat or to try another)");
    let Some(prometheus) = Prometheus::start() else { return };
    let series = samples::generate(&mut Random::new(seed));
    prometheus.write(&series);
    let source = Memory::new(series);

    let mut grammar = Grammar::new(Random::new(seed ^ 0x5eed));
    let (mut answered, mut filled, mut only_loose, mut differences) = (0, 0, 0, Vec::new());
    for number in 0..QUERIES {
        let query = grammar.query();
        let theirs = prometheus.ask(&query);
        let ours = ask_ours(&source, &query);
        answered += usize::from(theirs.is_ok());
        filled += usize::from(theirs.as_ref().is_ok_and(|answer| !answer.series.is_empty()));
        if let Some(difference) = difference(&query, &ours, &theirs, LOOSE) {
            differences.push(format!("#{number} {query:?}\n    {difference}"));
        } else if difference(&query, &ours, &theirs, STRICT).is_some() {
            only_loose += 1;
        }
    }
    eprintln!("{QUERIES} queries, {answered} answered, {filled} with series");
    eprintln!("{only_loose} beyond {STRICT:?}");
    let count = differences.len();
    differences.truncate(20);
    assert!(count == 0, "seed {seed}: {count} answers differ:\n{}", differences.join("\n"));
    assert!(answered >= ANSWERED_MIN, "only {answered} queries were answered");
    assert!(filled >= ANSWERED_MIN / 2, "only {filled} answers had series");
    assert!(only_loose <= ONLY_LOOSE_MAX, "{only_loose} answers are not within {STRICT:?}");
}
