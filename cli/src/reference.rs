//! The reference pages under `docs/`, made from the code: metrics, signals, log fields, configuration, serving runtimes,
//! custom resources, rights in a cluster.

mod policies;
mod rights;
mod runtimes;

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::Value;
use tidegate_core::{Dcgm, Field, Signal, metrics};

/// A reference page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Page {
    /// Metric families on `/metrics`.
    Metrics,
    /// Signals in the API and the history.
    Signals,
    /// Fields of shipped log lines.
    Fields,
    /// `tidegate.yaml`.
    Config,
    /// Serving runtimes whose metrics are known.
    Runtimes,
    /// The custom resources.
    Policies,
    /// What Tidegate's identities may do in a cluster.
    Rights,
}

const MADE: &str = "<!-- Made by `tidegate reference`; a test keeps it equal to the code. -->\n\n";

/// The page as Markdown.
pub(crate) fn page(page: Page) -> String {
    let body = match page {
        Page::Metrics => metrics_page(),
        Page::Signals => signals_page(),
        Page::Fields => fields_page(),
        Page::Config => config_page(),
        Page::Runtimes => runtimes::page(),
        Page::Policies => policies::page(),
        Page::Rights => rights::page(),
    };
    format!("{MADE}{body}")
}

fn metrics_page() -> String {
    let mut text = "# Metrics\n\nEvery family that `/metrics` may show. Units are base units; counters end in `_total`.\n\n\
        | Name | Type | Unit | Labels | Meaning |\n|---|---|---|---|---|\n"
        .to_owned();
    for family in metrics::families() {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{}`", label.name())).collect();
        let (name, kind, unit) = (family.name, family.kind.as_str(), family.unit);
        row(&mut text, &[&format!("`{name}`"), kind, &unit.to_string(), &labels.join(" "), family.help]);
    }
    text.push_str("\n## Labels\n\n| Name | Values |\n|---|---|\n");
    for label in tidegate_core::Label::ALL {
        row(&mut text, &[&format!("`{}`", label.name()), label.help()]);
    }
    text.push_str(
        "\n## DCGM names\n\nShown besides with `gpu.compat: [dcgm]`, for dashboards and rules written for NVIDIA's exporter. Units are its units.\n\n\
        | Name | Type | Meaning |\n|---|---|---|\n",
    );
    for family in Dcgm::ALL.iter().map(|one| one.family()) {
        row(&mut text, &[&format!("`{}`", family.name), family.kind.as_str(), family.help]);
    }
    text
}

fn signals_page() -> String {
    let mut text = "# Signals\n\nWhat Tidegate stores, forecasts and shows. The catalogue is closed: a name that is not here does not exist.\n\n\
        | Name | Unit | Metric | Meaning |\n|---|---|---|---|\n"
        .to_owned();
    for signal in Signal::ALL {
        let (name, metric) = (format!("`{}`", signal.name()), format!("`{}`", signal.metric_name()));
        row(&mut text, &[&name, &signal.unit().to_string(), &metric, signal.help()]);
    }
    text
}

fn fields_page() -> String {
    let mut text = "# Log fields\n\nFields of a shipped log line, after the Elastic Common Schema where it has a word. The index template is made from this list.\n\n\
        | Name | Mapping | Meaning |\n|---|---|---|\n"
        .to_owned();
    for field in Field::ALL {
        row(&mut text, &[&format!("`{}`", field.name()), field.mapping().as_str(), field.help()]);
    }
    text
}

fn row(text: &mut String, cells: &[&str]) {
    writeln!(text, "| {} |", cells.join(" | ")).expect("writing to a string cannot fail");
}

fn config_page() -> String {
    let schema =
        serde_json::to_value(schemars::schema_for!(crate::config::Config)).expect("a derived schema is JSON");
    let mut text = "# `tidegate.yaml`\n\nLooked for in the working directory, then `$XDG_CONFIG_HOME/tidegate/` (or `~/.config/tidegate/`), then `/etc/tidegate/`; \
        or named by `--config`. Unknown fields are refused. `tidegate check config` says everything that is wrong, with line and column.\n\
        Lengths of time are written as `250ms`, `30s`, `5m`, `1h30m`, `7d`. Examples: [`examples/`](../examples/).\n"
        .to_owned();
    section(&mut text, "The file", &schema);
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        section(&mut text, &format!("`{name}`"), definition);
    }
    text
}

fn section(text: &mut String, title: &str, schema: &Value) {
    let about = schema["description"].as_str().unwrap_or_default();
    write!(text, "\n## {title}\n\n{about}\n\n").expect("writing to a string cannot fail");
    let words = schema["oneOf"]
        .as_array()
        .into_iter()
        .flatten()
        .chain(schema["enum"].as_array().into_iter().flatten());
    for word in words {
        let name = word["const"].as_str().or(word.as_str()).unwrap_or("?");
        let about = word["description"].as_str().unwrap_or_default();
        writeln!(text, "- `{name}`: {about}").expect("writing to a string cannot fail");
    }
    let Some(properties) = schema["properties"].as_object() else { return };
    text.push_str("| Field | Type | Default | Meaning |\n|---|---|---|---|\n");
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in properties {
        let default = match &property["default"] {
            Value::Null if required.contains(&name.as_str()) => "required".to_owned(),
            Value::Null => "–".to_owned(),
            Value::Object(_) => "see its page".to_owned(),
            value => format!("`{value}`"),
        };
        let about = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        row(text, &[&format!("`{name}`"), &type_name(property), &default, &about]);
    }
}

fn type_name(property: &Value) -> String {
    if let Some(reference) = property["$ref"].as_str() {
        return link(reference);
    }
    if let Some(first) =
        property["anyOf"].as_array().or(property["allOf"].as_array()).and_then(|all| all.first())
    {
        return type_name(first);
    }
    if property["pattern"].as_str().is_some_and(|pattern| pattern.contains("ms|s|m|h|d")) {
        return "length of time".to_owned();
    }
    if !property["items"].is_null() {
        return format!("list of {}", type_name(&property["items"]));
    }
    match &property["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            names.iter().find_map(|n| n.as_str().filter(|n| *n != "null")).unwrap_or("any").to_owned()
        }
        _ => "any".to_owned(),
    }
}

fn link(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    format!("[`{name}`](#{})", name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares a page with its file; `TIDEGATE_UPDATE=1` writes the file instead.
    fn check(kind: Page, file: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file);
        let made = page(kind);
        if std::env::var_os("TIDEGATE_UPDATE").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == made, "docs/{file} is not what the code says; run the test with TIDEGATE_UPDATE=1");
    }

    #[test]
    fn the_pages_say_what_the_code_says() {
        check(Page::Metrics, "metrics.md");
        check(Page::Signals, "signals.md");
        check(Page::Fields, "fields.md");
        check(Page::Config, "config.md");
        check(Page::Runtimes, "runtimes.md");
        check(Page::Policies, "policies.md");
        check(Page::Rights, "rights.md");
    }

    #[test]
    fn every_field_of_the_configuration_is_explained() {
        let text = config_page();
        let unexplained: Vec<_> =
            text.lines().filter(|line| line.starts_with("| `") && line.ends_with("|  |")).collect();
        assert_eq!(unexplained, Vec::<&str>::new());
    }
}
