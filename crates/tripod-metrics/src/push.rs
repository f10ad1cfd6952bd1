//! What the pushes have in common: a bounded queue of bodies that are sent again when that can help,
//! and a transport.
//!
//! A push never makes its caller wait for the network unless it asks to: snapshots are encoded and
//! queued, and [`Pusher::step`] sends one body, on whatever thread has time to. What cannot be
//! delivered waits, and when the queue is full the oldest goes first; that is counted, and newer
//! numbers of cumulative series contain the older ones. Time and randomness come from outside.
//!
//! Where it stops: nothing is kept on disk, and a series that ends is not marked as such.

mod http;
mod queue;
mod sender;

use std::time::Duration;

pub use http::HttpTransport;
pub use queue::{Due, Outcome, QueueLimits, RetryQueue};
pub use sender::{PushError, Pusher, Step};

/// What a receiver answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// How long the receiver asks to be left alone (`Retry-After`, in seconds).
    pub retry_after: Option<Duration>,
    /// The beginning of the body, for a message to a person.
    pub message: String,
}

/// A request got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no answer from {url}: {reason}")]
pub struct TransportError {
    /// Where it was sent.
    pub url: String,
    /// What went wrong, in the words of the transport.
    pub reason: String,
}

/// Carries requests to a receiver.
///
/// [`HttpTransport`] is one for plain HTTP. For HTTPS, proxies or signed requests, implement it over
/// the HTTP client that your program has anyway.
pub trait Transport {
    /// Sends one POST and waits for its answer, whatever its status; redirects are not followed.
    ///
    /// # Errors
    /// [`TransportError`] if there was no answer; the request is then sent again later.
    fn post(
        &mut self,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Response, TransportError>;
}
