//! Looks whether a server can take the logs: reachable, recent enough, rights, templates. Changes nothing.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::template::{self, Abilities};
use super::{Auth, ElasticsearchConfig};

/// Oldest version that this is written for.
const VERSION_MIN: (u64, u64) = (8, 0);

/// What one finding says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Right,
    /// It was not, and now is.
    Changed,
    /// It works, but the user should know.
    Warning,
    /// Logs cannot be stored like this.
    Failed,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: `server`, `version`, `privileges`, `template`, `lifecycle`.
    pub subject: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// A sentence for people, with what to do where something is wrong.
    pub text: String,
}

/// What was found, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether logs can be stored.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.worst() < Verdict::Failed
    }

    /// Whether anything was changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.findings.iter().any(|finding| finding.verdict == Verdict::Changed)
    }

    fn worst(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Right)
    }

    pub(super) fn add(&mut self, subject: &'static str, verdict: Verdict, text: impl Into<String>) {
        self.findings.push(Finding { subject, verdict, text: text.into() });
    }
}

/// Looks at the server. What is wrong with it stands in the report.
///
/// # Errors
/// When the configuration itself cannot be used.
pub async fn check(config: &ElasticsearchConfig) -> Result<Report, ClientError> {
    template::check_stream_name(&config.stream).map_err(ClientError::Address)?;
    let client = Client::new(config)?;
    let mut report = Report::default();
    if let Some(abilities) = look(&client, config, &mut report).await {
        compare(&client, config, abilities, &mut report).await;
    }
    Ok(report)
}

/// Server, version, rights and lifecycle; what the server can do, when it can be used at all.
pub(super) async fn look(
    client: &Client,
    config: &ElasticsearchConfig,
    report: &mut Report,
) -> Option<Abilities> {
    let numbers = match version(client).await {
        Ok(version) => {
            report.add("server", Verdict::Right, "the server answers");
            judge_version(version.as_deref(), report)?
        }
        Err(text) => {
            report.add("server", Verdict::Failed, text);
            return None;
        }
    };
    privileges(client, config, report).await;
    let lifecycle = has_lifecycle(client).await;
    describe_lifecycle(config, lifecycle, report);
    report.passed().then_some(Abilities { version: numbers, lifecycle })
}

/// The version to go by; `None` when the server cannot be used with it.
fn judge_version(version: Option<&str>, report: &mut Report) -> Option<(u64, u64)> {
    let Some(version) = version else {
        report.add("version", Verdict::Warning, "the account may not see the version: it lacks monitor");
        return Some(VERSION_MIN);
    };
    match numbers(version) {
        Some(numbers) if numbers >= VERSION_MIN => {
            report.add("version", Verdict::Right, version);
            Some(numbers)
        }
        Some(_) => {
            report.add("version", Verdict::Failed, format!("{version} is too old: at least 8.0 is needed"));
            None
        }
        None => {
            report.add("version", Verdict::Failed, format!("{version:?} is no version"));
            None
        }
    }
}

fn describe_lifecycle(config: &ElasticsearchConfig, lifecycle: bool, report: &mut Report) {
    match (config.retention_days, lifecycle) {
        (Some(days), true) => {
            report.add("lifecycle", Verdict::Right, format!("the server deletes logs after {days} days"));
        }
        (Some(days), false) => {
            let text =
                format!("the server has no data-stream lifecycle: nothing deletes logs after {days} days");
            report.add("lifecycle", Verdict::Warning, text);
        }
        (None, _) => {
            report.add("lifecycle", Verdict::Right, "no retention is configured: nothing is deleted")
        }
    }
}

/// The version, where the account may see it.
async fn version(client: &Client) -> Result<Option<String>, String> {
    let answer = client.json(Method::GET, "", None).await.map_err(|error| chain(&error))?;
    match answer.status {
        status if status.is_success() => {
            let root = answer.json().map_err(|error| chain(&error))?;
            let version = root["version"]["number"].as_str().map(str::to_owned);
            version.map(Some).ok_or_else(|| "this is no Elasticsearch".to_owned())
        }
        StatusCode::UNAUTHORIZED => Err("the server refuses the credentials (401)".to_owned()),
        _ => version_of_nodes(client).await,
    }
}

/// Some servers do not answer at their root, or not to everybody.
async fn version_of_nodes(client: &Client) -> Result<Option<String>, String> {
    let answer = client.json(Method::GET, "_nodes/_local?filter_path=nodes.*.version", None).await;
    let answer = answer.map_err(|error| chain(&error))?;
    if answer.status == StatusCode::FORBIDDEN {
        return Ok(None);
    }
    if !answer.status.is_success() {
        return Err(format!("the server does not tell its version ({})", answer.status));
    }
    let nodes = answer.json().map_err(|error| chain(&error))?;
    let versions = nodes["nodes"].as_object().into_iter().flatten();
    let oldest =
        versions.filter_map(|(_, node)| node["version"].as_str()).min_by_key(|version| numbers(version));
    oldest.map(|version| Some(version.to_owned())).ok_or_else(|| "this is no Elasticsearch".to_owned())
}

