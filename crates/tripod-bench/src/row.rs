//! One row of the comparison: an operation, its contenders, and the bars that hold for it.

use std::fmt::Write as _;
use std::time::Duration;

use crate::bar::Bar;
use crate::burst::Burst;
use crate::contender::{Contender, Sample, Side};
use crate::error::BenchError;
use crate::report::{self, note};
use crate::series::{Series, alternate};

/// The most operations of a burst: what costs nothing must end too.
const OPERATIONS_MAX: u64 = 60_000_000;

/// How much is measured of each contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) rounds: u32,
    /// Processor time of each thread of a burst.
    pub(crate) burst: Duration,
}

/// An operation and the ways to do it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) title: &'static str,
    /// How many threads there are at the same moment; ascending.
    pub(crate) threads: &'static [usize],
    pub(crate) contenders: Vec<Contender>,
    pub(crate) unit: Unit,
    pub(crate) limits: Vec<Limit>,
}

/// What is counted, and how much of it makes a burst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Unit {
    pub(crate) name: &'static str,
    /// What one of them has of an operation's nanoseconds.
    pub(crate) ns: f64,
    /// The least operations of a burst; as many tell how many fill the time of a burst.
    pub(crate) operations_min: u64,
    /// Operations before the clock starts.
    pub(crate) warm_up: u64,
}

impl Unit {
    /// Nanoseconds of processor time, of an operation that takes few of them.
    pub(crate) const CPU_NANOS: Self =
        Self { name: "ns of CPU time", ns: 1.0, operations_min: 4_000, warm_up: 1_000 };

    fn burst(&self, threads: usize, operations: u64) -> Burst {
        Burst { threads, operations, warm_up: self.warm_up }
    }
}

/// What Tripod's median is held to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// The figure itself, in the unit of the row.
    Figure { threads: usize, at_most: f64 },
    /// A multiple of the smallest median of the opponents.
    OfBest { threads: usize, at_most: f64 },
    /// The same, where figures double and halve from one moment to the next, as between threads: the
    /// median of the ratios of each round, to the opponent to which it is the worst.
    OfBestByRound { threads: usize, at_most: f64 },
    /// A multiple of the smallest median of the opponents that are named.
    OfBestAmong { threads: usize, at_most: f64, names: &'static [&'static str] },
}

impl Limit {
    fn threads(self) -> usize {
        let (Self::Figure { threads, .. }
        | Self::OfBest { threads, .. }
        | Self::OfBestByRound { threads, .. }
        | Self::OfBestAmong { threads, .. }) = self;
        threads
    }
}

/// The samples of one contender with so many threads.
type Taken = Vec<Vec<Sample>>;

impl Row {
    /// Leaves out what takes more threads, and the limits on it.
    pub(crate) fn threads_max(&mut self, most: usize) {
        let end = self.threads.partition_point(|threads| *threads <= most);
        self.threads = &self.threads[..end];
        self.limits.retain(|limit| limit.threads() <= most);
    }

    /// Measures all contenders in turns and answers with a table and the bars.
    ///
    /// # Errors
    /// If a contender did not record what was done.
    pub(crate) fn measure(&self, amount: Amount) -> Result<(String, Vec<Bar>), BenchError> {
        let mut columns = Vec::new();
        for threads in self.threads {
            note(&format!("{}, {threads} thread(s)", self.title));
            columns.push(Column::new(*threads, self.take(*threads, amount)?, self.unit));
        }
        let heading = format!("{}: {}, median of {}", self.title, self.unit.name, amount.rounds);
        let text = format!("{heading}\n{}{}\n", self.table(&columns), self.remarks(&columns));
        let bars = self.limits.iter().map(|limit| self.bar(*limit, &columns)).collect();
        Ok((text, bars))
    }

    fn take(&self, threads: usize, amount: Amount) -> Result<Taken, BenchError> {
        let mut bursts = Vec::new();
        for contender in &self.contenders {
            contender.check()?;
            let trial = contender.measure(self.unit.burst(threads, self.unit.operations_min))?;
            let operations = operations(trial.ns, amount.burst, self.unit.operations_min);
            bursts.push(self.unit.burst(threads, operations));
        }
        alternate(self.contenders.len(), amount.rounds, |index| {
            self.contenders[index].measure(bursts[index])
        })
    }

