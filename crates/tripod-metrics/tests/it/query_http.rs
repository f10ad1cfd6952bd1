//! The whole way: recorded, sampled, kept in a directory, asked in PromQL over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use serde_json::Value;
use tower_service::Service;
use tripod_metrics::history::{Store, StoreConfig};
use tripod_metrics::{MetricsCollector, http};

/// When the test begins, in seconds since 1970.
const START: u64 = 1_764_000_000;

async fn ask(collector: &MetricsCollector, path: &str) -> (StatusCode, Value) {
    let request = Request::builder().uri(path).body(Body::empty()).expect("a valid request");
    let router = http::query_router(collector.clone()).merge(http::router(collector.clone()));
    let response = router.into_service().call(request).await.expect("never fails");
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("the body is there");
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn what_was_recorded_is_asked_for_in_promql() {
    let seconds = Arc::new(AtomicU64::new(START));
    let clock = Arc::clone(&seconds);
    let now = move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst));
    let metrics = MetricsCollector::builder().clock(now).build().unwrap();
    let jobs = metrics.counter("jobs_total", "Jobs taken.").labels(["kind"]).register().unwrap();
    let (status, empty) = ask(&metrics, "/api/v1/query?query=jobs_total").await;
    assert_eq!((status, &empty["data"]["result"]), (StatusCode::OK, &Value::Array(vec![])));

    // Each sampler takes its first sample at once, so no time has to pass here.
    let dir = tempfile::tempdir().unwrap();
    let start_ms = i64::try_from(START * 1000).unwrap();
    let (store, findings) = Store::open(dir.path(), StoreConfig::default(), start_ms).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    let store = Arc::new(store);
    for _ in 0..=60 {
        jobs.add(&["a"], 4).unwrap();
        jobs.add(&["b"], 1).unwrap();
        let sampler = metrics.sampler().interval(Duration::from_secs(3600));
        drop(sampler.history(Arc::clone(&store)).start().unwrap());
        seconds.fetch_add(1, Ordering::SeqCst);
    }
    let at = START + 60;
    let query = format!("/api/v1/query?query=sum(increase(jobs_total[60s]))&time={at}");
    let (status, answer) = ask(&metrics, &query).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["data"]["result"][0]["value"][1], "300", "{answer}");

    let query = format!("/api/v1/query?query=jobs_total&time={at}");
    let (_, answer) = ask(&metrics, &query).await;
    let kinds: Vec<&str> = answer["data"]["result"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|series| series["metric"]["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["a", "b"], "{answer}");

    let (_, answer) = ask(&metrics, "/api/v1/metadata?metric=jobs_total").await;
    assert_eq!(answer["data"]["jobs_total"][0]["help"], "Jobs taken.", "{answer}");
    let (_, answer) = ask(&metrics, "/api/v1/label/kind/values").await;
    assert_eq!(answer["data"], serde_json::json!(["a", "b"]), "{answer}");
    let (status, answer) = ask(&metrics, "/api/v1/query?query=sum(").await;
    assert_eq!((status, &answer["errorType"]), (StatusCode::BAD_REQUEST, &"bad_data".into()));
}
