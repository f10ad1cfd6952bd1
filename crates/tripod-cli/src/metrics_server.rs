//! Serves the metrics page over HTTP.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tripod::MetricsCollector;
use tripod::metrics::TEXT_CONTENT_TYPE;

/// Listens on `address` and serves `/metrics` until the runtime ends; returns the address, which
/// differs from the one asked for where that had port 0.
///
/// # Errors
/// If the address cannot be bound.
pub(crate) async fn start(
    address: SocketAddr,
    collector: MetricsCollector,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let page = move || {
        let page = collector.encode_text();
        async move { ([(CONTENT_TYPE, TEXT_CONTENT_TYPE)], page).into_response() }
    };
    let router = Router::new().route("/metrics", get(page));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "the metrics page is no longer served");
        }
    });
    Ok(address)
}
