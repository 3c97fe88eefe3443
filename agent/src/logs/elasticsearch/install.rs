//! Sets the server up for the logs. Idempotent: what is right already is left alone, and the report says so.

use reqwest::Method;
use serde_json::json;

use super::ElasticsearchConfig;
use super::check::{Report, Verdict, chain, current, look, templates};
use super::client::{Answer, Client, ClientError};
use super::template::{self, Abilities};

/// Why the server could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The configuration cannot be used.
    #[error("the Elasticsearch configuration cannot be used")]
    Config(#[source] ClientError),
}

/// Looks at the server as [`check`](super::check()) does, and installs the templates and the retention that are not there yet.
///
/// # Errors
/// When the configuration cannot be used. What the server refuses stands in the report.
pub async fn install(config: &ElasticsearchConfig) -> Result<Report, InstallError> {
    let named = template::check_stream_name(&config.stream).map_err(ClientError::Address);
    let client = named.and_then(|()| Client::new(config)).map_err(InstallError::Config)?;
    let mut report = Report::default();
    let Some(abilities) = look(&client, config, &mut report).await else { return Ok(report) };
    for (path, body) in templates(config, abilities) {
        match current(&client, &path).await {
            Ok(Some(stamp)) if Some(stamp.as_str()) == template::stamp_of(&body) => {
                report.add("template", Verdict::Right, format!("{path} is up to date"));
            }
            Ok(_) => {
                let answer = client.json(Method::PUT, &path, Some(&body)).await;
                told(&mut report, "template", &path, answer);
            }
            Err(text) => report.add("template", Verdict::Failed, format!("{path} cannot be read: {text}")),
        }
    }
    if report.passed() {
        retention(&client, config, abilities, &mut report).await;
    }
    Ok(report)
}

/// A stream that exists already keeps the retention it was made with; this brings it up to date.
async fn retention(client: &Client, config: &ElasticsearchConfig, abilities: Abilities, report: &mut Report) {
    let (Some(days), true) = (config.retention_days, abilities.lifecycle) else { return };
    let path = format!("_data_stream/{}/_lifecycle", config.stream);
    let wanted = format!("{days}d");
    match client.json(Method::GET, &path, None).await {
        Ok(answer) if answer.status.is_success() => {
            let known = answer.json().ok().and_then(|body| {
                let stream = body["data_streams"].get(0)?;
                stream["lifecycle"]["data_retention"].as_str().map(str::to_owned)
            });
            if known.as_deref() == Some(wanted.as_str()) {
                return report.add("lifecycle", Verdict::Right, format!("{path} is up to date"));
            }
            let answer = client.json(Method::PUT, &path, Some(&json!({ "data_retention": wanted }))).await;
            told(report, "lifecycle", &path, answer);
        }
        // There is no such stream yet: its first line makes it, from the template.
        Ok(answer) if answer.status.as_u16() == 404 => {}
        Ok(answer) => report.add(
            "lifecycle",
            Verdict::Warning,
            format!("{path}: the server answered {}", answer.status),
        ),
        Err(error) => report.add("lifecycle", Verdict::Warning, format!("{path}: {}", chain(&error))),
    }
}

fn told(report: &mut Report, subject: &'static str, path: &str, answer: Result<Answer, ClientError>) {
    match answer {
        Ok(answer) if answer.status.is_success() => {
            report.add(subject, Verdict::Changed, format!("{path} was installed"))
        }
        Ok(answer) => {
            let reason =
                answer.json().ok().and_then(|body| body["error"]["reason"].as_str().map(str::to_owned));
            let text = format!("{path} was refused ({}): {}", answer.status, reason.unwrap_or_default());
            report.add(subject, Verdict::Failed, text);
        }
        Err(error) => report.add(subject, Verdict::Failed, format!("{path}: {}", chain(&error))),
    }
}
