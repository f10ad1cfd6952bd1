//! What there is to ask for: series, labels, metadata, and the version of the language.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, Request, State};
use serde_json::json;

use super::answer::{Answer, Data, Failure};
use super::parameters::{Parameters, time_ms};
use super::{Api, Metadata, json};
use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::promql::{QueryError, is_label_name, series_selector};

/// The version of Prometheus whose queries and answers these are, by which Grafana decides what it
/// may ask for.
const PROMETHEUS_VERSION: &str = "2.42.0";

/// The widest range of time that a source is asked for, in milliseconds around 1970.
const ALWAYS_MS: i64 = 1 << 53;

/// Which series are meant.
struct Meant {
    /// Any of these; all series if there is none.
    selectors: Vec<Vec<Matcher>>,
    start_ms: i64,
    end_ms: i64,
}

impl Meant {
    fn new(parameters: &Parameters) -> Result<Self, Failure> {
        let moment = |name: &str, default_ms| match parameters.get(name) {
            "" => Ok(default_ms),
            text => time_ms(text).map_err(|error| {
                Failure::bad_data(format!("Invalid time value for '{name}': {error}")).about(name)
            }),
        };
        let (start_ms, end_ms) = (moment("start", -ALWAYS_MS)?, moment("end", ALWAYS_MS)?);
        let selectors = parameters.all("match[]").map(series_selector);
        Ok(Self { selectors: selectors.collect::<Result<_, _>>()?, start_ms, end_ms })
    }

    /// The labels of the series, sorted, each once.
    fn labels(&self, api: &Api) -> Result<BTreeSet<Labels>, Failure> {
        let all = [Vec::new()];
        let selectors = if self.selectors.is_empty() { &all[..] } else { &self.selectors };
        let mut found = BTreeSet::new();
        for matchers in selectors {
            let series = api.source.series(matchers, self.start_ms, self.end_ms);
            found.extend(series.map_err(QueryError::from)?);
        }
        Ok(found)
    }
}

pub(super) async fn series(State(api): State<Api>, request: Request) -> Answer {
    let parameters = Parameters::of(request).await?;
    if parameters.all("match[]").next().is_none() {
        return Err(Failure::bad_data("no match[] parameter provided"));
    }
    let meant = Meant::new(&parameters)?;
    let timeout = api.timeout;
    let work = move |api: Api| {
        let mut out = String::new();
        json::list(&mut out, &meant.labels(&api)?, json::labels);
        Ok(Data(out))
    };
    api.run(timeout, work).await
}

pub(super) async fn labels(State(api): State<Api>, request: Request) -> Answer {
    let meant = Meant::new(&Parameters::of(request).await?)?;
    let timeout = api.timeout;
    let work = move |api: Api| {
        let found = meant.labels(&api)?;
        let names = found.iter().flat_map(Labels::iter).map(|(name, _)| name);
        Ok(texts(&names.collect()))
    };
    api.run(timeout, work).await
}

pub(super) async fn label_values(
    State(api): State<Api>,
    Path(name): Path<String>,
    request: Request,
) -> Answer {
    if !is_label_name(&name) {
        return Err(Failure::bad_data(format!("invalid label name: {name:?}")));
    }
    let meant = Meant::new(&Parameters::of(request).await?)?;
    let timeout = api.timeout;
    let work = move |api: Api| {
        let found = meant.labels(&api)?;
        Ok(texts(&found.iter().filter_map(|labels| labels.get(&name)).collect()))
    };
    api.run(timeout, work).await
}

fn texts(texts: &BTreeSet<&str>) -> Data {
    let mut out = String::new();
    json::list(&mut out, texts, |out, text| json::text(out, text));
    Data(out)
}

pub(super) async fn metadata(State(api): State<Api>, request: Request) -> Answer {
    let parameters = Parameters::of(request).await?;
    let limit = match parameters.get("limit") {
        "" => usize::MAX,
        // Below zero means no limit.
        text => match text.parse::<i64>() {
            Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
            Err(_) => return Err(Failure::bad_data("limit must be a number")),
        },
    };
    let metric = parameters.get("metric");
    let mut by_name: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for Metadata { name, kind, help, unit } in (api.metadata)() {
        if metric.is_empty() || metric == name {
            by_name
                .entry(name)
                .or_default()
                .push(json!({ "type": kind, "help": help, "unit": unit }));
        }
    }
    let limited: serde_json::Map<_, _> =
        by_name.into_iter().take(limit).map(|(name, entries)| (name, entries.into())).collect();
    Ok(Data(serde_json::Value::from(limited).to_string()))
}

pub(super) async fn build_info() -> Answer {
    let info = json!({
        "version": PROMETHEUS_VERSION,
        "revision": concat!("tripod ", env!("CARGO_PKG_VERSION")),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    });
    Ok(Data(info.to_string()))
}
