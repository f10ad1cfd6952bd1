//! PromQL over HTTP, on the history that a sampler keeps of a collector.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Router;
use tripod_history::http::{Api, Metadata};
use tripod_history::{Labels, Matcher, SelectError, SeriesPoints, Source};

use crate::collector::MetricsCollector;

/// Makes a router with the query API of Prometheus below `/api/v1`, so that Grafana takes the process
/// for a Prometheus server.
///
/// It answers from the history of the collector's [`Sampler`](crate::Sampler); as long as there is
/// none, everything is empty. See [`tripod_history::http`] for the routes and limits. It knows no
/// user, so it belongs on a loopback address or behind layers that authenticate.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use tripod_metrics::history::{Store, StoreConfig};
/// use tripod_metrics::{MetricsCollector, http};
///
/// let metrics = MetricsCollector::new();
/// let store = Arc::new(Store::in_memory(StoreConfig::default())?);
/// let sampler = metrics.sampler().history(store).start()?;
/// let router: axum::Router = http::router(metrics.clone()).merge(http::query_router(metrics));
/// // axum::serve(listener, router).await?;
/// # drop((router, sampler));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn query_router(collector: MetricsCollector) -> Router {
    let clock = collector.clone();
    let now = move || {
        let since = clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    };
    let described = collector.clone();
    let api =
        Api::new(Arc::new(History(collector)), now).with_metadata(move || metadata(&described));
    tripod_history::http::router(api)
}

fn metadata(collector: &MetricsCollector) -> Vec<Metadata> {
    let sets = collector.sets();
    let describe = |definition: &crate::definition::Definition| Metadata {
        name: definition.name.clone(),
        kind: definition.kind().as_str().to_owned(),
        help: definition.help.clone(),
        unit: definition.unit.clone().unwrap_or_default(),
    };
    sets.iter().map(|set| describe(&set.definition)).collect()
}

/// Whatever history the collector has when it is asked.
struct History(MetricsCollector);

impl Source for History {
    fn select(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Vec<SeriesPoints>, SelectError> {
        let Some(store) = self.0.history() else { return Ok(Vec::new()) };
        store.select(matchers, start_ms, end_ms, step_ms)
    }

    fn series(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<Labels>, SelectError> {
        let Some(store) = self.0.history() else { return Ok(Vec::new()) };
        store.series(matchers, start_ms, end_ms)
    }
}
