//! Asking a training job of the cluster for a checkpoint, in its first ready worker: over HTTP, by a command, or by a signal.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::{AsyncBufReadExt, TryStreamExt};
use hyper::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, LogParams};
use kube::{Api, Client};
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;

use crate::crds::{CheckpointHook, CheckpointSignal};
use crate::http_call;
use crate::targets::local::chain;

/// Of what a command prints, so much is kept to say why it failed.
const SAID_MAX: u64 = 4096;
/// Longest line of a log that is looked at.
const LINES_MAX: usize = 1_000_000;

/// A pod to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Worker {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) ip: Option<IpAddr>,
}

/// Whoever can ask.
pub(super) trait Asker {
    /// Asks; the answer says that the checkpoint is saved, or why it is not.
    fn ask(&self, hook: &CheckpointHook, worker: Worker) -> JoinHandle<Result<(), String>>;
}

impl Asker for Client {
    fn ask(&self, hook: &CheckpointHook, worker: Worker) -> JoinHandle<Result<(), String>> {
        let (client, hook) = (self.clone(), hook.clone());
        tokio::spawn(async move {
            let limit = hook.deadline.get();
            let asked = tokio::time::timeout(limit, ask(client, &hook, &worker, limit)).await;
            asked.unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs())))
        })
    }
}

async fn ask(client: Client, hook: &CheckpointHook, worker: &Worker, limit: Duration) -> Result<(), String> {
    if let Some(http) = &hook.http {
        let ip = worker.ip.ok_or("the worker has no address")?;
        let address = SocketAddr::new(ip, http.port);
        let answer = http_call::call(address, Method::POST, &http.path, limit).await;
        let status = answer.map_err(|error| chain(&error))?;
        return if status.is_success() { Ok(()) } else { Err(format!("the answer was {status}")) };
    }
    let pods: Api<Pod> = Api::namespaced(client, &worker.namespace);
    let container = hook.container.as_deref();
    if let Some(exec) = &hook.exec {
        return run(&pods, &worker.pod, container, &exec.command).await;
    }
    let Some(signal) = hook.signal else { return Err("the policy says no way to ask".to_owned()) };
    let name = match signal {
        CheckpointSignal::Usr1 => "USR1",
        CheckpointSignal::Usr2 => "USR2",
    };
    // The log is followed from before the signal: the answer may come at once.
    let log = LogParams {
        follow: true,
        tail_lines: Some(0),
        container: container.map(str::to_owned),
        ..LogParams::default()
    };
    let followed = pods.log_stream(&worker.pod, &log).await;
    let mut lines = followed.map_err(|error| format!("its log cannot be read: {}", chain(&error)))?.lines();
    let command = ["kill", "-s", name, "1"].map(str::to_owned);
    run(&pods, &worker.pod, container, &command).await?;
    for _ in 0..LINES_MAX {
        match lines.try_next().await {
            Ok(Some(line)) if says_saved(&line) => return Ok(()),
            Ok(Some(_)) => {}
            Ok(None) => return Err("its log ended".to_owned()),
            Err(error) => return Err(format!("its log cannot be read: {error}")),
        }
    }
    Err("its log does not say that it is saved".to_owned())
}

/// Runs a command in a container to its end.
async fn run(pods: &Api<Pod>, pod: &str, container: Option<&str>, command: &[String]) -> Result<(), String> {
    let params = AttachParams {
        container: container.map(str::to_owned),
        stdin: false,
        stdout: true,
        stderr: true,
        ..AttachParams::default()
    };
    let mut running = pods.exec(pod, command, &params).await.map_err(|error| chain(&error))?;
    let status = running.take_status();
    let (stdout, stderr) = (running.stdout(), running.stderr());
    let mut said = Vec::new();
    // What is printed beyond that is read, too, or the command would wait for a reader.
    let printed = async {
        if let Some(mut stderr) = stderr {
            drop((&mut stderr).take(SAID_MAX).read_to_end(&mut said).await);
            drop(tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await);
        }
    };
    let other = async {
        if let Some(mut stdout) = stdout {
            drop(tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await);
        }
    };
    tokio::join!(printed, other);
    let Some(status) = status else { return Err("the server told of no end".to_owned()) };
    let status = status.await.ok_or("the connection ended before the command")?;
    if status.status.as_deref() == Some("Success") {
        return Ok(());
    }
    let why = status.message.unwrap_or_else(|| "it failed".to_owned());
    let said = String::from_utf8_lossy(&said);
    Err(if said.trim().is_empty() { why } else { format!("{why}: {}", said.trim()) })
}

/// Whether a line of a job's log says that a checkpoint is saved.
fn says_saved(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.contains("checkpoint") && ["saved", "written", "wrote"].iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_says_that_a_checkpoint_is_saved_not_that_it_will_be() {
        for line in ["Saved checkpoint to /out/step-500", "checkpoint written step=40", "wrote checkpoint"] {
            assert!(says_saved(line), "{line}");
        }
        for line in ["Saving model checkpoint to out/", "loss 0.3 saved", "loading checkpoint"] {
            assert!(!says_saved(line), "{line}");
        }
    }
}