fn numbers(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

async fn privileges(client: &Client, config: &ElasticsearchConfig, report: &mut Report) {
    let wanted = json!({
        "cluster": ["monitor", "manage_index_templates"],
        "index": [{
            "names": [config.stream],
            "privileges": ["create_doc", "auto_configure", "view_index_metadata", "read"],
        }],
    });
    let answer = match client.json(Method::POST, "_security/user/_has_privileges", Some(&wanted)).await {
        Ok(answer) => answer,
        Err(error) => return report.add("privileges", Verdict::Failed, chain(&error)),
    };
    match (answer.status.as_u16(), answer.json()) {
        (200, Ok(body)) => judge(&body, &config.stream, report),
        (401 | 403, _) => {
            report.add(
                "privileges",
                Verdict::Failed,
                format!("the server refuses the credentials ({})", answer.status),
            );
        }
        // Without security the interface is not there, and everybody may do everything.
        _ if config.auth == Auth::None => {
            report.add("privileges", Verdict::Right, "security is off: none are needed")
        }
        _ => {
            let text =
                format!("credentials are configured, but the server knows no privileges ({})", answer.status);
            report.add("privileges", Verdict::Warning, text);
        }
    }
}

/// Without the first two, nothing can be stored; without the others, only what they are for cannot be done.
fn judge(body: &Value, stream: &str, report: &mut Report) {
    let missing = |rights: &Value| -> Vec<String> {
        let rights = rights.as_object().into_iter().flatten();
        rights.filter(|(_, has)| **has == Value::Bool(false)).map(|(name, _)| name.clone()).collect()
    };
    let mut lacking = missing(&body["index"][stream]);
    lacking.extend(missing(&body["cluster"]));
    if lacking.is_empty() {
        return report.add("privileges", Verdict::Right, "all that are needed");
    }
    let vital = lacking.iter().any(|name| name == "create_doc");
    let verdict = if vital { Verdict::Failed } else { Verdict::Warning };
    report.add(
        "privileges",
        verdict,
        format!("the user lacks {} (on {stream} or the cluster)", lacking.join(", ")),
    );
}

async fn has_lifecycle(client: &Client) -> bool {
    // A pattern that names nothing: where the interface is there, the answer is an empty list.
    let answer = client.json(Method::GET, "_data_stream/tidegate-none-*/_lifecycle", None).await;
    answer.is_ok_and(|answer| answer.status.is_success())
}

async fn compare(client: &Client, config: &ElasticsearchConfig, abilities: Abilities, report: &mut Report) {
    for (path, wanted) in templates(config, abilities) {
        match current(client, &path).await {
            Ok(Some(stamp)) if Some(stamp.as_str()) == template::stamp_of(&wanted) => {
                report.add("template", Verdict::Right, format!("{path} is up to date"));
            }
            Ok(Some(_)) => report.add(
                "template",
                Verdict::Warning,
                format!("{path} is of another version or configuration"),
            ),
            Ok(None) => report.add("template", Verdict::Warning, format!("{path} is not installed")),
            Err(text) => report.add("template", Verdict::Warning, format!("{path} cannot be read: {text}")),
        }
    }
}

/// Paths and bodies of the templates, in the order of their dependence.
pub(super) fn templates(config: &ElasticsearchConfig, abilities: Abilities) -> [(String, Value); 2] {
    [
        (format!("_component_template/{}", template::COMPONENT), template::component(abilities)),
        (format!("_index_template/{}", template::INDEX), template::index(config, abilities)),
    ]
}

/// The stamp of an installed template; empty when somebody else made it, `None` when there is none.
pub(super) async fn current(client: &Client, path: &str) -> Result<Option<String>, String> {
    let answer = client.json(Method::GET, path, None).await.map_err(|error| chain(&error))?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if !answer.status.is_success() {
        return Err(format!("the server answered {}", answer.status));
    }
    let body = answer.json().map_err(|error| chain(&error))?;
    let list = body["component_templates"].get(0).or_else(|| body["index_templates"].get(0));
    let template =
        list.and_then(|item| item.get("component_template").or_else(|| item.get("index_template")));
    Ok(Some(template.and_then(template::stamp_of).unwrap_or_default().to_owned()))
}

/// An error with its causes, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
