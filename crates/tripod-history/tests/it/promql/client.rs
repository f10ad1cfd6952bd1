//! The smallest HTTP client that a test gets by with.

use std::io::{Read, Write};
use std::net::TcpStream;

/// Talks to a server on this machine.
pub(crate) struct Client {
    pub(crate) port: u16,
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Client {
    /// Posts a form.
    pub(crate) fn form(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        self.request("POST", path, headers, encoded(fields).as_bytes())
    }

    /// Sends a request as HTTP/1.0, so that the answer ends with the connection.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.0\r\n{headers}Content-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("a request");
        stream.write_all(body).expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Reply { status: status.expect("a status"), body: body.to_owned() }
    }
}

/// Writes a form, in which everything but letters and digits is escaped.
pub(crate) fn encoded(fields: &[(&str, &str)]) -> String {
    let escape = |text: &str| -> String {
        let escaped = text.bytes().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        });
        escaped.collect()
    };
    let pairs = fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}
