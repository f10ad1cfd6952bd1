//! Serves the metrics page over HTTP.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tripod::MetricsCollector;
use tripod::metrics::http;

/// Serves `/metrics`, in the format that a scraper asks for, on `listener` until the runtime ends;
/// returns the address.
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
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, http::router(collector)).await {
            tracing::warn!(%error, "the metrics page is no longer served");
        }
    });
    Ok(address)
}
