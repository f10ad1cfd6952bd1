//! A transport over plain HTTP/1.1.

use std::time::Duration;

use super::{Response, Transport, TransportError};

/// How much of an answer's body is kept.
const MESSAGE_BYTES_MAX: u64 = 1024;

/// Sends requests over plain HTTP, and keeps the connection open between them.
///
/// It speaks neither HTTPS nor to proxies, and does not look at the environment: a push mostly goes to
/// an agent on the same machine or network. Implement [`Transport`] for anything else.
#[derive(Debug)]
pub struct HttpTransport {
    agent: ureq::Agent,
}

impl HttpTransport {
    /// Creates one that gives up on a request after `timeout`, from the look-up of the name to the
    /// end of the answer.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("tripod-metrics/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.new_agent() }
    }
}

impl Default for HttpTransport {
    /// One that gives up after 10 seconds.
    fn default() -> Self {
        Self::new(Duration::from_secs(10))
    }
}

impl Transport for HttpTransport {
    fn post(
        &mut self,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Response, TransportError> {
        let mut request = self.agent.post(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut answer = request
            .send(body)
            .map_err(|error| TransportError { url: url.to_owned(), reason: error.to_string() })?;
        let retry_after = answer.headers().get("retry-after");
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        // The status has come; a body that breaks off only shortens the message.
        let body = answer.body_mut().with_config().limit(MESSAGE_BYTES_MAX).lossy_utf8(true);
        let message = body.read_to_string().unwrap_or_default();
        Ok(Response {
            status: answer.status().as_u16(),
            retry_after: seconds.map(Duration::from_secs),
            message: message.trim().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle;

    #[test]
    fn the_answer_comes_back_whatever_its_status() {
        let (port, requests) = oracle::serve(|request| {
            let status = match request.head.split(' ').nth(1) {
                Some("/moved") => "302 Found\r\nLocation: /else",
                Some("/busy") => "429 Too Many Requests\r\nRetry-After: 7",
                _ => "204 No Content",
            };
            (format!("HTTP/1.1 {status}"), b" slowly, please\n".to_vec())
        });
        let mut transport = HttpTransport::default();
        let headers = [("X-Test".to_owned(), "one".to_owned())];
        let mut post = |path: &str| {
            let url = format!("http://127.0.0.1:{port}{path}");
            let answer = transport.post(&url, &headers, path.as_bytes()).unwrap();
            let request = requests.recv().unwrap();
            assert_eq!(request.header("x-test"), Some("one"));
            assert!(request.header("user-agent").unwrap().starts_with("tripod-metrics/"));
            assert_eq!(request.body, path.as_bytes());
            answer
        };
        assert_eq!(post("/moved").status, 302);
        let busy = post("/busy");
        assert_eq!((busy.status, busy.retry_after), (429, Some(Duration::from_secs(7))));
        assert_eq!(busy.message, "slowly, please");
    }

    #[test]
    fn an_unreachable_receiver_is_named() {
        let mut transport = HttpTransport::new(Duration::from_secs(5));
        let error = transport.post("http://127.0.0.1:1/api", &[], b"").unwrap_err();
        assert!(
            error.to_string().starts_with("no answer from http://127.0.0.1:1/api: "),
            "{error}"
        );
        assert!(transport.post("https://127.0.0.1:1/", &[], b"").is_err());
    }
}
