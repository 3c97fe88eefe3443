//! The page of the custom resources, made from their definitions.

use std::fmt::Write as _;

use serde_json::Value;
use tidegate_actuator::crds::{ConditionReason, ConditionType, definitions};

use super::row;

const INTRO: &str = "\
# Policies

In a cluster, the intent for a workload is a `ServingPolicy` or a `TrainingPolicy` in its namespace; GPUs that several share are a `GpuPool`.
`tidegate crds | kubectl apply --server-side -f -` teaches the API server these kinds. Unknown fields are refused by `kubectl`; whatever breaks a
rule below is refused by the API server. Lengths of time are written as `250ms`, `30s`, `5m`, `1h30m`, `7d`.
Examples: [`deploy/examples/`](../deploy/examples/).

A useful policy is short, and starts in shadow: it decides and shows, and changes nothing until its `mode` is `active`.

```yaml
apiVersion: tidegate.io/v1alpha1
kind: ServingPolicy
metadata: {name: chat}
spec:
  target: {kind: Deployment, name: chat}
  replicas: {min: 2, max: 20}
  slo: {latency: 2s, target: 0.99}
```
";

/// The page as Markdown.
pub(super) fn page() -> String {
    let mut text = INTRO.to_owned();
    for definition in definitions() {
        let definition = serde_json::to_value(definition).expect("a definition is JSON");
        resource(&mut text, &definition);
    }
    conditions(&mut text);
    text
}

fn resource(text: &mut String, definition: &Value) {
    let (spec, version) = (&definition["spec"], &definition["spec"]["versions"][0]);
    let schema = &version["schema"]["openAPIV3Schema"];
    let names = &spec["names"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, short, about) =
        (word(&names["kind"]), word(&names["shortNames"][0]), word(&schema["description"]));
    let scope = if spec["scope"] == "Namespaced" { "namespaced" } else { "of the whole cluster" };
    write!(text, "\n## {kind}\n\n{about}\n\nShort name `{short}`, {scope}.\n\n### {kind}: spec\n\n")
        .expect("writing to a string cannot fail");
    text.push_str("| Field | Type | Default | Meaning |\n|---|---|---|---|\n");
    fields(text, &schema["properties"]["spec"], "", true);
    write!(text, "\n### {kind}: rules\n\n").expect("writing to a string cannot fail");
    for rule in schema["properties"]["spec"]["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let message = word(&rule["message"]);
        let (path, expected) = message.split_once(' ').unwrap_or((&message, ""));
        writeln!(text, "- `{path}` {expected}").expect("writing to a string cannot fail");
    }
    write!(text, "\n### {kind}: status\n\n| Field | Type | Meaning |\n|---|---|---|\n")
        .expect("writing to a string cannot fail");
    fields(text, &schema["properties"]["status"], "", false);
}

/// A row for each field, and after it those within it.
fn fields(text: &mut String, schema: &Value, above: &str, defaults: bool) {
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        let about = field["description"].as_str().unwrap_or_default().replace('\n', "<br>");
        let shown = format!("`{path}`");
        if defaults {
            let default = match &field["default"] {
                Value::Null if required.contains(&name.as_str()) => "required".to_owned(),
                Value::Null | Value::Object(_) => "–".to_owned(),
                value => format!("`{value}`"),
            };
            row(text, &[&shown, type_name(field), &default, &about]);
        } else {
            row(text, &[&shown, type_name(field), &about]);
        }
        // A condition is the same everywhere.
        if name != "conditions" {
            fields(text, field, &path, defaults);
            fields(text, &field["items"], &format!("{path}[]"), defaults);
        }
    }
}

fn type_name(field: &Value) -> &str {
    let span = field["pattern"].as_str().is_some_and(|pattern| pattern.contains("ms|s|m|h|d"));
    match field["type"].as_str() {
        Some("string") if span => "length of time",
        Some("string") if !field["enum"].is_null() => "word",
        Some("string") if field["format"] == "date-time" => "time",
        Some("object") if field["properties"].is_null() => "map",
        Some("array") => "list",
        Some(name) => name,
        None => "any",
    }
}

fn conditions(text: &mut String) {
    text.push_str("\n## Conditions\n\n`True` is the state wanted, but for `Conflict`.\n\n| Type | Reason | Meaning |\n|---|---|---|\n");
    for kind in ConditionType::ALL {
        row(text, &[&format!("`{}`", kind.as_str()), "", kind.help().trim()]);
        for reason in ConditionReason::ALL.iter().filter(|reason| reason.of() == *kind) {
            row(text, &["", &format!("`{}`", reason.as_str()), reason.help().trim()]);
        }
    }
}
