//! Asks a running Tidegate: what `explain` and `logs` have in common.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::Usage;
use crate::args::Server;

/// A local answer takes milliseconds; a server that takes longer than this is not well.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Gets one JSON document. A problem document becomes the error.
pub(crate) async fn get(server: &Server, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
    // Another part may have installed it already; it is the same one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let http =
        reqwest::Client::builder().timeout(TIMEOUT).build().context("failed to make an HTTP client")?;
    let base = server.server.trim_end_matches('/');
    let url = format!("{base}{path}");
    let url = reqwest::Url::parse_with_params(&url, query)
        .map_err(|e| Usage(format!("wrong --server {base}: {e}")))?;
    let mut request = http.get(url);
    if let Some(file) = &server.token_file {
        let token =
            std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
        request = request.bearer_auth(token.split_whitespace().next().unwrap_or_default());
    }
    let answer = request
        .send()
        .await
        .with_context(|| format!("no Tidegate answers at {base}; is `tidegate up` running?"))?;
    let status = answer.status();
    let body: Value =
        answer.json().await.with_context(|| format!("{base}{path} did not answer with JSON"))?;
    if !status.is_success() {
        let text = body["detail"].as_str().or(body["title"].as_str()).unwrap_or("no reason given");
        bail!("{status}: {text}");
    }
    Ok(body)
}

/// The id of a workload given by id or by name.
pub(crate) async fn workload_id(server: &Server, given: &str) -> anyhow::Result<String> {
    if given.contains('/') {
        return Ok(given.to_owned());
    }
    let listed = get(server, "/api/v1/workloads", &[]).await?;
    let ids: Vec<&str> =
        listed["workloads"].as_array().into_iter().flatten().filter_map(|w| w["id"].as_str()).collect();
    let found: Vec<_> = ids.iter().filter(|id| id.split('/').nth(2) == Some(given)).collect();
    match found[..] {
        [id] => Ok((*id).to_owned()),
        [] => bail!("no workload is named {given}; there are: {}", ids.join(", ")),
        _ => bail!("several workloads are named {given}; give the whole id"),
    }
}
