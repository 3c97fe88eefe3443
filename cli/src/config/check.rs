//! Every error of a configuration at once, each with line, column, path and what is expected.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;
use tidegate_core::WorkloadId;

use super::file::{Config, Sink, Workload};
use super::yaml::{Document, Position, escape};

/// One thing wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    pub(crate) at: Position,
    /// Path within the file, such as `/workloads/0/serving`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A configuration that was refused: everything wrong with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("failed to read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}", Listing(path, faults))]
    Wrong { path: PathBuf, faults: Vec<Fault> },
}

struct Listing<'a>(&'a Path, &'a [Fault]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.1.len();
        write!(f, "{}: {count} error{}", self.0.display(), if count == 1 { "" } else { "s" })?;
        for fault in self.1 {
            let Position { line, column } = fault.at;
            let path = if fault.path.is_empty() { String::new() } else { format!(" {}:", fault.path) };
            write!(f, "\n  {}:{line}:{column}:{path} {}", self.0.display(), fault.text)?;
        }
        Ok(())
    }
}

/// A configuration and where it was read from.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) config: Config,
}

/// Reads and checks a file.
pub(crate) fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    let config = parse(&text).map_err(|faults| ConfigError::Wrong { path: path.into(), faults })?;
    Ok(Loaded { path: path.into(), config })
}

/// Checks the text of a configuration.
pub(crate) fn parse(text: &str) -> Result<Config, Vec<Fault>> {
    let document =
        Document::parse(text).map_err(|(at, text)| vec![Fault { at, path: String::new(), text }])?;
    let mut faults = schema_faults(&document);
    if faults.is_empty() {
        match serde_json::from_value::<Config>(document.value.clone()) {
            Ok(config) => {
                faults.extend(
                    semantic_faults(&config).into_iter().map(|(path, text)| fault(&document, path, text)),
                );
                if faults.is_empty() {
                    return Ok(config);
                }
            }
            Err(error) => faults.push(fault(&document, String::new(), error.to_string())),
        }
    }
    faults.sort();
    faults.dedup();
    Err(faults)
}

fn fault(document: &Document, path: String, text: String) -> Fault {
    Fault { at: document.position(&path), path, text }
}

fn schema_faults(document: &Document) -> Vec<Fault> {
    let schema = serde_json::to_value(schemars::schema_for!(Config)).expect("a derived schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("a derived schema is valid");
    validator.iter_errors(&document.value).flat_map(|error| faults_of(document, &schema, &error)).collect()
}

fn faults_of(document: &Document, schema: &Value, error: &ValidationError<'_>) -> Vec<Fault> {
    let path = error.instance_path().as_str().to_owned();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| {
                fault(document, format!("{path}/{}", escape(name)), unknown_field(name, schema, error))
            })
            .collect(),
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            // An optional part: what counts is what is wrong with it when it is there, not that it might be absent.
            let present =
                context.iter().find(|branch| !branch.iter().any(|inner| refuses_whole(inner, error)));
            let inner = present
                .map(|branch| branch.iter().flat_map(|inner| faults_of(document, schema, inner)).collect());
            inner.unwrap_or_else(|| vec![fault(document, path, error.to_string())])
        }
        kind => vec![fault(document, path, expectation(kind, error))],
    }
}

/// Whether `inner` refuses the very node that `outer` is about for its type: that branch was not meant.
fn refuses_whole(inner: &ValidationError<'_>, outer: &ValidationError<'_>) -> bool {
    matches!(inner.kind(), ValidationErrorKind::Type { .. }) && inner.instance_path() == outer.instance_path()
}

