//! Every query of every dashboard is executed by a real Prometheus that scrapes a running `tidegate up --demo`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tidegate_tests::dashboards::{Query, filled, queries};
use tidegate_tests::repository::{files, text};
use tidegate_tests::servers::{Prometheus, Tidegate};
use tidegate_tests::waiting;

/// Replicas start, demand arrives, a forecast is made and workers make steps within this time.
const WARM_UP: Duration = Duration::from_secs(180);

/// Parts of metric names whose queries may find nothing in a few healthy minutes: faults, rare ends, what not every kernel tells.
const MAY_BE_EMPTY: [&str; 7] =
    ["condition", "dead_lettered", "gateway_dropped", "pressure", "replica_restarts", "resize", "retries"];

fn all_queries() -> Vec<Query> {
    let dashboards = files().into_iter().filter(|path| path.starts_with("dashboards/grafana"));
    let read = dashboards
        .map(|path| serde_json::from_str::<Value>(&text(&path).expect("it is text")).expect("it is JSON"));
    let found: Vec<Query> = read.flat_map(|dashboard| queries(&dashboard)).collect();
    assert!(!found.is_empty(), "there are no queries");
    found
}

/// Queries without a result now; an invalid one fails at once.
async fn without_result(server: &Prometheus, all: &[Query]) -> BTreeSet<String> {
    let mut empty = BTreeSet::new();
    for query in all {
        let expression = filled(&query.expression, &[("workload", ".*")]);
        match server.query(&expression).await {
            Ok(found) if found.is_empty() => drop(empty.insert(expression)),
            Ok(_) => {}
            Err(reason) => panic!("{}: `{expression}` is refused: {reason}", query.panel),
        }
    }
    empty
}

fn may_be_empty(expression: &str) -> bool {
    MAY_BE_EMPTY.iter().any(|word| expression.contains(word))
}

#[tokio::test]
async fn every_query_of_every_dashboard_finds_what_it_shows() {
    let tidegate = Tidegate::up(&["--demo"]).await;
    let server = Prometheus::start(&[tidegate.address()], &[]).await;
    let all = all_queries();
    let mut missing = BTreeSet::new();
    let found = waiting::within(WARM_UP, async || {
        missing = without_result(&server, &all)
            .await
            .into_iter()
            .filter(|expression| !may_be_empty(expression))
            .collect();
        missing.is_empty().then_some(())
    });
    assert!(found.await.is_some(), "no result for:\n{}", missing.into_iter().collect::<Vec<_>>().join("\n"));
}
