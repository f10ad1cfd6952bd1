//! The HTTP API of Prometheus over any [`Source`], so that Grafana reads a process directly.
//!
//! | path | methods | answer |
//! |---|---|---|
//! | `/api/v1/query` | GET, POST | a query for one moment |
//! | `/api/v1/query_range` | GET, POST | a query for many moments |
//! | `/api/v1/series` | GET, POST | the labels of series |
//! | `/api/v1/labels` | GET, POST | names of labels |
//! | `/api/v1/label/{name}/values` | GET | values of a label |
//! | `/api/v1/metadata` | GET | type, help and unit of metrics |
//! | `/api/v1/query_exemplars` | GET, POST | nothing: there are no exemplars here |
//! | `/api/v1/status/buildinfo` | GET | the version of Prometheus whose language this is |
//!
//! What it guarantees: the JSON, the errors and the status codes of Prometheus 2.42 (a test compares
//! them); queries run on threads for blocking work, a limited number at a time, each for a limited
//! time, and one whose client is gone is given up.
//!
//! Where it stops: it knows no user. Whoever may reach it may ask anything of the source, so it
//! belongs on a loopback address or behind something that authenticates.
//!
//! # Examples
//! ```
//! use std::sync::Arc;
//! use tripod_history::http::{Api, router};
//! # use tripod_history::{Matcher, SelectError, SeriesPoints, Source};
//! # struct History;
//! # impl Source for History {
//! #     fn select(&self, _: &[Matcher], _: i64, _: i64, _: i64) -> Result<Vec<SeriesPoints>, SelectError> {
//! #         Ok(Vec::new())
//! #     }
//! # }
//! let clock = || {
//!     let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
//!     now.map_or(0, |now| now.as_millis() as i64)
//! };
//! let api = Api::new(Arc::new(History), clock);
//! let app: axum::Router = router(api);
//! # async fn serve(app: axum::Router) -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:9090").await?;
//! axum::serve(listener, app).await
//! # }
//! ```

mod answer;
mod json;
mod lookup;
mod parameters;
mod query;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::sync::Semaphore;

use crate::promql::Engine;
use crate::source::Source;

/// The most bytes in the body of a request.
const BODY_BYTES_MAX: usize = 1 << 20;

/// How many queries run at once by default.
const QUERIES_MAX: usize = 4;

/// How long a query may take by default.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What is known of a metric besides its samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The name of the metric family.
    pub name: String,
    /// The type as Prometheus names it: `counter`, `gauge`, `histogram`, `summary` or `unknown`.
    pub kind: String,
    /// The help text.
    pub help: String,
    /// The unit, or "".
    pub unit: String,
}

/// What the routes need; cheap to clone.
///
/// # Examples
/// See the [module](self).
#[derive(Clone)]
pub struct Api {
    source: Arc<dyn Source>,
    metadata: Arc<dyn Fn() -> Vec<Metadata> + Send + Sync>,
    now: Arc<dyn Fn() -> i64 + Send + Sync>,
    engine: Engine,
    timeout: Duration,
    running: Arc<Semaphore>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("engine", &self.engine)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Api {
    /// Makes an API without metadata, with the default limits, a timeout of 2 minutes and at most 4
    /// queries at once.
    ///
    /// `now` gives the time in milliseconds since 1970-01-01 UTC, for queries that name none.
    pub fn new(source: Arc<dyn Source>, now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self {
            source,
            metadata: Arc::new(Vec::new),
            now: Arc::new(now),
            engine: Engine::default(),
            timeout: TIMEOUT,
            running: Arc::new(Semaphore::new(QUERIES_MAX)),
        }
    }

    /// Sets where metadata comes from; it is asked on each request.
    #[must_use]
    pub fn with_metadata(
        mut self,
        metadata: impl Fn() -> Vec<Metadata> + Send + Sync + 'static,
    ) -> Self {
        self.metadata = Arc::new(metadata);
        self
    }

    /// Sets the engine, and with it the limits of a query.
    #[must_use]
    pub fn with_engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Sets how long a query may take, the wait for its turn included. A request may ask for less.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many queries run at once; others wait. At least 1.
    #[must_use]
    pub fn with_queries_max(mut self, queries_max: usize) -> Self {
        self.running = Arc::new(Semaphore::new(queries_max.clamp(1, Semaphore::MAX_PERMITS)));
        self
    }
}

/// Makes the routes of the API. They have to run on a tokio runtime with its timer enabled.
///
/// # Examples
/// See the [module](self).
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/api/v1/query", get(query::instant).post(query::instant))
        .route("/api/v1/query_range", get(query::range).post(query::range))
        .route("/api/v1/query_exemplars", get(query::exemplars).post(query::exemplars))
        .route("/api/v1/series", get(lookup::series).post(lookup::series))
        .route("/api/v1/labels", get(lookup::labels).post(lookup::labels))
        .route("/api/v1/label/{name}/values", get(lookup::label_values))
        .route("/api/v1/metadata", get(lookup::metadata))
        .route("/api/v1/status/buildinfo", get(lookup::build_info))
        .with_state(api)
}
