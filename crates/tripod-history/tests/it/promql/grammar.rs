//! Random queries of the whole language, over the series of [`samples`](super::samples).
//!
//! Most are well typed; some fail on the data, as a join that is not unique does.

use super::random::Random;
use super::samples::{SPAN_MS, START_MS};

/// A query with the moments it is asked for.
#[derive(Debug, Clone)]
pub(crate) enum Query {
    Instant { text: String, time_ms: i64 },
    Range { text: String, start_ms: i64, end_ms: i64, step_ms: i64 },
}

impl Query {
    /// Whether the order of the answer is part of it: that of `sort` is.
    pub(crate) fn order_matters(&self) -> bool {
        matches!(self, Self::Instant { text, .. } if text.starts_with("sort"))
    }
}

pub(crate) struct Grammar {
    random: Random,
    /// Whether the query is for one moment, so that nothing depends on the order of a hash map.
    instant: bool,
}

const MAPS: [&str; 23] = [
    "abs", "ceil", "floor", "exp", "ln", "log2", "log10", "sqrt", "sgn", "sin", "cos", "tan",
    "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "deg", "rad",
];
const DATES: [&str; 8] = [
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "day_of_year",
    "days_in_month",
    "month",
    "year",
];
const OVER_TIME: [&str; 17] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "resets",
    "changes",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "last_over_time",
    "present_over_time",
];
const REDUCTIONS: [&str; 8] = ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"];
const GROUPINGS: [&str; 9] = [
    "",
    "by (job)",
    "by (job, instance)",
    "by (code)",
    "by (absent_label)",
    "by (__name__)",
    "without (instance)",
    "without (code, job)",
    "without ()",
];
const NUMBERS: [&str; 12] =
    ["0", "1", "2", "0.5", "-3", "10", "1e3", "0x1F", "NaN", "Inf", "-Inf", "12.375"];
const DURATIONS: [&str; 9] = ["15s", "1m", "90s", "2m", "5m", "10m", "1m1s500ms", "20m", "1h"];

