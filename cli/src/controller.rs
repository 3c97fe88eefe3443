//! `tidegate controller`: sizes the workloads of a cluster that policies name, until it is told to stop. It takes no scaling
//! decision: it connects the cluster's loop with the history, the API, the metrics, and what demand is read from.

mod autoscalers;
mod demand;
mod digests;
mod door;
mod external_metrics;
mod hub;
mod keda;
mod keeper;
mod prometheus;
mod published;
mod review;
mod rights;
mod round;
mod row;
mod write;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tidegate_actuator::cluster::definitions;
use tidegate_actuator::cluster::lease::{self, Leader, LeaseOptions};
use tidegate_actuator::cluster::watch::Scope;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::{Listen, Reviewer, TlsFiles};
use crate::args::ControllerArgs;
use crate::certificate::Place;
use crate::certificate::renewal::{self, Source};
use crate::ending::{Signals, ended};
use crate::{Usage, output};
use autoscalers::Autoscalers;
use digests::DigestOptions;
use hub::Hub;

/// Runs until SIGINT or SIGTERM; then gives the lease back and leaves everything in force as it is.
pub(crate) async fn run(args: ControllerArgs) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let client = client(args.kubeconfig.as_deref()).await?;
    std::fs::create_dir_all(&args.data)
        .with_context(|| format!("failed to make the data directory {}", args.data.display()))?;
    let source = tls(&args, &client);
    let own = match &source {
        Some(source) => Some(source.shared().await?),
        None => None,
    };
    let tls = own.as_ref().map(|own| own.files.clone());
    let bound = listen(&args, &client, tls.clone())?.bind().context("the API cannot listen")?;
    let url = bound.url();
    let digests = DigestOptions {
        addr: args.digests,
        tls,
        account: args.agent_account.clone(),
        audience: args.agent_audience.clone(),
    };
    let digests = digests.bind()?;
    let digests_url = digests.url()?;
    let autoscalers = Autoscalers::bind(&args.published, source.as_ref(), own.as_ref()).await?;
    let server = prometheus::Server::new(&args)?;
    let stop = CancellationToken::new();
    let scope = match args.namespace.as_slice() {
        [] => Scope::Cluster,
        names => Scope::Namespaces(names.to_vec()),
    };
    drop(tokio::spawn(warn_of_definitions(client.clone())));
    let (authorities, authority) = watch::channel(own.and_then(|own| own.authority));
    if let Some(source) = source {
        let api = bound.tls().map(renewal::plain);
        let served = api.into_iter().chain(digests.renews()).chain(autoscalers.renews()).collect();
        drop(tokio::spawn(renewal::keep(source, served, authorities, stop.clone())));
    }
    let (leads, leading) = watch::channel(Leader::Nobody);
    let hub = Arc::new(Hub::start(&args, client.clone(), scope, &url, leading)?);
    let lease = lease_options(&args, &client);
    let questions = rights::questions(&args, &lease);
    drop(tokio::spawn(rights::review(Arc::clone(&hub), client.clone(), questions, stop.clone())));
    let election = tokio::spawn(lease::elect(client.clone(), lease, leads, stop.clone()));
    let asking = tokio::spawn(prometheus::ask(server, Arc::clone(&hub), stop.clone()));
    let serving = tokio::spawn(bound.serve(Arc::clone(&hub) as _, stop.clone().cancelled_owned()));
    let hearing = tokio::spawn(digests.serve(Arc::clone(&hub), client.clone(), stop.clone()));
    let answering = autoscalers.serve(&hub, &client, &authority, &stop)?;
    let mut rounds = round::start(Arc::clone(&hub), client, stop.clone()).context("no thread for rounds")?;
    tracing::info!(url = digests_url, "agents are heard");
    output::say(&format!("listening on {url}"))?;
    let why = tokio::select! {
        why = signals.next() => Some(why),
        // Whoever decides nothing any more must not lead: another takes over.
        _ = &mut rounds => None,
    };
    tracing::info!(why = why.unwrap_or("the loop has ended"), "stopping");
    stop.cancel();
    if why.is_some() {
        ended(rounds, "the loop").await?;
    }
    ended(asking, "the questions to Prometheus").await?;
    hub.stop().await;
    // The lease last: while writes were under way, nobody else should have begun.
    ended(election, "the election").await?;
    hearing.await.context("the agents' listener panicked")?.context("the agents' listener failed")?;
    for answering in answering {
        answering.await.context("a listener panicked")?.context("the listener for autoscalers failed")?;
    }
    serving.await.context("the API panicked")?.context("the API failed")?;
    why.map(drop).context("the loop ended by itself")
}

/// Warns where the cluster's definitions are not those of this program: fields of a policy may be dropped, and rules not be held.
async fn warn_of_definitions(client: kube::Client) {
    match definitions::lacking(&client).await {
        Ok(found) => {
            for (definition, lacks) in found {
                tracing::warn!(definition, %lacks, "the cluster's definition of a resource lacks what this version needs");
            }
        }
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::warn!(error, "the cluster's definitions of resources could not be read");
        }
    }
}

/// A client for the API server: by the kubeconfig given, else as kubectl finds it, else as a pod's ServiceAccount.
pub(crate) async fn client(kubeconfig: Option<&Path>) -> anyhow::Result<kube::Client> {
    // Another part may have installed it already; it is the same one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let config = match kubeconfig {
        Some(path) => {
            let wrong = || format!("kubeconfig {}", path.display());
            let file = Kubeconfig::read_from(path).map_err(|error| Usage(format!("{}: {error}", wrong())))?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(wrong)?
        }
        None => kube::Config::infer()
            .await
            .context("there is neither a kubeconfig nor a ServiceAccount to reach a cluster with")?,
    };
    kube::Client::try_from(config).context("the cluster cannot be reached as configured")
}

/// Where certificate and key come from: those that are given, or those of the Secret.
fn tls(args: &ControllerArgs, client: &kube::Client) -> Option<Source> {
    if let Some((cert, key)) = args.tls_cert.clone().zip(args.tls_key.clone()) {
        return Some(Source::Given(TlsFiles { cert, key }));
    }
    let secret = args.tls_secret.clone()?;
    let mut names = args.tls_name.clone();
    // Whoever asks from the same pod or node.
    names.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let namespace = lease_options(args, client).namespace;
    let (client, dir) = (client.clone(), args.data.clone());
    Some(Source::Shared(Place { client, namespace, secret, names, dir }))
}

fn listen(args: &ControllerArgs, client: &kube::Client, tls: Option<TlsFiles>) -> anyhow::Result<Listen> {
    let addr = args.listen;
    if !addr.ip().is_loopback() && tls.is_none() {
        let text = format!("{addr} is beyond loopback: that needs --tls-cert and --tls-key, or --tls-secret");
        return Err(Usage(text).into());
    }
    let reviewer: Option<Arc<dyn Reviewer>> = Some(Arc::new(review::ByApiServer::new(client.clone())));
    // On loopback a file of tokens is made where there is none: alerts always need one.
    let own = addr.ip().is_loopback().then(|| args.data.join("tokens"));
    let tokens = args.tokens.clone().or(own);
    Ok(Listen { tls, tokens, reviewer, ..Listen::loopback(addr, args.data.join("tokens")) })
}

fn lease_options(args: &ControllerArgs, client: &kube::Client) -> LeaseOptions {
    let unique = || format!("{}-{}", crate::keep::host_name(), std::process::id());
    LeaseOptions {
        namespace: args.lease_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned()),
        name: args.lease_name.clone(),
        identity: args.identity.clone().unwrap_or_else(unique),
    }
}
