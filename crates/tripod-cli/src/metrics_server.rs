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

/// Serves `/metrics` on `listener` until the runtime ends; returns the address.
///
/// # Errors
/// If the runtime cannot take over the listener.
pub(crate) fn start(
    listener: std::net::TcpListener,
    collector: MetricsCollector,
) -> io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
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
