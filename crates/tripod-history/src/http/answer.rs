//! The envelope around every answer, and running what makes one.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Api;
use super::parameters::ParameterError;
use crate::promql::{ErrorKind, QueryError, Stop};

/// What goes under `data`: JSON, already written.
pub(super) struct Data(pub(super) String);

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Failure {
    kind: ErrorKind,
    message: String,
}

/// An answer of the API.
pub(super) type Answer = Result<Data, Failure>;

impl Failure {
    /// A fault of the request.
    pub(super) fn bad_data(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::BadQuery, message: message.into() }
    }

    /// The same failure, which says that it is about a parameter.
    pub(super) fn about(self, parameter: &str) -> Self {
        let message = format!("invalid parameter \"{parameter}\": {}", self.message);
        Self { message, ..self }
    }

    fn status(&self) -> (StatusCode, &'static str) {
        match self.kind {
            ErrorKind::BadQuery => (StatusCode::BAD_REQUEST, "bad_data"),
            ErrorKind::Execution => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            ErrorKind::Timeout => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            ErrorKind::Canceled => (StatusCode::SERVICE_UNAVAILABLE, "canceled"),
            ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self { kind: error.kind(), message: error.to_string() }
    }
}

impl From<ParameterError> for Failure {
    fn from(error: ParameterError) -> Self {
        Self::bad_data(error.to_string())
    }
}

impl IntoResponse for Data {
    fn into_response(self) -> Response {
        respond(StatusCode::OK, format!(r#"{{"status":"success","data":{}}}"#, self.0))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, kind) = self.status();
        let body = json!({ "status": "error", "errorType": kind, "error": self.message });
        respond(status, body.to_string())
    }
}

fn respond(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Gives work up when the request that waits for it goes away.
struct CancelOnDrop(Stop);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Api {
    /// Runs work that takes its time on a thread for that, when it is its turn, and no longer than
    /// the timeout. The work gets the API with an engine that ends when nobody waits any more.
    pub(super) async fn run(
        self,
        timeout: std::time::Duration,
        work: impl FnOnce(Api) -> Answer + Send + 'static,
    ) -> Answer {
        let stop = Stop::default();
        let _guard = CancelOnDrop(stop.clone());
        let turn = async {
            // The semaphore is never closed; should it be, the work is refused as canceled.
            let permit = self.running.clone().acquire_owned().await;
            let permit = permit.map_err(|_| QueryError::Canceled)?;
            let mut api = self;
            api.engine = api.engine.stopped_by(stop.clone());
            let done = tokio::task::spawn_blocking(move || {
                let answer = work(api);
                drop(permit);
                answer
            });
            done.await.unwrap_or_else(|panic| {
                let message = format!("the query ended in a fault of the program: {panic}");
                Err(Failure { kind: ErrorKind::Internal, message })
            })
        };
        tokio::time::timeout(timeout, turn).await.unwrap_or_else(|_| {
            stop.time_out();
            Err(QueryError::TimedOut.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use super::*;
    use crate::matcher::Matcher;
    use crate::source::{SelectError, SeriesPoints, Source};

    struct Nothing;

    impl Source for Nothing {
        fn select(
            &self,
            _: &[Matcher],
            _: i64,
            _: i64,
            _: i64,
        ) -> Result<Vec<SeriesPoints>, SelectError> {
            Ok(Vec::new())
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
    }

    #[test]
    fn work_that_nobody_waits_for_is_canceled() {
        let (started, has_started) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        let (outcome, has_outcome) = mpsc::channel();
        let work = move |api: Api| {
            started.send(()).expect("the test listens");
            may_go_on.recv().expect("the test says so");
            outcome.send(api.engine.instant(&*api.source, "1", 0)).expect("the test listens");
            Ok(Data(String::new()))
        };
        runtime().block_on(async {
            let waiting = tokio::spawn(
                Api::new(Arc::new(Nothing), || 0).run(Duration::from_secs(3600), work),
            );
            let begun = tokio::task::spawn_blocking(move || has_started.recv());
            begun.await.expect("no panic").expect("the work begins");
            waiting.abort();
            assert!(waiting.await.is_err_and(|error| error.is_cancelled()));
            go_on.send(()).expect("the work waits");
        });
        assert_eq!(has_outcome.recv().expect("an outcome"), Err(QueryError::Canceled));
    }

    #[test]
    fn a_panic_is_an_internal_error_and_gives_the_turn_back() {
        let api = Api::new(Arc::new(Nothing), || 0).with_queries_max(1);
        runtime().block_on(async {
            let panics = api.clone().run(Duration::from_secs(3600), |_| panic!("a fault"));
            let failure = panics.await.err().expect("a failure");
            assert_eq!(failure.status().0, StatusCode::INTERNAL_SERVER_ERROR);
            let next = api.run(Duration::from_secs(3600), |_| Ok(Data(String::new())));
            assert!(next.await.is_ok());
        });
    }
}
