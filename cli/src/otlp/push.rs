//! Pushing Tidegate's own metrics to a collector, if there is one to push to.

use std::sync::Arc;

use anyhow::Context;
use tidegate_agent::export::Registry;
use tidegate_agent::otlp::messages::ExportMetricsServiceRequest;
use tidegate_agent::otlp::{Protocol, PushOptions, Pusher};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::args::PushArgs;
use crate::config::{Push, PushProtocol};

/// Who tells: the attributes of the resource.
pub(crate) type Resource = Vec<(&'static str, String)>;

/// As the command line says.
pub(crate) fn of_args(args: &PushArgs) -> Option<Push> {
    args.otlp_push.clone().map(|url| Push {
        url,
        protocol: args.otlp_push_protocol,
        every: args.otlp_push_every,
        ca_file: args.otlp_push_ca.clone(),
        headers_file: args.otlp_push_headers.clone(),
    })
}

/// The resource of a program on this host; with the name of the node where it is one of a cluster.
pub(crate) fn resource(program: &str, host: &str, node: bool) -> Resource {
    let mut resource = vec![
        ("service.name", format!("tidegate-{program}")),
        ("service.instance.id", host.to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("host.name", host.to_owned()),
    ];
    if node {
        resource.push(("k8s.node.name", host.to_owned()));
    }
    resource
}

/// Reads the files that the settings name.
///
/// # Errors
/// When the address or a file is wrong.
pub(crate) fn prepare(push: Option<&Push>, registry: &Arc<Registry>) -> anyhow::Result<Option<Pusher>> {
    let Some(push) = push else { return Ok(None) };
    let options = PushOptions {
        url: push.url.clone(),
        protocol: match push.protocol {
            PushProtocol::Grpc => Protocol::Grpc,
            PushProtocol::Http => Protocol::Http,
        },
        every: push.every.get(),
        ca_file: push.ca_file.clone(),
        headers_file: push.headers_file.clone(),
    };
    Pusher::new(options, Arc::clone(registry)).context("metrics cannot be pushed").map(Some)
}

/// Pushes what `page` gives, until its sender says stop.
pub(crate) fn start(
    pusher: Option<Pusher>,
    page: impl Fn() -> Vec<ExportMetricsServiceRequest> + Send + Sync + 'static,
) -> Option<(watch::Sender<bool>, JoinHandle<()>)> {
    pusher.map(|pusher| {
        let (stop, stopped) = watch::channel(false);
        (stop, tokio::spawn(pusher.run(page, stopped)))
    })
}

/// Pushes once more, and ends.
pub(crate) async fn end(pushing: Option<(watch::Sender<bool>, JoinHandle<()>)>) -> anyhow::Result<()> {
    let Some((stop, pushing)) = pushing else { return Ok(()) };
    stop.send_replace(true);
    pushing.await.context("pushing metrics panicked")
}
