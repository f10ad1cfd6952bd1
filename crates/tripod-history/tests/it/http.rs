//! The HTTP API, compared with that of a real Prometheus over the same samples.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tripod_history::http::{Api, Metadata, router};
use tripod_history::promql::{Engine, Limits};
use tripod_history::{Matcher, SelectError, SeriesPoints, Source};

use crate::promql::client::{Client, Reply, encoded};
use crate::promql::memory::Memory;
use crate::promql::prometheus::Prometheus;
use crate::promql::random::Random;
use crate::promql::samples;

/// The API on a free port, until it is dropped.
struct Server {
    client: Client,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(api: Api) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        runtime.spawn(async { axum::serve(listener, router(api)).await });
        Self { client: Client { port }, _runtime: runtime }
    }
}

/// A moment in the middle of the samples.
const NOW_MS: i64 = samples::START_MS + samples::SPAN_MS / 2;

fn get(client: &Client, path: &str, fields: &[(&str, &str)]) -> Reply {
    client.request("GET", &format!("{path}?{}", encoded(fields)), "", &[])
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.body))
}

/// Asks both, whose answers have to be equal; of some errors the words may differ.
fn compare(ours: &Client, theirs: &Client, path: &str, fields: &[(&str, &str)]) {
    let (ours_got, theirs_got) = (get(ours, path, fields), get(theirs, path, fields));
    let both = format!("{path} {fields:?}:\nours   {ours_got:?}\ntheirs {theirs_got:?}");
    assert_eq!(ours_got.status, theirs_got.status, "{both}");
    let (mut ours_json, mut theirs_json) = (json_of(&ours_got), json_of(&theirs_got));
    if let (Some(error), Some(their_error)) =
        (ours_json["error"].as_str(), theirs_json["error"].as_str())
    {
        assert!(same_error(error, their_error), "{both}");
        ours_json["error"] = json!("");
        theirs_json["error"] = json!("");
    }
    assert_eq!(ours_json, theirs_json, "{both}");
    if !path.contains("/label/") {
        let posted = ours.form(path, fields);
        assert_eq!((posted.status, posted.body), (ours_got.status, ours_got.body), "POST {path}");
    }
}

/// Errors of parameters are equal; those of parsing are, in the words of the parser; and those of
/// limits and of data begin alike, and ours then say more.
fn same_error(ours: &str, theirs: &str) -> bool {
    // Prometheus finds an empty selector after parsing it.
    let is_parse = |error: &str| {
        error.contains("parse error") || error.contains("at least one non-empty matcher")
    };
    if is_parse(ours) || is_parse(theirs) {
        return is_parse(ours) && is_parse(theirs);
    }
    ours == theirs || !theirs.starts_with("invalid parameter") && ours.get(..20) == theirs.get(..20)
}

#[test]
fn answers_have_the_form_of_prometheus() {
    let Some(prometheus) = Prometheus::start() else { return };
    let series = samples::generate(&mut Random::new(Random::seed_from_environment()));
    prometheus.write(&series);
    let server = Server::start(Api::new(Arc::new(Memory::new(series)), || NOW_MS));
    let check = |path: &str, fields: &[(&str, &str)]| {
        compare(&server.client, &prometheus.client, path, fields);
    };
    let now = &*format!("{}.5", NOW_MS / 1000);
    let begin = &*(NOW_MS / 1000 - 300).to_string();

    let query = "/api/v1/query";
    for text in [
        "time()",
        "1e30",
        "-1e-9",
        "\"a \\\" text\"",
        "vector(1e21)",
        "sort(temperature)",
        "odd",
        "vector(NaN)",
        "vector(1e-7)",
        "missing",
        "requests_total{code=\"500\"}[1m]",
    ] {
        check(query, &[("query", text), ("time", now)]);
    }
    check(query, &[("query", "temperature"), ("time", "2023-11-14T22:20:00.25Z")]);
    check(query, &[("query", "temperature"), ("time", now), ("timeout", "1m")]);
    for (text, time) in [("up{", now), ("", now), ("up", "yesterday"), ("1 +", now)] {
        check(query, &[("query", text), ("time", time)]);
    }
    check(query, &[("query", "temperature + on() capacity > bool 1"), ("timeout", "soon")]);
    check(query, &[("query", "count_values(\"value\", odd{kind=\"zero\"})"), ("time", now)]);

    let range = "/api/v1/query_range";
    let ask = |text: &str, start: &str, end: &str, step: &str| {
        check(range, &[("query", text), ("start", start), ("end", end), ("step", step)]);
    };
    ask("rate(requests_total[5m])", begin, now, "1m");
    ask("temperature > 50", begin, now, "15");
    ask("1", begin, now, "0.5");
    ask("temperature[5m]", begin, now, "1m");
    ask("\"text\"", begin, now, "1m");
    ask("temperature", now, begin, "1m");
    ask("temperature", begin, now, "0");
    ask("temperature", begin, now, "fast");
    ask("temperature", "", now, "1m");
    ask("temperature", begin, "", "1m");
    ask("{__name__=~\"temperature|capacity\"} * 2", begin, now, "1m");
    check(range, &[("query", "temperature"), ("start", "0"), ("end", now), ("step", "1")]);

    let both = [("match[]", "temperature{job=\"api\"}"), ("match[]", "{code=\"500\"}")];
    for path in ["/api/v1/labels", "/api/v1/label/job/values", "/api/v1/label/none/values"] {
        check(path, &[]);
        check(path, &both);
        check(path, &[("start", "never")]);
        check(path, &[("match[]", "{}")]);
    }
    check("/api/v1/label/a-b/values", &[]);
    check("/api/v1/series", &both);
    check("/api/v1/series", &[]);
    check("/api/v1/series", &[("match[]", "nothing")]);
    check("/api/v1/query_exemplars", &[("query", "temperature")]);
    check("/api/v1/query_exemplars", &[("query", "temperature{")]);
}

