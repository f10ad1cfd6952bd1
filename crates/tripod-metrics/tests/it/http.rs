//! The page over HTTP, without a network.

use std::io::Read;

use axum::body::{Body, to_bytes};
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use flate2::read::GzDecoder;
use tower_service::Service;
use tripod_metrics::{
    MetricsCollector, OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE, http, protobuf,
};

use crate::checker;

const PROTOBUF: &str = "application/vnd.google.protobuf;\
                        proto=io.prometheus.client.MetricFamily;encoding=delimited";
const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";

fn collector() -> MetricsCollector {
    let collector = MetricsCollector::new();
    let jobs = collector.counter("jobs_total", "Jobs \"taken\".").labels(["x"]).register();
    let jobs = jobs.expect("the collector is new");
    (0..3000).for_each(|job| jobs.add(&[&job.to_string()], job).expect("one label"));
    collector
}

/// Asks the router; returns the response with its body beside it.
async fn ask(
    collector: &MetricsCollector,
    method: &str,
    path: &str,
    headers: &[(axum::http::HeaderName, &str)],
) -> (Response<Body>, Vec<u8>) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let request = request.body(Body::empty()).expect("a valid request");
    let response = http::router(collector.clone()).call(request).await.expect("never fails");
    let (head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("the body is there");
    (Response::from_parts(head, Body::empty()), body.to_vec())
}

#[tokio::test]
async fn each_format_is_served_to_whom_asks_for_it() {
    let collector = collector();
    let (response, text) = ask(&collector, "GET", "/metrics", &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[CONTENT_TYPE], TEXT_CONTENT_TYPE);
    assert_eq!(response.headers()[VARY], "Accept, Accept-Encoding");
    assert_eq!(response.headers().get(CONTENT_ENCODING), None);
    assert_eq!(text, collector.encode_text().into_bytes());
    checker::read(&String::from_utf8(text).unwrap());

    let (response, page) = ask(&collector, "GET", "/metrics", &[(ACCEPT, OPENMETRICS)]).await;
    assert_eq!(response.headers()[CONTENT_TYPE], OPENMETRICS_CONTENT_TYPE);
    assert_eq!(page, collector.encode_openmetrics().into_bytes());

    let (response, page) = ask(&collector, "GET", "/metrics", &[(ACCEPT, PROTOBUF)]).await;
    assert_eq!(response.headers()[CONTENT_TYPE], protobuf::PROTOBUF_CONTENT_TYPE);
    assert_eq!(page, protobuf::encode(&collector.snapshot()));

    // Two headers are one list.
    let accept = [(ACCEPT, "text/plain;q=0.1"), (ACCEPT, OPENMETRICS)];
    let (response, _) = ask(&collector, "GET", "/metrics", &accept).await;
    assert_eq!(response.headers()[CONTENT_TYPE], OPENMETRICS_CONTENT_TYPE);
}

#[tokio::test]
async fn gzip_holds_the_same_page() {
    let collector = collector();
    for accept in ["text/plain", OPENMETRICS, PROTOBUF] {
        let headers = [(ACCEPT, accept), (ACCEPT_ENCODING, "gzip")];
        let (response, packed) = ask(&collector, "GET", "/metrics", &headers).await;
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let mut page = Vec::new();
        GzDecoder::new(&packed[..]).read_to_end(&mut page).unwrap();
        let (_, plain) = ask(&collector, "GET", "/metrics", &headers[..1]).await;
        assert_eq!(page, plain, "{accept}");
        assert!(packed.len() * 3 < page.len(), "{} of {} bytes", packed.len(), page.len());
    }
}

#[tokio::test]
async fn a_head_has_the_headers_of_a_get_and_makes_no_page() {
    let collector = collector();
    let observed = collector.gauge("observed", "Must not be asked.").register().unwrap();
    observed.observe(&[], || panic!("a HEAD made a page")).unwrap();
    let headers = [(ACCEPT, OPENMETRICS), (ACCEPT_ENCODING, "gzip")];
    let (response, page) = ask(&collector, "HEAD", "/metrics", &headers).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[CONTENT_TYPE], OPENMETRICS_CONTENT_TYPE);
    assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
    assert!(page.is_empty());

    let (response, _) = ask(&collector, "POST", "/metrics", &[]).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()[ALLOW], "GET,HEAD");
    let (response, _) = ask(&collector, "GET", "/other", &[]).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_observer_that_panics_is_an_error_of_that_page_only() {
    let collector = MetricsCollector::new();
    let observed = collector.gauge("observed", "Fails once.").register().unwrap();
    let is_first = std::sync::atomic::AtomicBool::new(true);
    let fail_once = move || {
        assert!(!is_first.swap(false, std::sync::atomic::Ordering::Relaxed), "as the test wants");
        Some(1.0)
    };
    observed.observe(&[], fail_once).unwrap();
    let (response, _) = ask(&collector, "GET", "/metrics", &[]).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let (response, page) = ask(&collector, "GET", "/metrics", &[]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(String::from_utf8(page).unwrap().contains("observed 1\n"));
}

#[tokio::test]
async fn headers_that_are_no_text_count_as_absent() {
    let collector = collector();
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, axum::http::HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    let response = http::answer(&collector, &headers).await;
    assert_eq!(response.headers()[CONTENT_TYPE], TEXT_CONTENT_TYPE);
}

/// On a runtime of one thread, something else gets on while a page waits for an observer.
#[tokio::test]
async fn a_page_holds_up_nothing_else_of_the_runtime() {
    let collector = MetricsCollector::new();
    let observed = collector.gauge("observed", "Waits.").register().unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let wait = move || released.lock().ok()?.recv().ok().map(|()| 1.0);
    observed.observe(&[], wait).unwrap();
    let headers = HeaderMap::new();
    let other = async { release.send(()).unwrap() };
    let (response, ()) = tokio::join!(http::answer(&collector, &headers), other);
    assert_eq!(response.status(), StatusCode::OK);
}
