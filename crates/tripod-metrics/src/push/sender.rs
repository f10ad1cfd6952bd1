//! Joins queue and transport.

use std::time::Instant;

use super::queue::{Due, Outcome, QueueLimits, RetryQueue};
use super::{Response, Transport, TransportError};

/// What one [`step`](Pusher::step) did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Nothing waits.
    Idle,
    /// Nothing was sent, since the last try failed; the next is due at this moment.
    Waiting {
        /// When to step again.
        until: Instant,
    },
    /// One body was delivered. There may be more.
    Delivered,
    /// One try failed; it will be made again.
    Failed {
        /// Why.
        error: PushError,
    },
    /// The receiver refused a body for good; it is gone. There may be more.
    Rejected {
        /// Why.
        error: PushError,
    },
}

/// Why a body was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The receiver could not be reached, or did not answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The receiver answered with an error.
    #[error("{url} answered {status}: {message}")]
    Status {
        /// Where it was sent.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
}

/// A queue with a transport and an address.
#[derive(Debug)]
pub struct Pusher<T> {
    url: String,
    headers: Vec<(String, String)>,
    is_retryable: fn(u16) -> bool,
    queue: RetryQueue,
    transport: T,
}

impl<T: Transport> Pusher<T> {
    /// Creates one that sends every body to `url` with `headers`, and again after an answer whose
    /// status `is_retryable`.
    #[must_use]
    pub fn new(
        url: impl Into<String>,
        headers: Vec<(String, String)>,
        is_retryable: fn(u16) -> bool,
        limits: QueueLimits,
        transport: T,
    ) -> Self {
        let queue = RetryQueue::new(limits);
        Self { url: url.into(), headers, is_retryable, queue, transport }
    }

    /// Adds a header to all requests, such as one that authorizes them.
    pub fn add_header(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.headers.push((name.into(), value.into()));
    }

    /// Queues a body.
    pub fn push(&mut self, body: Vec<u8>) {
        self.queue.push(body);
    }

    /// Sends at most one body, and waits for the answer.
    ///
    /// Call it again at once while it says [`Step::Delivered`] or [`Step::Rejected`], with a new
    /// `now`; later otherwise.
    pub fn step(&mut self, now: Instant) -> Step {
        let body = match self.queue.due(now) {
            Due::Nothing => return Step::Idle,
            Due::At(until) => return Step::Waiting { until },
            Due::Now(body) => body,
        };
        let (outcome, step) = match self.transport.post(&self.url, &self.headers, body) {
            Ok(response) => self.judge(response),
            Err(error) => {
                (Outcome::Failed { retry_after: None }, Step::Failed { error: error.into() })
            }
        };
        self.queue.report(now, outcome);
        step
    }

    /// What waits, and what became of the rest.
    #[must_use]
    pub fn queue(&self) -> &RetryQueue {
        &self.queue
    }

    fn judge(&self, response: Response) -> (Outcome, Step) {
        let Response { status, retry_after, message } = response;
        if (200..300).contains(&status) {
            return (Outcome::Delivered, Step::Delivered);
        }
        let error = PushError::Status { url: self.url.clone(), status, message };
        if (self.is_retryable)(status) {
            (Outcome::Failed { retry_after }, Step::Failed { error })
        } else {
            (Outcome::Rejected, Step::Rejected { error })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Answers from a list, and keeps what was sent.
    #[derive(Debug, Default)]
    struct Scripted {
        answers: Vec<Result<u16, TransportError>>,
        sent: Vec<Vec<u8>>,
    }

    impl Transport for Scripted {
        fn post(
            &mut self,
            _: &str,
            headers: &[(String, String)],
            body: &[u8],
        ) -> Result<Response, TransportError> {
            assert_eq!(headers, [("A".to_owned(), "b".to_owned())]);
            self.sent.push(body.to_vec());
            let status = self.answers.remove(0)?;
            Ok(Response { status, message: "no".to_owned(), ..Response::default() })
        }
    }

    #[test]
    fn failures_are_tried_again_and_refusals_are_not() {
        let error = TransportError { url: "u".to_owned(), reason: "refused".to_owned() };
        let answers = vec![Err(error.clone()), Ok(503), Ok(204), Ok(400), Ok(200)];
        let transport = Scripted { answers, sent: vec![] };
        let limits = QueueLimits::default();
        let mut pusher = Pusher::new("u", vec![], |status| status >= 500, limits, transport);
        pusher.add_header("A", "b");
        (1..=3).for_each(|body| pusher.push(vec![body]));

        let mut now = Instant::now();
        let status =
            |status| PushError::Status { url: "u".to_owned(), status, message: "no".to_owned() };
        assert_eq!(pusher.step(now), Step::Failed { error: error.into() });
        assert!(matches!(pusher.step(now), Step::Waiting { until } if until > now));
        now += Duration::from_secs(1);
        assert_eq!(pusher.step(now), Step::Failed { error: status(503) });
        now += Duration::from_secs(2);
        assert_eq!(pusher.step(now), Step::Delivered);
        assert_eq!(pusher.step(now), Step::Rejected { error: status(400) });
        assert_eq!(pusher.step(now), Step::Delivered);
        assert_eq!(pusher.step(now), Step::Idle);
        assert_eq!(pusher.transport.sent, [[1], [1], [1], [2], [3]]);
        let queue = pusher.queue();
        assert_eq!((queue.delivered_count(), queue.rejected_count()), (2, 1));
    }
}