impl Grammar {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, instant: true }
    }

    pub(crate) fn query(&mut self) -> Query {
        self.instant = self.random.chance(50);
        let text = tamed(self.top());
        let moment = |random: &mut Random| {
            // Mostly among the samples, sometimes before or after them, sometimes on one.
            let place = random.below(SPAN_MS as u64 + 600_000) as i64 - 300_000;
            let place = if random.chance(40) { place / 15_000 * 15_000 } else { place };
            START_MS + place
        };
        if self.instant {
            return Query::Instant { text, time_ms: moment(&mut self.random) };
        }
        let start_ms = moment(&mut self.random);
        let step_ms = *self.random.pick(&[&15_000, &60_000, &7_300, &299_000, &1_000]);
        let end_ms = start_ms
            + step_ms * self.random.below(40) as i64
            + self.random.below(step_ms as u64) as i64;
        Query::Range { text, start_ms, end_ms, step_ms }
    }

    fn top(&mut self) -> String {
        match self.random.below(20) {
            0 => self.scalar(2),
            1 if self.instant => self.range(1),
            2 if self.instant => format!("sort({})", self.vector(2)),
            3 if self.instant => format!("sort_desc({})", self.vector(2)),
            4 if self.instant => r#""a string""#.to_owned(),
            5 => self.bad(),
            6 => self.choice(1),
            _ => self.vector(3),
        }
    }

    /// What no side may accept.
    fn bad(&mut self) -> String {
        let vector = self.vector(1);
        let queries = [
            format!("rate({vector})"),
            format!("{vector}[5m"),
            format!("sum({vector}) by"),
            format!("{vector} and 1"),
            format!("nothing_like_this({vector})"),
            format!("label_replace({vector}, \"a b\", \"\", \"\", \"\")"),
            format!("label_replace({vector}, \"a\", \"\", \"\", \"(\")"),
            format!("label_join({vector}, \"a\", \"\", \"b-c\")"),
            format!("count_values(\"a b\", {vector})"),
            "1 > 2".to_owned(),
            "{job=~\".*\"}".to_owned(),
            format!("({vector}) + on(job) group_left(job) ({vector})"),
            format!("holt_winters(temperature[5m], 1, 0.5) or {vector}"),
            format!("topk(NaN, {vector})"),
        ];
        let place = self.random.below(queries.len() as u64) as usize;
        queries[place].clone()
    }

    fn selector(&mut self) -> String {
        self.random
            .pick(&[
                "requests_total",
                r#"requests_total{job="api"}"#,
                r#"requests_total{job="api",code!="404"}"#,
                r#"requests_total{code=~"2..|5.*"}"#,
                r#"requests_total{instance!~"a|b"}"#,
                r#"requests_total{job="api", instance="a", code="200"}"#,
                "temperature",
                r#"temperature{instance="b"}"#,
                "capacity",
                "errors_total",
                "build_info",
                "odd",
                r#"odd{kind=~"nan|zero"}"#,
                "latency_seconds_bucket",
                "latency_seconds_sum",
                "latency_seconds_count",
                "missing",
                r#"missing{a="b", c!="d", e=~"f"}"#,
                r#"{__name__=~"temperature|capacity", job="web"}"#,
                r#"{job="api", instance=~".+", code=""}"#,
            ])
            .to_owned()
    }

    /// `@` and offset, if any.
    fn when(&mut self) -> String {
        let offset = match self.random.below(8) {
            0 => format!(" offset {}", self.random.pick(&DURATIONS)),
            1 => format!(" offset -{}", self.random.pick(&DURATIONS)),
            _ => String::new(),
        };
        let at = match self.random.below(16) {
            0 => " @ start()".to_owned(),
            1 => " @ end()".to_owned(),
            2 => {
                let time_ms = START_MS + self.random.below(SPAN_MS as u64) as i64;
                format!(" @ {}.{:03}", time_ms / 1000, time_ms % 1000)
            }
            _ => String::new(),
        };
        if self.random.chance(50) { format!("{offset}{at}") } else { format!("{at}{offset}") }
    }

    fn range(&mut self, depth: u32) -> String {
        let range = self.random.pick(&DURATIONS);
        if depth > 0 && self.random.chance(25) {
            let step = self.random.pick(&["", "30s", "1m", "17s", "2m"]);
            let inner = self.vector(depth - 1);
            let range = self.random.pick(&["2m", "5m", "7m30s"]);
            // Prometheus 2.42 gets `@` within a subquery wrong if that begins when the query does.
            let when = if inner.contains('@') { String::new() } else { self.when() };
            return format!("({inner})[{range}:{step}]{when}");
        }
        format!("{}[{range}]{}", self.selector(), self.when())
    }

    fn scalar(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.random.pick(&NUMBERS).to_owned();
        }
        let depth = depth - 1;
        match self.random.below(9) {
            0 => "time()".to_owned(),
            1 => "pi()".to_owned(),
            2 => format!("scalar({})", self.vector(depth)),
            3 => format!("scalar({})", r#"temperature{job="api",instance="a"}"#),
            4 => format!("-({})", self.scalar(depth)),
            5 | 6 => {
                let operator = self.operator();
                format!("({}) {operator} ({})", self.scalar(depth), self.scalar(depth))
            }
            _ => self.random.pick(&NUMBERS).to_owned(),
        }
    }

    /// An operator between numbers, with `bool` where scalars need it.
    fn operator(&mut self) -> &'static str {
        self.random.pick(&[
            "+", "-", "*", "/", "%", "^", "atan2", "== bool", "!= bool", "< bool", "<= bool",
            "> bool", ">= bool",
        ])
    }

    fn vector(&mut self, depth: u32) -> String {
        if depth == 0 {
            return format!("{}{}", self.selector(), self.when());
        }
        let depth = depth - 1;
        match self.random.below(22) {
            0..=2 => format!("{}{}", self.selector(), self.when()),
            3 => format!("{}({})", self.random.pick(&MAPS), self.vector(depth)),
            4..=7 => format!("{}({})", self.random.pick(&OVER_TIME), self.range(depth)),
            8 => self.over_time_with_scalars(depth),
            9..=11 => self.aggregation(depth),
            12 => {
                let operator = self.any_operator();
                format!("({}) {operator} ({})", self.vector(depth), self.scalar(depth))
            }
            13 => {
                let operator = self.any_operator();
                format!("({}) {operator} ({})", self.scalar(depth), self.vector(depth))
            }
            14 | 15 => self.join(depth),
            16 => self.set(depth),
            17 => format!("-({})", self.vector(depth)),
            18 => self.labels(depth),
            19 => self.histogram(depth),
            20 => self.absent(depth),
            _ => self.other(depth),
        }
    }

    fn over_time_with_scalars(&mut self, depth: u32) -> String {
        // Of a fixed range, since `@` moves along in `predict_linear` of Prometheus 2.42.
        let range = format!("{}[{}]", self.selector(), self.random.pick(&DURATIONS));
        match self.random.below(3) {
            0 => {
                let quantile = self.random.pick(&["0", "0.3", "0.99", "1", "-1", "2", "NaN"]);
                format!("quantile_over_time({quantile}, {})", self.range(depth))
            }
            1 => format!("predict_linear({range}, {})", self.random.pick(&["60", "-30", "1e4"])),
            _ => format!("holt_winters({range}, 0.3, {})", self.random.pick(&["0.5", "0.9"])),
        }
    }

    /// Some of many series. Ties are broken by the order of series, which is that of a hash map in
    /// Prometheus when a range query computes them.
    fn choice(&mut self, depth: u32) -> String {
        let operation = self.random.pick(&["topk", "bottomk"]);
        let grouping = self.random.pick(&GROUPINGS);
        let count = self.random.pick(&["0", "1", "2", "3", "4", "5", "6", "8", "100", "2.7", "-1"]);
        let of = if self.instant { self.vector(depth.min(1)) } else { self.selector() };
        let of = if of.contains("histogram") { self.selector() } else { of };
        format!("{operation} {grouping} ({count}, {of})")
    }

    fn aggregation(&mut self, depth: u32) -> String {
        let grouping = self.random.pick(&GROUPINGS);
        match self.random.below(14) {
            0 | 1 => self.choice(depth),
            2 => {
                // The parameter is a plain number beside `@` and constants, for which Prometheus
                // 2.42 does not look there.
                let (quantile, of) = (self.scalar(1), self.vector(depth));
                let constant = of.contains('@') || of.contains("vector(");
                let plain = !quantile.contains('@') && !constant;
                let quantile = if plain { quantile } else { "0.7".to_owned() };
                format!("quantile {grouping} ({quantile}, {of})")
            }
            // Of exact values only: a last digit that differs makes another label.
            3 => format!("count_values {grouping} (\"value\", {}{})", self.selector(), self.when()),
            _ => {
                let operation = self.random.pick(&REDUCTIONS);
                format!("{operation} {grouping} ({})", self.vector(depth))
            }
        }
    }

    fn any_operator(&mut self) -> String {
        let operator = self.operator();
        let filters = self.random.chance(50);
        if filters { operator.trim_end_matches(" bool").to_owned() } else { operator.to_owned() }
    }

    fn join(&mut self, depth: u32) -> String {
        let operator = self.any_operator();
        let pairs = [
            ("temperature", "", "capacity"),
            ("temperature", "ignoring (version)", "build_info"),
            ("temperature", "on (job, instance)", "errors_total"),
            ("requests_total", "on (job, instance) group_left ()", "capacity"),
            ("requests_total", "on (job, instance) group_left (version)", "build_info"),
            ("build_info", "ignoring (code, version) group_right (version)", "requests_total"),
            ("errors_total", "on (job, instance) group_right ()", "requests_total"),
            ("requests_total", "ignoring (code)", "capacity"),
            ("temperature", "on (job)", "capacity"),
            ("requests_total", "on (job) group_left ()", "latency_seconds_count"),
            ("sum by (job) (requests_total)", "", "latency_seconds_count"),
            ("temperature", "on (job, instance, __name__)", "capacity"),
            ("requests_total", "ignoring (instance, code) group_left ()", "latency_seconds_sum"),
        ];
        let (lhs, matching, rhs) = pairs[self.random.below(pairs.len() as u64) as usize];
        match self.random.below(4) {
            0 => {
                let (lhs, rhs) = (self.vector(depth), self.vector(depth));
                format!("({lhs}) {operator} {matching} ({rhs})")
            }
            1 => {
                let range = self.random.pick(&DURATIONS);
                let (f, g) = (self.random.pick(&OVER_TIME), self.random.pick(&OVER_TIME));
                if lhs.contains('(') {
                    return format!("({lhs}) {operator} {matching} ({rhs})");
                }
                format!("{f}({lhs}[{range}]) {operator} {matching} {g}({rhs}[{range}])")
            }
            2 => {
                let lhs = format!("{lhs} {}", self.comparison());
                format!("({lhs}) {operator} {matching} ({rhs})")
            }
            _ => format!("({lhs}) {operator} {matching} ({rhs})"),
        }
    }

    fn comparison(&mut self) -> String {
        let operator = self.random.pick(&["<", ">", "!=", ">=", "<=", "=="]);
        format!("{operator} {}", self.random.pick(&["0", "50", "100", "1000"]))
    }

    fn set(&mut self, depth: u32) -> String {
        let operator = self.random.pick(&["and", "or", "unless"]);
        let matching = self.random.pick(&[
            "",
            "",
            "on (job)",
            "on (job, instance)",
            "on ()",
            "ignoring (code)",
            "ignoring (job, instance, code, kind)",
        ]);
        format!("({}) {operator} {matching} ({})", self.vector(depth), self.vector(depth))
    }

    fn labels(&mut self, depth: u32) -> String {
        let of = self.vector(depth);
        match self.random.below(4) {
            0 => format!("label_replace({of}, \"new\", \"$1-x\", \"instance\", \"(a|b)\")"),
            1 => format!("label_replace({of}, \"job\", \"${{1}}\", \"job\", \"(.)(?:.*)\")"),
            2 => format!("label_replace({of}, \"instance\", \"\", \"code\", \".*\")"),
            _ => format!("label_join({of}, \"joined\", \"/\", \"job\", \"missing\", \"code\")"),
        }
    }

    fn histogram(&mut self, depth: u32) -> String {
        let quantile = self.random.pick(&["0", "0.5", "0.9", "0.99", "1", "-1", "2", "NaN"]);
        let range = self.random.pick(&DURATIONS);
        let of = match self.random.below(5) {
            0 => "latency_seconds_bucket".to_owned(),
            1 => format!("sum by (le) (rate(latency_seconds_bucket[{range}]))"),
            2 => format!("increase(latency_seconds_bucket[{range}])"),
            3 => r#"latency_seconds_bucket{le!="+Inf"}"#.to_owned(),
            _ => self.vector(depth),
        };
        format!("histogram_quantile({quantile}, {of})")
    }

    fn absent(&mut self, depth: u32) -> String {
        match self.random.below(3) {
            0 => format!("absent({})", self.vector(depth)),
            1 => format!("absent_over_time({})", self.range(depth)),
            _ => r#"absent(missing{a="b", a="c", job="x", e!="y"})"#.to_owned(),
        }
    }

    fn other(&mut self, depth: u32) -> String {
        match self.random.below(7) {
            0 => format!("clamp({}, {}, {})", self.vector(depth), self.scalar(1), self.scalar(1)),
            1 => format!("clamp_min({}, {})", self.vector(depth), self.scalar(1)),
            2 => format!("clamp_max({}, {})", self.vector(depth), self.scalar(1)),
            3 => {
                let to = self.random.pick(&["", ", 5", ", 0.1", ", 0"]);
                format!("round({}{to})", self.vector(depth))
            }
            4 => {
                let of = self.vector(depth);
                // With both, Prometheus 2.42 forgets the offset.
                let both = of.contains('@') && of.contains("offset");
                format!("timestamp({})", if both { self.selector() } else { of })
            }
            5 => format!("vector({})", self.scalar(depth)),
            _ => {
                let part = self.random.pick(&DATES);
                // A date far away is undefined in Prometheus, so only of moments and small numbers.
                let of = self.random.pick(&[
                    "",
                    "vector(time())",
                    "timestamp(temperature)",
                    "-temperature",
                ]);
                format!("{part}({of})")
            }
        }
    }
}

/// Takes out of a query what blows the last digit of a float up to a visible difference: Go and C
/// compute powers and the like differently, and Prometheus adds in the order of a hash map.
fn tamed(text: String) -> String {
    let has = |any: &[&str]| any.iter().any(|part| text.contains(part));
    let (inexact, large) =
        (has(&["atan", "tan(", "scalar(", "rate", "deriv"]), has(&["^", "exp(", "sinh(", "cosh("]));
    let (variance, quotient) = (has(&["std"]), has(&[" / "]));
    let mut text = text;
    if inexact || large || quotient {
        text = text.replace(" % ", " - ");
    }
    if large {
        let periodic = regex::Regex::new(r"\b(sin|cos|tan)\(").expect("a pattern");
        text = periodic.replace_all(&text, "abs(").into_owned();
    }
    if variance { text.replace("time()", "2") } else { text }
}
