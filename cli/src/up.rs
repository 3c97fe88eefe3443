//! `tidegate up`: watches and sizes workloads on this machine, serves the page and the API, until it is told to stop.

mod backend;
mod board;
mod demo;
mod logging;
mod machine;
mod readings;
mod rivals;
mod round;
mod settings;
mod summary;
mod tell;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::UpArgs;
use crate::output;
pub(crate) use logging::server_config;
use machine::Machine;
use settings::Settings;

/// Runs until SIGINT, SIGTERM or the end of `--for`; then drains and leaves nothing behind.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<()> {
    let settings = Settings::new(&args)?;
    let duration = settings.duration;
    // Taken first: a port or a directory in use is said before anything is started.
    let bound = settings.listen.clone().bind().context("the API cannot listen")?;
    let url = bound.url();
    let machine = Arc::new(Machine::start(settings, &url).await?);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(bound.serve(Arc::clone(&machine) as _, stop.clone().cancelled_owned()));
    let rounds = tokio::spawn(round::run(Arc::clone(&machine), stop.clone()));
    output::say(&format!("listening on {url}"))?;
    let why = wait_for_end(duration).await?;
    tracing::info!(why, "stopping");
    stop.cancel();
    // The loop first, so that nothing is started while replicas end.
    rounds.await.context("the loop panicked")?;
    machine.stop().await;
    serving.await.context("the API panicked")?.context("the API failed")?;
    Ok(())
}

/// What ends a server in good order.
async fn wait_for_end(duration: Option<Duration>) -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let timer = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    Ok(tokio::select! {
        _ = interrupt.recv() => "interrupted",
        _ = terminate.recv() => "terminated",
        () = timer => "the time given by --for is over",
    })
}