/// Names the unknown field, and the known one that it resembles.
fn unknown_field(name: &str, schema: &Value, error: &ValidationError<'_>) -> String {
    let parent = error.schema_path().as_str().trim_end_matches("/additionalProperties").to_owned();
    let resolved = schema.pointer(&parent).or_else(|| schema.pointer(&definition_of(&parent)));
    let known: Vec<&String> =
        resolved.and_then(|s| s["properties"].as_object()).map(|p| p.keys().collect()).unwrap_or_default();
    let similar = known.iter().filter(|k| distance(k, name) <= 2).min_by_key(|k| distance(k, name));
    match (similar, known.is_empty()) {
        (Some(similar), _) => format!("unknown field `{name}`; did you mean `{similar}`?"),
        (None, true) => format!("unknown field `{name}`"),
        (None, false) => {
            let known: Vec<_> = known.iter().map(|k| k.as_str()).collect();
            format!("unknown field `{name}`; expected one of {}", known.join(", "))
        }
    }
}

/// The part of a schema path that starts at the last definition it passes through.
fn definition_of(path: &str) -> String {
    path.rfind("/$defs/").map_or_else(String::new, |start| path[start..].to_owned())
}

fn expectation(kind: &ValidationErrorKind, error: &ValidationError<'_>) -> String {
    let got = error.instance();
    match kind {
        ValidationErrorKind::Required { property } => {
            format!("`{}` is missing", property.as_str().unwrap_or("?"))
        }
        ValidationErrorKind::Type { kind: TypeKind::Single(expected) } => {
            format!("expected {expected}, got {got}")
        }
        ValidationErrorKind::Pattern { pattern } if pattern.contains("ms|s|m|h|d") => {
            format!("expected a length of time such as 250ms, 30s, 5m or 1h30m, got {got}")
        }
        ValidationErrorKind::Pattern { pattern } if pattern.contains("[0-5][0-9]") => {
            format!("expected a time of day such as 08:30, got {got}")
        }
        ValidationErrorKind::Minimum { limit } => format!("expected at least {limit}, got {got}"),
        ValidationErrorKind::Maximum { limit } => format!("expected at most {limit}, got {got}"),
        ValidationErrorKind::Enum { options } => format!("expected one of {options}, got {got}"),
        _ => error.to_string(),
    }
}

/// What types cannot say: names, references between fields, policies.
fn semantic_faults(config: &Config) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut names = BTreeSet::new();
    for (i, workload) in config.workloads.iter().enumerate() {
        let at = |path: &str| format!("/workloads/{i}{path}");
        if WorkloadId::local(&workload.name).is_err() {
            let text = format!("expected lower-case letters, digits, `-` and `.`, got {:?}", workload.name);
            faults.push((at("/name"), text));
        }
        if !names.insert(&workload.name) {
            faults.push((at("/name"), format!("`{}` stands twice", workload.name)));
        }
        faults.extend(workload_faults(workload).into_iter().map(|(path, text)| (at(&path), text)));
    }
    if config.logs.sink == Sink::Elasticsearch && config.logs.elasticsearch.is_none() {
        faults.push(("/logs/sink".into(), "`elasticsearch` needs `logs.elasticsearch`".into()));
    }
    if config.pool.is_some_and(|pool| pool.slots == 0) {
        faults.push(("/pool/slots".into(), "expected at least 1".into()));
    }
    for (field, path) in [("library", &config.gpu.library), ("kernelLog", &config.gpu.kernel_log)] {
        if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            faults.push((format!("/gpu/{field}"), "expected a path, got nothing".into()));
        }
    }
    for (field, addr) in
        [("listen", config.listen), ("otlp/grpc", config.otlp.grpc), ("otlp/http", config.otlp.http)]
    {
        if addr.is_some_and(|addr| !addr.ip().is_loopback())
            && (config.tls.is_none() || config.tokens.is_none())
        {
            faults.push((format!("/{field}"), "an address beyond loopback needs `tls` and `tokens`".into()));
        }
    }
    faults
}

