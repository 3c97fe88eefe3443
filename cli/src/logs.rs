//! `tidegate logs`: log lines that a running Tidegate keeps in memory.

use serde_json::Value;

use crate::args::LogsArgs;
use crate::{client, output};

pub(crate) async fn run(args: LogsArgs) -> anyhow::Result<()> {
    let mut query = vec![("limit", args.limit.to_string())];
    if let Some(workload) = &args.workload {
        query.push(("workload", client::workload_id(&args.server, workload).await?));
    }
    let optional = [("class", &args.class), ("level", &args.level), ("q", &args.query)];
    query.extend(optional.into_iter().filter_map(|(name, value)| value.clone().map(|value| (name, value))));
    let answer = client::get(&args.server, "/api/v1/logs", &query).await?;
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or("–").to_owned();
    let keys = ["at", "workload", "level", "class", "text"];
    let lines = answer["logs"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = lines.map(|line| keys.map(|key| text(line, key)).to_vec()).collect();
    output::print(args.output, &keys, &rows, &answer)
}