    fn table(&self, columns: &[Column]) -> String {
        let mut header = vec![String::new()];
        for column in columns {
            header.push(report::counted(column.threads, "thread"));
            header.extend(["min", "max", "spread", "/best"].map(str::to_owned));
        }
        let mut rows = vec![header];
        for (index, contender) in self.contenders.iter().enumerate() {
            let mut cells = vec![contender.name.to_owned()];
            for column in columns {
                let series = &column.series[index];
                cells.extend(report::cells(series, 2));
                let best = self.best(column).map_or(f64::NAN, |(_, best)| best);
                cells.push(format!("{:.2}", series.median() / best));
            }
            rows.push(cells);
        }
        report::table(&rows)
    }

    fn remarks(&self, columns: &[Column]) -> String {
        let mut text = String::new();
        let mut say = |line: String| writeln!(text, "   {line}").expect("a string takes all");
        for (index, contender) in self.contenders.iter().enumerate() {
            for Column { threads, taken, .. } in columns {
                let drains: Vec<f64> = taken[index].iter().filter_map(|one| one.drain_ns).collect();
                if !drains.is_empty() {
                    let (name, drain) = (contender.name, Series::new(drains).median());
                    let threads = report::counted(*threads, "thread");
                    say(format!("{name}, {threads}: {drain:.1} ns more for each when it is read"));
                }
            }
        }
        let all = columns.iter().flat_map(|column| column.taken.iter().flatten());
        let disturbed = all.filter(|sample| sample.is_disturbed).count();
        if disturbed > 0 {
            say(format!("in {disturbed} bursts a thread had to wait for its processor"));
        }
        text
    }

    /// For each opponent, the median of Tripod's figures by its own.
    fn ratios_by_round(
        &self,
        column: &Column,
        tripod: usize,
    ) -> impl Iterator<Item = (&'static str, f64)> {
        let sides = self.contenders.iter().zip(&column.taken);
        let opponents = sides.filter(|(contender, _)| contender.side == Side::Opponent);
        opponents.map(move |(contender, samples)| {
            let rounds = column.taken[tripod].iter().zip(samples);
            let ratios = rounds.map(|(tripod, other)| tripod.ns / other.ns);
            (contender.name, Series::new(ratios).median())
        })
    }

    fn best(&self, column: &Column) -> Option<(&'static str, f64)> {
        self.best_where(column, |_| true)
    }