fn workload_faults(workload: &Workload) -> Vec<(String, String)> {
    let mut faults: Vec<(String, String)> = Vec::new();
    match (&workload.serving, &workload.training) {
        (Some(policy), None) => {
            faults.extend(policy.problems().into_iter().map(|p| (format!("/serving/{}", p.path), p.text)));
            if policy.slo.per_output_token.is_some() && workload.gateway.is_some() {
                let text = "a gateway sees no tokens: leave it out, or take the demand from `metrics` without a `gateway`";
                faults.push(("/serving/slo/perOutputToken".into(), text.into()));
            }
        }
        (None, Some(policy)) => {
            faults.extend(policy.problems().into_iter().map(|p| (format!("/training/{}", p.path), p.text)));
            if workload.gateway.is_some() {
                faults.push(("/gateway".into(), "only a serving workload has a gateway".into()));
            }
        }
        _ => faults.push((String::new(), "needs either `serving` or `training`".into())),
    }
    if workload.process.as_ref().is_some_and(|process| process.command.is_empty()) {
        faults.push(("/process/command".into(), "expected a program and its arguments".into()));
    }
    if workload.gateway.is_some() && workload.process.is_none() {
        faults.push(("/gateway".into(), "needs `process`: a gateway stands in front of replicas".into()));
    }
    if workload.gateway.as_ref().is_some_and(|gateway| !gateway.listen.ip().is_loopback()) {
        faults.push(("/gateway/listen".into(), "expected a loopback address".into()));
    }
    let Some(metrics) = &workload.metrics else { return faults };
    if workload.process.is_none() && metrics.urls.is_empty() {
        faults.push(("/metrics/urls".into(), "needed by a workload without `process`".into()));
    }
    for (i, rule) in metrics.rules.iter().enumerate() {
        if let Err(error) = rule.check() {
            faults.push((format!("/metrics/rules/{i}"), error.to_string()));
        }
    }
    faults
}

/// Edit distance (Levenshtein), for suggestions.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
workloads:
  - name: chat
    process: {command: [serve, --port, '{port}']}
    gateway: {listen: '127.0.0.1:8080'}
    serving:
      replicas: {min: 1, max: 8}
      slo: {latency: 400ms, target: 0.99}
";

    fn faults(text: &str) -> Vec<(usize, usize, String)> {
        parse(text).unwrap_err().into_iter().map(|f| (f.at.line, f.at.column, f.text)).collect()
    }

    #[test]
    fn a_workload_takes_a_few_lines() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.workloads[0].name, "chat");
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn every_error_is_told_at_once_with_its_place() {
        let text = GOOD.replace("max: 8", "max: eight").replace("400ms", "fast").replace("gateway", "gatewy");
        let found = faults(&text);
        assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), [5, 7, 8], "{found:#?}");
        assert_eq!(found[0], (5, 5, "unknown field `gatewy`; did you mean `gateway`?".into()));
        assert!(found[1].2.contains("\"eight\""), "{found:#?}");
        assert!(found[2].2.contains("length of time"), "{found:#?}");
    }

    #[test]
    fn what_types_cannot_say_is_told_with_its_place_too() {
        let text = GOOD.replace("min: 1", "min: 9").replace("127.0.0.1", "10.0.0.1").replace("chat", "Chat");
        let found = faults(&text);
        assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), [3, 5, 7], "{found:#?}");
        let tokens = faults(&GOOD.replace("latency: 400ms", "latency: 2s, perOutputToken: 60ms"));
        assert!(tokens.len() == 1 && tokens[0].2.contains("sees no tokens"), "{tokens:#?}");
        assert!(faults("listen: 0.0.0.0:80")[0].2.contains("tls"));
        assert!(faults("otlp: {grpc: '0.0.0.0:4317'}")[0].2.contains("tls"));
        assert!(faults("logs: {sink: elasticsearch}")[0].2.contains("logs.elasticsearch"));
        assert!(faults("gpu: {library: ''}")[0].2.contains("expected a path"));
        assert_eq!(faults("gpu: {enabled: maybe, compat: [dcgm, other], libary: x}").len(), 3);
    }

    #[test]
    fn a_missing_field_is_named() {
        let found = faults("workloads: [{name: a, serving: {replicas: {min: 1, max: 2}}}]");
        assert!(found.iter().any(|f| f.2 == "`slo` is missing"), "{found:#?}");
    }
}
