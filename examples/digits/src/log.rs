//! JSON log lines, one object per line. The log is the program's output, so it goes where it is told and through no subscriber of the host.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use crate::clock;
use crate::names::field;

/// Where log lines go. Clones write to the same place.
#[derive(Clone)]
pub struct Log {
    out: Arc<Mutex<dyn Write + Send>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self::to(std::io::stdout())
    }

    /// Any writer.
    #[must_use]
    pub fn to(out: impl Write + Send + 'static) -> Self {
        Self { out: Arc::new(Mutex::new(out)) }
    }

    pub(crate) fn info(&self, msg: &'static str) -> Line<'_> {
        self.line("info", msg)
    }

    pub(crate) fn warn(&self, msg: &'static str) -> Line<'_> {
        self.line("warn", msg)
    }

    pub(crate) fn error(&self, msg: &'static str) -> Line<'_> {
        self.line("error", msg)
    }

    fn line(&self, level: &'static str, msg: &'static str) -> Line<'_> {
        let line = Line { log: self, fields: Map::new() };
        line.with(field::TS, clock::timestamp()).with(field::LEVEL, level).with(field::MSG, msg)
    }
}

/// A line that is being put together.
#[must_use = "a line is only written by `write`"]
pub(crate) struct Line<'a> {
    log: &'a Log,
    fields: Map<String, Value>,
}

impl Line<'_> {
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Writes the line whole. A log that cannot be written (a closed pipe) must not end the workload.
    pub(crate) fn write(self) {
        let mut text = Value::Object(self.fields).to_string();
        text.push('\n');
        let mut out = self.log.out.lock().unwrap_or_else(PoisonError::into_inner);
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}

/// Seconds or milliseconds with three decimals: enough to read, and short.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
