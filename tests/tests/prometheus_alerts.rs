//! The alert rules on a running `tidegate up --demo`: a real Prometheus evaluates each on true figures, and a healthy demo fires none.

use std::time::Duration;

use serde_json::Value;
use tidegate_core::Metric;
use tidegate_tests::repository::root;
use tidegate_tests::servers::{Prometheus, Tidegate, http};
use tidegate_tests::waiting;

/// Replicas start, load arrives and is scraped within this time.
const WARM_UP: Duration = Duration::from_secs(120);

async fn rules(server: &Prometheus) -> Option<Vec<Value>> {
    let answer = http().get(format!("{}/api/v1/rules", server.url())).send().await.ok()?;
    let body: Value = answer.json().await.ok()?;
    let groups = body["data"]["groups"].as_array()?;
    Some(groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect())
}

/// Whether the rule has been evaluated since its start.
fn evaluated(rule: &Value) -> bool {
    rule["health"] != "unknown" && rule["lastEvaluation"].as_str().is_some_and(|at| !at.starts_with("0001"))
}

#[tokio::test]
async fn every_rule_is_evaluated_on_true_figures_and_a_healthy_demo_fires_none() {
    let tidegate = Tidegate::up(&["--demo"]).await;
    let server = Prometheus::start(&[tidegate.address()], &[root().join("alerts/rules/tidegate.yaml")]).await;
    waiting::until("requests through the gateway in Prometheus", WARM_UP, async || {
        let requests = Metric::GatewayRequests.family().name;
        let found = server.query(&format!("sum({requests}) > 50")).await.expect("the query is valid");
        found.first().map(|_| ())
    })
    .await;
    let rules = waiting::until("every rule evaluated", WARM_UP, async || {
        let rules = rules(&server).await?;
        (!rules.is_empty() && rules.iter().all(evaluated)).then_some(rules)
    })
    .await;
    for rule in rules {
        let name = rule["name"].as_str().expect("a rule has a name");
        assert_eq!(rule["health"], "ok", "{name}: {}", rule["lastError"]);
        assert_ne!(rule["state"], "firing", "{name} fires in a healthy demo: {:#}", rule["alerts"]);
    }
}