/// A source whose answer waits until the test lets go of the sender.
struct Waiting(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

impl Source for Waiting {
    fn select(
        &self,
        _: &[Matcher],
        _: i64,
        _: i64,
        _: i64,
    ) -> Result<Vec<SeriesPoints>, SelectError> {
        let _ = self.0.lock().expect("no panic before").recv();
        Ok(Vec::new())
    }
}

#[test]
fn a_query_that_takes_too_long_is_answered_as_timed_out() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let source = Arc::new(Waiting(receiver.into()));
    let api = Api::new(source, || 0).with_timeout(Duration::from_millis(20)).with_queries_max(1);
    let server = Server::start(api);
    // The second never gets its turn.
    for _ in 0..2 {
        let reply = get(&server.client, "/api/v1/query", &[("query", "up")]);
        assert_eq!((reply.status, &json_of(&reply)["errorType"]), (503, &json!("timeout")));
    }
    drop(sender);
}

#[test]
fn the_limits_of_the_engine_hold() {
    let series = samples::generate(&mut Random::new(1));
    let limits = Limits { samples_max: 50, ..Limits::default() };
    let api = Api::new(Arc::new(Memory::new(series)), || NOW_MS);
    let server = Server::start(api.with_engine(Engine::new(limits)));
    let reply = get(&server.client, "/api/v1/query", &[("query", "requests_total")]);
    assert_eq!((reply.status, &json_of(&reply)["errorType"]), (422, &json!("execution")));
}

#[test]
fn metadata_is_asked_for_by_name_and_number() {
    let metadata = || {
        let family = |name: &str, kind: &str| Metadata {
            name: name.to_owned(),
            kind: kind.to_owned(),
            help: "A \"help\"\n".to_owned(),
            unit: String::new(),
        };
        vec![family("b", "counter"), family("a", "gauge")]
    };
    let api = Api::new(Arc::new(Memory::new(Vec::new())), || 0).with_metadata(metadata);
    let server = Server::start(api);
    let data = |fields: &[(&str, &str)]| {
        json_of(&get(&server.client, "/api/v1/metadata", fields))["data"].clone()
    };
    let entry = |kind: &str| json!([{ "type": kind, "help": "A \"help\"\n", "unit": "" }]);
    assert_eq!(data(&[]), json!({ "a": entry("gauge"), "b": entry("counter") }));
    assert_eq!(data(&[("metric", "b")]), json!({ "b": entry("counter") }));
    assert_eq!(data(&[("limit", "1")]), json!({ "a": entry("gauge") }));
    assert_eq!(data(&[("metric", "c")]), json!({}));
    let refused = get(&server.client, "/api/v1/metadata", &[("limit", "many")]);
    assert_eq!(refused.status, 400);
}

#[test]
fn grafana_learns_the_version() {
    let server = Server::start(Api::new(Arc::new(Memory::new(Vec::new())), || 0));
    let reply = get(&server.client, "/api/v1/status/buildinfo", &[]);
    assert_eq!(json_of(&reply)["data"]["version"], "2.42.0");
    assert_eq!(server.client.request("DELETE", "/api/v1/series", "", &[]).status, 405);
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let server = Server::start(Api::new(Arc::new(Memory::new(Vec::new())), || 0));
    let long = "x".repeat(2 << 20);
    let reply = server.client.form("/api/v1/query", &[("query", &long)]);
    assert_eq!(reply.status, 400, "{}", reply.body);
}
