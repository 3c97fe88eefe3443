//! The load from Prometheus, or what speaks its HTTP API: one series, and those of a language model's tokens, by `query_range` in pieces
//! that every server accepts.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Certificate, Response, StatusCode, Url, redirect};
use serde::Deserialize;
use tidegate_core::{Series, Timestamp};

use super::args::{Moment, PrometheusArgs};
use super::traffic::{Tokens, Traffic, by_steps_of};
use crate::trace::Unit;
use crate::{Usage, output};

/// Points that Prometheus gives in one answer at most.
const POINTS_MAX: u32 = 11_000;
/// Pieces that are asked for at most: 250 days of minutes.
const PIECES_MAX: u32 = 33;
/// A piece over a long range of many series may take its time.
const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A piece of one series is half a megabyte; of many series, more than can be used anyway.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// A secret is short.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Series that are named when there should be one.
const NAMED_MAX: usize = 3;
/// Remarks of the server that are passed on.
const REMARKS_MAX: usize = 4;

/// What is asked of which server.
#[derive(Debug)]
pub(super) struct Asked {
    url: Url,
    query: String,
    /// For the tokens of a language model's prompts and answers, each after the flag that it was given with.
    tokens: Option<[(&'static str, String); 2]>,
    from: Moment,
    to: Option<Moment>,
    step: Duration,
    unit: Unit,
    http: reqwest::Client,
    secret: Secret,
}

/// How the request says who asks.
enum Secret {
    None,
    Basic(String, String),
    Bearer(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic(..) => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status: String,
    error: Option<String>,
    data: Option<Found>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    result_type: String,
    result: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    metric: serde_json::Map<String, serde_json::Value>,
    /// Absent where the series holds histograms.
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl Asked {
    /// What the command line asks of Prometheus; `None` when it does not.
    ///
    /// # Errors
    /// When the address, a file or the step cannot be used.
    pub(super) fn new(args: &PrometheusArgs, unit: Unit) -> anyhow::Result<Option<Self>> {
        let Some((url, query)) = args.prometheus.as_ref().zip(args.query.as_ref()) else { return Ok(None) };
        let step = args.step.get();
        if step < Duration::from_secs(1) || step > Duration::from_secs(3600) {
            return Err(Usage("--step: expected 1s to 1h".into()).into());
        }
        let secret = match (&args.user, &args.password_file, &args.token_file) {
            (Some(user), Some(file), _) => Secret::Basic(user.clone(), secret(file)?),
            (_, _, Some(file)) => Secret::Bearer(secret(file)?),
            _ => Secret::None,
        };
        let (url, query, http) = (address(url)?, query.clone(), client(args.ca_file.as_deref())?);
        let tokens = args.prompt_query.clone().zip(args.output_query.clone());
        let tokens = tokens.map(|(prompt, output)| [("--prompt-query", prompt), ("--output-query", output)]);
        Ok(Some(Self { url, query, tokens, from: args.from, to: args.to, step, unit, http, secret }))
    }
}

fn address(text: &str) -> Result<Url, Usage> {
    let wrong = |why: &str| Usage(format!("wrong --prometheus: {why}"));
    let mut url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "it holds credentials; give them with --user and --password-file, or --token-file",
        ));
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("expected http:// or https:// and a host"));
    }
    let path = format!("{}/api/v1/query_range", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

fn client(ca_file: Option<&Path>) -> anyhow::Result<reqwest::Client> {
    // Another part may have installed it already; it is the same one.
    drop(rustls::crypto::ring::default_provider().install_default());
    // A redirect leads to a page for people to log in at; its status says so.
    let mut builder = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::none());
    if let Some(path) = ca_file {
        let name = || format!("--ca-file {}", path.display());
        let pem = std::fs::read(path).map_err(|error| Usage(format!("{}: {error}", name())))?;
        let trusted =
            Certificate::from_pem_bundle(&pem).map_err(|error| Usage(format!("{}: {error}", name())))?;
        if trusted.is_empty() {
            return Err(Usage(format!("{}: there is no certificate in it", name())).into());
        }
        builder = builder.tls_certs_only(trusted);
    }
    builder.build().context("failed to make an HTTP client")
}

fn secret(file: &Path) -> Result<String, Usage> {
    let failed = |why: String| Usage(format!("{}: {why}", file.display()));
    let length = std::fs::metadata(file).map_err(|error| failed(error.to_string()))?.len();
    if length > SECRET_BYTES_MAX {
        return Err(failed("too long for a secret".into()));
    }
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(failed("it is empty".into())) } else { Ok(text.to_owned()) }
}

