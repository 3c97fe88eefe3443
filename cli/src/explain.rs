//! `tidegate explain`: the last decisions of a workload, reason by reason, in the words of the decision itself.

use serde_json::Value;

use crate::args::{ExplainArgs, Output, Which};
use crate::{client, output, steer};

pub(crate) async fn run(args: ExplainArgs) -> anyhow::Result<()> {
    if args.workload.matches('/').count() == 1 {
        let which = Which {
            name: Some(args.workload),
            namespace: args.namespace,
            all_namespaces: false,
            kubeconfig: args.kubeconfig,
        };
        return steer::explain(&which, args.output).await;
    }
    let id = client::workload_id(&args.server, &args.workload).await?;
    let path = format!("/api/v1/workloads/{id}/decisions");
    let answer = client::get(&args.server, &path, &[("limit", args.last.to_string())]).await?;
    let decisions = answer["decisions"].as_array().map_or(&[][..], Vec::as_slice);
    if decisions.is_empty() && args.output == Output::Table {
        return output::say(&format!("{id}: no decision yet"));
    }
    match args.output {
        Output::Table => decisions.iter().try_for_each(|decision| output::say(&story(&id, decision))),
        how => output::print(how, &["at", "from", "to", "step", "code", "text"], &rows(decisions), &answer),
    }
}

fn story(id: &str, decision: &Value) -> String {
    let text = |key: &str| decision[key].as_str().unwrap_or("–").to_owned();
    let mut lines = vec![format!("{id}  {}  {} → {}", text("at"), decision["from"], decision["to"])];
    for (step, reason) in reasons(decision).enumerate() {
        let code = reason["code"].as_str().unwrap_or("?");
        lines.push(format!("  {:>2}. {code:<24} {}", step + 1, reason["text"].as_str().unwrap_or("")));
    }
    let hpa = &decision["baseline"]["hpa"];
    lines.push(format!(
        "      an HPA would ask for {}",
        if hpa.is_null() { "–".into() } else { hpa.to_string() }
    ));
    let inputs = decision["inputs"].as_object().into_iter().flatten();
    let seen: Vec<_> =
        inputs.map(|(k, v)| format!("{k} {}", v.as_f64().map_or("–".into(), output::number))).collect();
    lines.push(format!("      seen: {}", seen.join(", ")));
    lines.join("\n")
}

fn reasons(decision: &Value) -> impl Iterator<Item = &Value> {
    decision["reasons"].as_array().into_iter().flatten()
}

fn rows(decisions: &[Value]) -> Vec<Vec<String>> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let of = |decision: &Value| {
        let head = [plain(&decision["at"]), plain(&decision["from"]), plain(&decision["to"])];
        let row = |(step, reason): (usize, &Value)| {
            [&head[..], &[(step + 1).to_string(), plain(&reason["code"]), plain(&reason["text"])]].concat()
        };
        reasons(decision).enumerate().map(row).collect::<Vec<_>>()
    };
    decisions.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_names_every_step_and_what_is_unknown() {
        let decision = serde_json::json!({
            "at": "2026-01-01T00:00:00Z", "from": 2, "to": 4,
            "reasons": [{"code": "predicted", "text": "4 for 40 req/s"}, {"code": "max_replicas", "text": "never more than 4"}],
            "baseline": {"hpa": null}, "inputs": {"demand_rps": 12.34, "queued": null},
        });
        let story = story("a/b/c", &decision);
        assert!(
            story.contains("2 → 4") && story.contains("1. predicted") && story.contains("2. max_replicas")
        );
        assert!(
            story.contains("HPA would ask for –")
                && story.contains("demand_rps 12.3")
                && story.contains("queued –")
        );
        assert_eq!(rows(&[decision]).len(), 2);
    }
}
