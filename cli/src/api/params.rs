//! Query parameters: every wrong one is named at once. Not their defaults: those are the routes'.

use std::str::FromStr;
use std::time::Duration;

use axum::extract::Query;
use axum::http::Uri;
use tidegate_core::{Signal, Timestamp, WorkloadId};

use super::problem::{Problem, Wrong};

/// Most steps of a series in one answer, as in Prometheus: above that a graph shows nothing more.
pub(super) const POINTS_MAX: u32 = 11_000;

/// The query parameters of a request, and what was found wrong in them so far.
#[derive(Debug)]
pub(super) struct Params {
    pairs: Vec<(String, String)>,
    wrong: Vec<Wrong>,
}

impl Params {
    /// Reads the query; a name that is not `known`, or stands twice, is wrong.
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Self {
        let pairs =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default();
        let mut params = Self { pairs, wrong: Vec::new() };
        let names: Vec<_> = params.pairs.iter().map(|(name, _)| name.clone()).collect();
        for (i, name) in names.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                params.refuse(name, format!("unknown; known are {}", known.join(", ")));
            } else if names[..i].contains(name) {
                params.refuse(name, "stands more than once");
            }
        }
        params
    }

    /// Notes that a parameter is wrong.
    pub(super) fn refuse(&mut self, parameter: &str, detail: impl Into<String>) {
        self.wrong.push(Wrong { parameter: parameter.to_owned(), detail: detail.into() });
    }

    /// The value of a parameter; `None` when it is absent, empty or wrong.
    pub(super) fn get<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let (_, text) = self.pairs.iter().find(|(n, text)| n == name && !text.is_empty())?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.refuse(name, detail);
                None
            }
        }
    }

    /// Whether there is a value of this name, right or wrong.
    pub(super) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(n, text)| n == name && !text.is_empty())
    }

    /// Notes that a parameter is absent although it is needed.
    pub(super) fn need(&mut self, name: &str, what: &str) {
        if !self.has(name) {
            self.refuse(name, format!("is needed: {what}"));
        }
    }

    /// Nothing, or all that is wrong.
    ///
    /// # Errors
    /// When anything was wrong.
    pub(super) fn done(self) -> Result<(), Problem> {
        if self.wrong.is_empty() { Ok(()) } else { Err(Problem::parameters(self.wrong)) }
    }
}

/// Any text of at most 200 bytes.
pub(super) fn text(text: &str) -> Result<String, String> {
    // Longer than any class or level, and than what anybody searches for.
    const LENGTH_MAX: usize = 200;
    if text.len() <= LENGTH_MAX {
        Ok(text.to_owned())
    } else {
        Err(format!("longer than {LENGTH_MAX} bytes"))
    }
}

/// A time, RFC 3339.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    // A `+` of an offset that was not percent-encoded arrives as a space.
    Timestamp::from_str(&text.replace(' ', "+")).map_err(|e| e.to_string())
}

/// A length of time in seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let right = |s: &f64| (0.001..=31_536_000.0).contains(s);
    let secs = text.parse::<f64>().ok().filter(right);
    secs.map(Duration::from_secs_f64)
        .ok_or_else(|| format!("expected seconds, from 0.001 to a year, got {text:?}"))
}

/// A whole number from 1 to `max`.
pub(super) fn count(max: usize) -> impl FnOnce(&str) -> Result<usize, String> {
    move |text| {
        let number = text.parse().ok().filter(|n| (1..=max).contains(n));
        number.ok_or_else(|| format!("expected a whole number from 1 to {max}, got {text:?}"))
    }
}

/// The name of a signal.
pub(super) fn signal(text: &str) -> Result<Signal, String> {
    Signal::from_name(text).ok_or_else(|| format!("there is no signal {text:?}"))
}

/// The id of a workload.
pub(super) fn workload(text: &str) -> Result<WorkloadId, String> {
    text.parse().map_err(|e: tidegate_core::ids::ParseWorkloadIdError| e.to_string())
}

/// A range of time: `to` is `now` when absent, `from` is `span` before it; `from` must come first.
pub(super) fn range(params: &mut Params, now: Timestamp, span: Duration) -> (Timestamp, Timestamp) {
    let to = params.get("to", time).unwrap_or(now);
    let from = params.get("from", time).unwrap_or_else(|| to.before(span));
    if from >= to {
        params.refuse("from", "must be before `to`");
    }
    (from, to)
}

/// The step of a series over `[from, to)`: as asked, else a whole number of seconds that makes at most 600 steps.
pub(super) fn step(params: &mut Params, from: Timestamp, to: Timestamp) -> Duration {
    let span = to.since(from);
    let step = params
        .get("step", seconds)
        .unwrap_or_else(|| Duration::from_secs(span.as_secs().div_ceil(600).max(1)));
    if span > step.saturating_mul(POINTS_MAX) {
        params.refuse("step", format!("makes more than {POINTS_MAX} points"));
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(query: &str) -> Vec<String> {
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        let mut params = Params::read(&uri, &["from", "to", "step", "limit", "signal"]);
        let (from, to) = range(&mut params, Timestamp::from_secs(7200), Duration::from_secs(3600));
        step(&mut params, from, to);
        params.get("limit", count(10));
        params.get("signal", signal);
        params
            .done()
            .map_or_else(|p| serde_json::to_value(p).unwrap()["errors"].clone(), |()| serde_json::json!([]))
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["parameter"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        assert_eq!(wrong(""), [""; 0]);
        assert_eq!(wrong("limit=0&signal=x&step=nan&frm=1"), ["frm", "step", "limit", "signal"]);
        assert_eq!(wrong("from=1970-01-01T03:00:00Z"), ["from"]);
        assert_eq!(wrong("from=1970-01-01T00:00:00Z&step=0.1"), ["step"]);
        assert_eq!(wrong("limit=1&limit=2"), ["limit"]);
        assert_eq!(wrong("to=1970-01-01T02:00:00+00:00"), [""; 0]);
    }

    #[test]
    fn an_absent_step_makes_few_points() {
        let uri: Uri = "/x".parse().unwrap();
        let at = |secs| step(&mut Params::read(&uri, &[]), Timestamp::EPOCH, Timestamp::from_secs(secs));
        assert_eq!(at(60), Duration::from_secs(1));
        assert_eq!(at(86_400), Duration::from_secs(144));
    }
}
