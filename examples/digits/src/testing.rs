//! For tests: a log that can be read back, bounded waits on a condition, and a bare HTTP client on loopback.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::log::Log;

/// Longest wait for anything: far above what a loaded machine needs, so that only a hang reaches it.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Log lines in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub(crate) fn log(&self) -> Log {
        Log::to(self.clone())
    }

    /// Every line with this message.
    pub(crate) fn with(&self, msg: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["msg"] == msg).collect()
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The value of the metric line that starts with `name` (labels included) and a space.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let line = self
            .body
            .lines()
            .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

/// Sends one request on a connection of its own; `None` when nobody listens or answers.
pub(crate) async fn try_send(to: SocketAddr, method: &str, path: &str, body: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(to).await.ok()?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

pub(crate) async fn send(to: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    try_send(to, method, path, body).await.unwrap_or_else(|| panic!("{method} {path} was not answered"))
}

pub(crate) async fn get(to: SocketAddr, path: &str) -> Answer {
    send(to, "GET", path, "").await
}

/// Waits until `holds`, and says what it waited for when it never does.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}
