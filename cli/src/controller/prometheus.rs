//! Demand by PromQL, where a policy has a query: asked now and then, with the age that the answer really has.
//!
//! A server answers with the time of the question, not with that of the newest sample, which is as old as its scrape. So each
//! question is for the last minute and a half second by second: the last step at which the value changed is when it was scraped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use serde::Deserialize;
use tidegate_core::{Timestamp, WorkloadId};
use tokio_util::sync::CancellationToken;

use super::hub::Hub;
use crate::args::ControllerArgs;
use crate::{Usage, clock};

/// Between two questions of one policy, where there are few; with many, each is asked less often.
const EVERY: Duration = Duration::from_secs(5);
/// Questions per second, in the mean.
const PER_SECOND: u32 = 40;
/// Questions at once.
const AT_ONCE: usize = 16;
/// An answer that takes longer is of no use to a loop that looks every second.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How far back a question looks for the last change.
const LOOK_BACK: Duration = Duration::from_secs(90);
/// A sum over many series is one line; more is not what was asked for.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How servers are asked.
pub(super) struct Server {
    url: Option<String>,
    token_file: Option<PathBuf>,
    http: reqwest::Client,
}

/// What one policy asks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub(super) url: Option<String>,
    pub(super) query: String,
    /// Factor to requests per second.
    pub(super) scale: f64,
}

impl Server {
    /// As the command line says.
    pub(super) fn new(args: &ControllerArgs) -> anyhow::Result<Self> {
        let options =
            || reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        let mut builder = options();
        if let Some(path) = &args.prometheus_ca_file {
            let wrong = |error: String| Usage(format!("--prometheus-ca-file {}: {error}", path.display()));
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let trusted =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
            builder = builder.tls_certs_only(trusted);
        }
        if let Some(url) = &args.prometheus {
            url::Url::parse(url).map_err(|error| Usage(format!("--prometheus {url}: {error}")))?;
        }
        let http = builder.build().or_else(|error| {
            // An image without certificates can still speak http, which is what most clusters do within themselves.
            tracing::warn!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "no server is trusted over https"
            );
            options().tls_certs_only([]).build()
        });
        Ok(Self {
            url: args.prometheus.clone(),
            token_file: args.prometheus_token_file.clone(),
            http: http.context("failed to make an HTTP client")?,
        })
    }

    async fn ask(&self, question: &Question, now: Timestamp) -> anyhow::Result<Option<(f64, Timestamp)>> {
        let own = question.url.is_none();
        let url = question.url.as_ref().or(self.url.as_ref());
        let url =
            url.context("the policy names no server, and the controller was given none (--prometheus)")?;
        let address = format!("{}/api/v1/query_range", url.trim_end_matches('/'));
        let seconds = |at: Timestamp| at.as_secs_f64().to_string();
        let now = now.floor_to(Duration::from_secs(1));
        let mut address = url::Url::parse(&address).context("the address of Prometheus is none")?;
        address
            .query_pairs_mut()
            .append_pair("query", &question.query)
            .append_pair("start", &seconds(now.before(LOOK_BACK)))
            .append_pair("end", &seconds(now))
            .append_pair("step", "1");
        let mut request = self.http.get(address);
        // The token is the controller's: no address that a policy names is told it.
        if let Some(path) = self.token_file.as_ref().filter(|_| own) {
            // Read each time: a ServiceAccount's token is renewed in place.
            let token = std::fs::read_to_string(path)
                .with_context(|| format!("failed to read {}", path.display()))?;
            request = request.bearer_auth(token.trim());
        }
        let mut response = request.send().await.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            anyhow::ensure!(body.len() + part.len() <= ANSWER_BYTES_MAX, "the answer is too long");
            body.extend_from_slice(&part);
        }
        let answer: Answer = serde_json::from_slice(&body).with_context(|| format!("{status}"))?;
        match answer.error {
            Some(error) => anyhow::bail!("{status}: {error}"),
            None => Ok(latest(&answer.data.map(|data| data.result).unwrap_or_default(), question.scale)),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    error: Option<String>,
    data: Option<Matrix>,
}