    fn best_where(
        &self,
        column: &Column,
        counts: impl Fn(&str) -> bool,
    ) -> Option<(&'static str, f64)> {
        let sides = self.contenders.iter().zip(&column.series);
        let opponents = sides
            .filter(|(contender, _)| contender.side == Side::Opponent && counts(contender.name));
        opponents
            .map(|(contender, series)| (contender.name, series.median()))
            .min_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    /// A limit on what was not measured is missed.
    fn bar(&self, limit: Limit, columns: &[Column]) -> Bar {
        let threads = limit.threads();
        let column = columns.iter().find(|column| column.threads == threads);
        let place = self.contenders.iter().position(|contender| contender.side == Side::Tripod);
        let tripod = column.zip(place).map(|(column, place)| column.series[place].median());
        let tripod = tripod.unwrap_or(f64::NAN);
        let what = format!("{}, {}", self.title, report::counted(threads, "thread"));
        match limit {
            Limit::Figure { at_most, .. } => {
                Bar::at_most(format!("{what}: {}", self.unit.name), tripod, at_most)
            }
            Limit::OfBestByRound { at_most, .. } => {
                let worst = column.zip(place).and_then(|(column, place)| {
                    self.ratios_by_round(column, place)
                        .max_by(|(_, one), (_, other)| one.total_cmp(other))
                });
                let (name, ratio) = worst.unwrap_or(("no opponent", f64::NAN));
                Bar::at_most(format!("{what}: tripod / {name}"), ratio, at_most)
            }
            Limit::OfBest { at_most, .. } | Limit::OfBestAmong { at_most, .. } => {
                let counts = |name: &str| match limit {
                    Limit::OfBestAmong { names, .. } => names.contains(&name),
                    _ => true,
                };
                let best = column.and_then(|column| self.best_where(column, counts));
                let (name, best) = best.unwrap_or(("no opponent", f64::NAN));
                Bar::at_most(format!("{what}: tripod / {name}"), tripod / best, at_most)
            }
        }
    }
}

/// The figures with one number of threads, in the order of the contenders.
struct Column {
    threads: usize,
    taken: Taken,
    series: Vec<Series>,
}

impl Column {
    fn new(threads: usize, taken: Taken, unit: Unit) -> Self {
        let figures = |one: &Vec<Sample>| Series::new(one.iter().map(|sample| sample.ns / unit.ns));
        let series = taken.iter().map(figures);
        Self { threads, series: series.collect(), taken }
    }
}

fn operations(ns_each: f64, burst: Duration, least: u64) -> u64 {
    let wanted = burst.as_secs_f64() * 1e9 / ns_each.max(0.01);
    (wanted as u64).clamp(least, OPERATIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Unit = Unit::CPU_NANOS;

    fn column(threads: usize, nanos: &[f64]) -> Column {
        let sample = |ns: &f64| Sample { ns: *ns, drain_ns: None, is_disturbed: false };
        Column::new(threads, nanos.iter().map(|ns| vec![sample(ns)]).collect(), UNIT)
    }

    fn contender(name: &'static str, side: Side) -> Contender {
        Contender::new(name, side, || |_| {})
    }

    #[test]
    fn the_best_is_an_opponent_and_neither_a_floor_nor_tripod() {
        let row = Row {
            title: "inc",
            threads: &[1],
            contenders: vec![
                contender("tripod", Side::Tripod),
                contender("slow", Side::Opponent),
                contender("fast", Side::Opponent),
                contender("floor", Side::Beside),
            ],
            unit: UNIT,
            limits: Vec::new(),
        };
        let columns = [column(1, &[2.0, 9.0, 8.0, 1.0])];
        let of_best = row.bar(Limit::OfBest { threads: 1, at_most: 0.25 }, &columns);
        assert_eq!(of_best, Bar::at_most("inc, 1 thread: tripod / fast", 0.25, 0.25));
        let among = Limit::OfBestAmong { threads: 1, at_most: 0.25, names: &["slow", "floor"] };
        let expected = Bar::at_most("inc, 1 thread: tripod / slow", 2.0 / 9.0, 0.25);
        assert_eq!(row.bar(among, &columns), expected);
        let nanos = row.bar(Limit::Figure { threads: 1, at_most: 1.5 }, &columns);
        assert_eq!(nanos, Bar::at_most("inc, 1 thread: ns of CPU time", 2.0, 1.5));
    }

    #[test]
    fn rounds_are_compared_with_themselves() {
        let row = Row {
            title: "send",
            threads: &[2],
            contenders: vec![
                contender("tripod", Side::Tripod),
                contender("slow", Side::Opponent),
                contender("fast", Side::Opponent),
            ],
            unit: UNIT,
            limits: Vec::new(),
        };
        let samples = |nanos: [f64; 3]| {
            let sample = |ns| Sample { ns, drain_ns: None, is_disturbed: false };
            nanos.map(sample).to_vec()
        };
        // The machine is five times as slow in the first round, and in the last for two of three.
        let taken = vec![
            samples([50.0, 10.0, 50.0]),
            samples([150.0, 30.0, 30.0]),
            samples([100.0, 20.0, 100.0]),
        ];
        let bar = row
            .bar(Limit::OfBestByRound { threads: 2, at_most: 1.0 }, &[Column::new(2, taken, UNIT)]);
        assert_eq!(bar, Bar::at_most("send, 2 threads: tripod / fast", 0.5, 1.0));
    }

    #[test]
    fn what_takes_too_many_threads_is_left_out_with_its_limits() {
        let mut row = Row {
            title: "inc",
            threads: &[1, 2],
            contenders: Vec::new(),
            unit: UNIT,
            limits: vec![
                Limit::OfBest { threads: 1, at_most: 1.0 },
                Limit::Figure { threads: 2, at_most: 1.0 },
            ],
        };
        row.threads_max(2);
        assert_eq!((row.threads, row.limits.len()), (&[1, 2][..], 2));
        row.threads_max(1);
        assert_eq!((row.threads, row.limits.len()), (&[1][..], 1));
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        let row = Row {
            title: "inc",
            threads: &[1],
            contenders: vec![contender("fast", Side::Opponent)],
            unit: UNIT,
            limits: Vec::new(),
        };
        let columns = [column(1, &[8.0])];
        assert!(!row.bar(Limit::Figure { threads: 1, at_most: 1e9 }, &columns).is_met());
        assert!(!row.bar(Limit::OfBest { threads: 2, at_most: 1e9 }, &columns).is_met());
    }

    #[test]
    fn a_burst_fills_its_time_within_limits() {
        let burst = Duration::from_millis(20);
        assert_eq!(operations(10.0, burst, 4_000), 2_000_000);
        assert_eq!(operations(1e6, burst, 4_000), 4_000);
        assert_eq!(operations(1e6, burst, 4), 20);
        assert_eq!(operations(0.0, burst, 4), OPERATIONS_MAX);
    }
}
