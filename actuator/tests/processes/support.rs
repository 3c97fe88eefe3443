//! What the tests share: specifications of replicas, waiting on conditions, looking at processes.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tidegate_actuator::targets::local::Check;
use tidegate_actuator::{LocalTarget, ProcessSpec};
use tidegate_core::WorkloadId;

use crate::parts::{FOLDER, PART};

/// This program, playing `part`.
pub(crate) fn part_spec(name: &str, part: &str, folder: &Path) -> ProcessSpec {
    let own = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let command = [own.as_str(), "parts::part", "--exact", "--nocapture"].map(str::to_owned).to_vec();
    let mut spec = ProcessSpec::new(WorkloadId::local(name).unwrap(), command, folder.join("logs"));
    spec.env.insert(PART.into(), part.into());
    spec.env.insert(FOLDER.into(), folder.to_str().unwrap().into());
    spec.ready.interval = Duration::from_millis(50);
    spec.stop_grace = Duration::from_secs(3);
    spec
}

/// The little server.
pub(crate) fn server_spec(name: &str, folder: &Path) -> ProcessSpec {
    part_spec(name, "server", folder)
}

/// A shell script that is ready as soon as it runs.
pub(crate) fn shell_spec(name: &str, script: &str, folder: &Path) -> ProcessSpec {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let mut spec = ProcessSpec::new(WorkloadId::local(name).unwrap(), command, folder.join("logs"));
    spec.ready.check = Check::None;
    spec.ready.interval = Duration::from_millis(50);
    spec.stop_grace = Duration::from_secs(1);
    spec
}

/// Waits until it holds, for at most 20 s.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never came true: {what}");
}

/// Waits until `n` replicas and no others are there, all ready.
pub(crate) async fn until_ready(target: &LocalTarget, n: u32) {
    until(&format!("{n} ready"), || {
        let counts = target.counts();
        counts.ready == n && counts.held() == n
    })
    .await;
}

/// Whether a process runs; a zombie does not.
pub(crate) fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The processes of a target.
pub(crate) fn pids(target: &LocalTarget) -> Vec<i32> {
    target.replicas().iter().filter_map(|replica| replica.pid).collect()
}

/// One request; `None` when there was no answer.
pub(crate) async fn ask(method: Method, uri: String) -> Option<(StatusCode, Bytes)> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::builder().method(method).uri(uri).body(Full::<Bytes>::default()).unwrap();
    let answer = client.request(request).await.ok()?;
    let status = answer.status();
    Some((status, answer.into_body().collect().await.ok()?.to_bytes()))
}