#[derive(Debug, Deserialize)]
struct Matrix {
    result: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    #[serde(default)]
    values: Vec<(f64, String)>,
}

/// The sum of all series at the last step, and when it last changed; the last step itself where it never did. `None`: there is
/// nothing at the last step.
fn latest(rows: &[Row], scale: f64) -> Option<(f64, Timestamp)> {
    let mut sums: BTreeMap<i64, f64> = BTreeMap::new();
    for (time, text) in rows.iter().flat_map(|row| &row.values) {
        let (at, value) = (Timestamp::from_secs_f64(*time)?, text.parse::<f64>().ok()?);
        if !value.is_finite() {
            return None;
        }
        *sums.entry(at.as_millis()).or_default() += value;
    }
    let (last, value) = sums.last_key_value().map(|(at, value)| (*at, *value))?;
    let changed = sums.iter().rev().find(|(_, other)| **other != value).map(|(at, _)| *at);
    // The step after the last other value is the first with this one.
    let since = changed.and_then(|changed| sums.range(changed + 1..).next().map(|(at, _)| *at));
    let value = (value * scale).max(0.0);
    Some((value, Timestamp::from_millis(since.unwrap_or(last))))
}

/// Asks for all policies that have a query, in turns, until `stop`.
pub(super) async fn ask(server: Server, hub: Arc<Hub>, stop: CancellationToken) {
    let server = Arc::new(server);
    let mut failing: BTreeMap<WorkloadId, String> = BTreeMap::new();
    loop {
        let questions = hub.questions();
        let many = Duration::from_secs_f64(questions.len() as f64 / f64::from(PER_SECOND));
        let pause = tokio::time::sleep(EVERY.max(many));
        let answers = futures::stream::iter(questions)
            .map(|(id, question)| {
                let server = Arc::clone(&server);
                async move {
                    let answer = server.ask(&question, clock::now()).await;
                    (id, answer)
                }
            })
            .buffer_unordered(AT_ONCE);
        let taking = answers.for_each(|(id, answer)| {
            take(&hub, &mut failing, id, answer);
            std::future::ready(())
        });
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = taking => {}
        }
        hub.demand.tidy(clock::now());
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = pause => {}
        }
    }
}

fn take(
    hub: &Hub,
    failing: &mut BTreeMap<WorkloadId, String>,
    id: WorkloadId,
    answer: anyhow::Result<Option<(f64, Timestamp)>>,
) {
    match answer {
        Ok(found) => {
            failing.remove(&id);
            if let Some((value, at)) = found {
                hub.demand.answer(&id, value, at);
            }
        }
        Err(error) => {
            let text = format!("{error:#}");
            if failing.get(&id) != Some(&text) {
                tracing::warn!(workload = %id, error = text, "Prometheus gave no demand");
            }
            failing.insert(id, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[(f64, &str)]) -> Row {
        Row { values: values.iter().map(|(at, text)| (*at, (*text).to_owned())).collect() }
    }

    #[test]
    fn a_value_is_as_old_as_its_last_change() {
        let rows = [row(&[(10.0, "1"), (11.0, "1"), (12.0, "3"), (13.0, "3"), (14.0, "3")])];
        assert_eq!(latest(&rows, 1.0), Some((3.0, Timestamp::from_secs(12))));
        let never = [row(&[(10.0, "2"), (11.0, "2")])];
        assert_eq!(latest(&never, 0.5), Some((1.0, Timestamp::from_secs(11))));
    }

    #[test]
    fn series_are_added_up_and_nothing_is_not_zero() {
        let rows = [row(&[(10.0, "1"), (11.0, "2")]), row(&[(10.0, "1"), (11.0, "5")])];
        assert_eq!(latest(&rows, 1.0), Some((7.0, Timestamp::from_secs(11))));
        assert_eq!(latest(&[], 1.0), None);
        assert_eq!(latest(&[row(&[(10.0, "NaN")])], 1.0), None);
    }
}