/// Reads each series, piece by piece.
///
/// # Errors
/// When the server does not answer, refuses, or gives no series or several.
pub(super) async fn read(asked: &Asked, now: Timestamp, quiet: bool) -> anyhow::Result<Traffic> {
    let to = asked.to.map_or(now, |moment| moment.from(now)).floor_to(asked.step);
    let from = asked.from.from(to).floor_to(asked.step);
    let pieces = pieces(from, to, asked.step)?;
    let queries = if asked.tokens.is_some() { 3 } else { 1 };
    let bar = output::progress(pieces.len() as u64 * queries, "pieces from Prometheus", quiet);
    let series = async |query: &str| -> anyhow::Result<(Series, Vec<String>)> {
        let mut gathered = Gathered::default();
        for (start, end) in &pieces {
            gathered.take(piece(asked, query, *start, *end).await?)?;
            bar.inc(1);
        }
        gathered.series(asked, from, to)
    };
    let (rates, mut notes) = series(&asked.query).await?;
    let tokens = match &asked.tokens {
        None => None,
        Some([prompt, output]) => {
            let of_tokens = async |(flag, query): &(&'static str, String)| {
                let (tokens, remarks) = series(query).await.context(*flag)?;
                anyhow::Ok((by_steps_of(&tokens, &rates), remarks))
            };
            let ((prompt, of_prompt), (output, of_output)) =
                (of_tokens(prompt).await?, of_tokens(output).await?);
            notes.extend(of_prompt);
            notes.extend(of_output);
            Some(Tokens { rates: [prompt, output], requests: Vec::new() })
        }
    };
    bar.finish_and_clear();
    let mut told = BTreeSet::new();
    notes.retain(|note| told.insert(note.clone()));
    let source = format!("{} at {}", asked.query, asked.url.origin().ascii_serialization());
    Ok(Traffic { source, rates, tokens, notes })
}

/// Start and end of each piece, both included.
fn pieces(from: Timestamp, to: Timestamp, step: Duration) -> Result<Vec<(Timestamp, Timestamp)>, Usage> {
    if from >= to {
        return Err(Usage(format!("--from must be before --to, got {from} and {to}")));
    }
    let piece = step * (POINTS_MAX - 1);
    let mut pieces = Vec::new();
    let mut start = from;
    while start <= to {
        if pieces.len() == PIECES_MAX as usize {
            return Err(Usage(format!(
                "from {from} to {to} there are more than {} points: take a longer --step or less time",
                POINTS_MAX * PIECES_MAX
            )));
        }
        pieces.push((start, (start + piece).min(to)));
        start = start + piece + step;
    }
    Ok(pieces)
}

async fn piece(asked: &Asked, query: &str, start: Timestamp, end: Timestamp) -> anyhow::Result<Answer> {
    let seconds = |at: Timestamp| at.as_secs_f64().to_string();
    let mut url = asked.url.clone();
    url.query_pairs_mut()
        .append_pair("query", query)
        .append_pair("start", &seconds(start))
        .append_pair("end", &seconds(end))
        .append_pair("step", &asked.step.as_secs_f64().to_string());
    let request = asked.http.get(url);
    let request = match &asked.secret {
        Secret::None => request,
        Secret::Basic(user, password) => request.basic_auth(user, Some(password)),
        Secret::Bearer(token) => request.bearer_auth(token),
    };
    let at = || format!("failed to ask {}", asked.url);
    let response = request.send().await.map_err(reqwest::Error::without_url).with_context(at)?;
    let status = response.status();
    let body = body(response).await.with_context(at)?;
    understood(status, &body).with_context(at)
}

async fn body(mut response: Response) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + part.len() > ANSWER_BYTES_MAX {
            bail!(
                "the answer is longer than {} MiB: the query should give one series, as sum(…) does",
                ANSWER_BYTES_MAX >> 20
            );
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn understood(status: StatusCode, body: &[u8]) -> anyhow::Result<Answer> {
    let answer: Result<Answer, _> = serde_json::from_slice(body);
    match answer {
        Ok(answer) if status.is_success() && answer.status == "success" => Ok(answer),
        Ok(Answer { error: Some(error), .. }) => bail!("{status}: {error}"),
        Err(_) if status.is_success() => bail!("{status}: the answer is none of Prometheus's HTTP API"),
        _ if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN => {
            bail!("{status}: give --user and --password-file, or --token-file")
        }
        _ if status.is_redirection() => {
            bail!("{status}: it sends elsewhere; give the address of the API itself")
        }
        _ => bail!("{status}"),
    }
}

/// What all pieces have given.
#[derive(Debug, Default)]
struct Gathered {
    labels: Option<String>,
    values: Vec<(Timestamp, f64)>,
    not_finite: usize,
    remarks: Vec<String>,
}

impl Gathered {
    fn take(&mut self, answer: Answer) -> anyhow::Result<()> {
        for remark in answer.warnings.into_iter().chain(answer.infos) {
            if self.remarks.len() < REMARKS_MAX && !self.remarks.contains(&remark) {
                self.remarks.push(remark);
            }
        }
        let found = answer.data.context("the answer holds no data")?;
        if found.result_type != "matrix" {
            bail!("expected a range of values, got a {}", found.result_type);
        }
        let mut labels: Vec<String> = found.result.iter().map(labels).collect();
        labels.extend(self.labels.clone().filter(|known| !labels.contains(known)));
        if labels.len() > 1 {
            let (count, more) = (labels.len(), if labels.len() > NAMED_MAX { ", …" } else { "" });
            labels.truncate(NAMED_MAX);
            return Err(Usage(format!(
                "the query gives {count} series or more ({}{more}): make it one, as sum(…) does",
                labels.join(", ")
            ))
            .into());
        }
        self.labels = labels.pop();
        let Some(row) = found.result.into_iter().next() else { return Ok(()) };
        if row.values.is_empty() {
            return Err(Usage(
                "the query gives histograms: take a rate of their count, as histogram_count does".into(),
            )
            .into());
        }
        for (time, text) in row.values {
            self.take_value(time, &text)?;
        }
        Ok(())
    }

    fn take_value(&mut self, time: f64, text: &str) -> anyhow::Result<()> {
        let at = Timestamp::from_secs_f64(time).with_context(|| format!("{time} is no time"))?;
        let value: f64 = text.parse().with_context(|| format!("at {at} there is no number: {text:?}"))?;
        if !value.is_finite() {
            self.not_finite += 1;
        } else if value < 0.0 {
            return Err(Usage(format!("at {at} the query gives {value}: a load is not negative")).into());
        } else {
            self.values.push((at, value));
        }
        Ok(())
    }

    /// The rates, and what a reader should know of them. A value says how the step *before* its time was, as `rate` and `increase` do.
    fn series(self, asked: &Asked, from: Timestamp, to: Timestamp) -> anyhow::Result<(Series, Vec<String>)> {
        let Self { values, not_finite, remarks, .. } = self;
        if values.is_empty() && not_finite > 0 {
            bail!("all {not_finite} values from {from} to {to} are NaN or infinite");
        }
        if values.is_empty() {
            bail!("the query gives nothing from {from} to {to}");
        }
        let step_s = asked.step.as_secs_f64();
        let per_second = match asked.unit {
            Unit::PerSecond => 1.0,
            Unit::PerMinute => 1.0 / 60.0,
            Unit::Count => 1.0 / step_s,
        };
        let points: Vec<_> =
            values.iter().map(|&(at, value)| (at.before(asked.step), value * per_second)).collect();
        let rates = Series::from_points(&points, asked.step).context("the values span too many steps")?;
        let mut notes: Vec<String> =
            remarks.iter().map(|remark| format!("Prometheus says: {remark}")).collect();
        if not_finite > 0 {
            notes
                .push(format!("{not_finite} values of the query are NaN or infinite, and count as unknown."));
        }
        Ok((rates, notes))
    }
}

fn labels(row: &Row) -> String {
    let pairs: Vec<String> = row.metric.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const T: i64 = 1_800_000_000;

    fn asked(unit: Unit) -> Asked {
        let args = PrometheusArgs {
            prometheus: Some("http://127.0.0.1:9/base/".into()),
            query: Some("sum(rate(x[1m]))".into()),
            prompt_query: None,
            output_query: None,
            from: "1h".parse().unwrap(),
            to: None,
            step: tidegate_core::Span::from_secs(60),
            user: None,
            password_file: None,
            token_file: None,
            ca_file: None,
        };
        Asked::new(&args, unit).unwrap().unwrap()
    }

    fn answer(rows: serde_json::Value) -> Answer {
        let data = json!({ "resultType": "matrix", "result": rows });
        serde_json::from_value(json!({ "status": "success", "data": data, "infos": ["odd"] })).unwrap()
    }

    fn gathered(pieces: Vec<serde_json::Value>, unit: Unit) -> anyhow::Result<(Series, Vec<String>)> {
        let mut gathered = Gathered::default();
        for piece in pieces {
            gathered.take(answer(piece))?;
        }
        gathered.series(&asked(unit), Timestamp::from_secs(T), Timestamp::from_secs(T + 3600))
    }

    #[test]
    fn pieces_cover_the_range_without_overlap_and_are_bounded() {
        let (from, minute) = (Timestamp::from_secs(T), Duration::from_secs(60));
        let all = pieces(from, from + minute * 25_000, minute).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].0, all[2].1), (from, from + minute * 25_000));
        for pair in all.windows(2) {
            assert_eq!(pair[1].0, pair[0].1 + minute);
            assert_eq!(pair[0].1.since(pair[0].0), minute * (POINTS_MAX - 1));
        }
        assert!(pieces(from, from + minute * 400_000, minute).unwrap_err().0.contains("longer --step"));
        assert!(pieces(from, from, minute).is_err());
    }

    #[test]
    fn a_value_describes_the_step_before_it_in_any_unit() {
        let rows = json!([{ "metric": {}, "values": [[T + 60, "120"], [T + 120, "60"], [T + 240, "NaN"]] }]);
        for (unit, first) in [(Unit::PerSecond, 120.0), (Unit::PerMinute, 2.0), (Unit::Count, 2.0)] {
            let (rates, notes) = gathered(vec![rows.clone()], unit).unwrap();
            assert_eq!(rates.start(), Timestamp::from_secs(T));
            assert_eq!(rates.values(), [Some(first), Some(first / 2.0)]);
            assert!(notes[0].contains("odd") && notes[1].contains("1 values"), "{notes:?}");
        }
    }

    #[test]
    fn what_is_no_load_is_named() {
        let row = |name: &str, value: &str| json!({ "metric": { "pod": name }, "values": [[T, value]] });
        let said = |pieces| gathered(pieces, Unit::PerSecond).unwrap_err().to_string();
        assert!(said(vec![json!([])]).contains("gives nothing from 2027-01-15"));
        assert!(
            said(vec![json!([row("a", "1"), row("b", "1")])])
                .contains("2 series or more ({pod=\"a\"}, {pod=\"b\"})")
        );
        assert!(said(vec![json!([row("a", "1")]), json!([row("b", "1")])]).contains("2 series or more"));
        assert!(said(vec![json!([row("a", "NaN")])]).contains("all 1 values"));
        assert!(said(vec![json!([row("a", "+Inf")])]).contains("NaN or infinite"));
        assert!(said(vec![json!([row("a", "-2")])]).contains("-2: a load is not negative"));
        assert!(said(vec![json!([{ "metric": {}, "histograms": [] }])]).contains("histogram_count"));
    }

    #[test]
    fn answers_that_are_none_say_what_to_do() {
        let said = |status, body: &str| understood(status, body.as_bytes()).unwrap_err().to_string();
        let refused = r#"{"status":"error","errorType":"bad_data","error":"parse error: no"}"#;
        assert_eq!(said(StatusCode::BAD_REQUEST, refused), "400 Bad Request: parse error: no");
        assert!(said(StatusCode::UNAUTHORIZED, "who?").contains("--token-file"));
        assert!(said(StatusCode::FOUND, "").contains("elsewhere"));
        assert!(said(StatusCode::OK, "<html>").contains("none of Prometheus"));
        assert_eq!(said(StatusCode::BAD_GATEWAY, ""), "502 Bad Gateway");
    }

    #[test]
    fn an_address_keeps_its_path_and_holds_no_secret() {
        assert_eq!(asked(Unit::PerSecond).url.as_str(), "http://127.0.0.1:9/base/api/v1/query_range");
        let error = address("http://me:hunter2@127.0.0.1/").unwrap_err().0;
        assert!(error.contains("--password-file") && !error.contains("hunter2"), "{error}");
        for wrong in ["127.0.0.1:9090", "ftp://127.0.0.1/", ""] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
        let secret = Secret::Bearer("hunter2".into());
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
