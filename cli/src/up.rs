//! `tidegate up`: watches and sizes workloads on this machine, serves the page and the API, until it is told to stop.

mod backend;
mod demo;
mod logging;
mod machine;
mod readings;
mod rivals;
mod round;
mod settings;
mod tell;

use std::sync::Arc;

use anyhow::Context;
use tidegate_agent::export::Registry;
use tokio_util::sync::CancellationToken;

use crate::args::UpArgs;
use crate::ending::{Signals, ended, over};
use crate::otlp::{self, Ports, push};
use crate::output;
pub(crate) use logging::server_config;
use machine::Machine;
use settings::Settings;
pub(crate) use settings::missing_commands;

/// Runs until SIGINT, SIGTERM or the end of `--for`; then drains and leaves nothing behind.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<()> {
    // Taken first: also what is only half started is ended in good order.
    let mut signals = Signals::new()?;
    let settings = Settings::new(&args)?;
    let duration = settings.duration;
    // A port or a directory in use is said before anything is started.
    let bound = settings.listen.clone().bind().context("the API cannot listen")?;
    let url = bound.url();
    let ports = otlp::bind(settings.otlp.grpc, settings.otlp.http, &settings.listen)
        .context("the OTLP receiver cannot listen")?;
    let inbox = ports.as_ref().map(Ports::inbox);
    let registry = Arc::new(Registry::new());
    let pusher = push::prepare(settings.otlp.push.as_ref(), &registry)?;
    let machine = tokio::select! {
        started = Machine::start(settings, &url, registry, inbox) => Arc::new(started?),
        why = signals.next() => {
            tracing::info!(why, "stopped before the start was over");
            return Ok(());
        }
    };
    let (told, resource) = (Arc::clone(&machine), push::resource("up", &machine.host, false));
    let pushing = push::start(pusher, move || told.exporter.requests(&resource));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(bound.serve(Arc::clone(&machine) as _, stop.clone().cancelled_owned()));
    let rounds = tokio::spawn(round::run(Arc::clone(&machine), stop.clone()));
    let looking = tokio::spawn(logging::look_up(Arc::clone(&machine), stop.clone()));
    let spool = machine.spool();
    for url in ports.iter().flat_map(Ports::urls) {
        output::say(&otlp::said(&url, spool.is_some()))?;
    }
    let receiving = ports.map(|ports| ports.serve(spool, &machine.registry, &stop));
    output::say(&format!("listening on {url}"))?;
    let why = tokio::select! {
        why = signals.next() => why,
        () = over(duration) => "the time given by --for is over",
    };
    tracing::info!(why, "stopping");
    stop.cancel();
    // The loop first, so that nothing is started while replicas end.
    ended(rounds, "the loop").await?;
    ended(looking, "the look-up of lines").await?;
    push::end(pushing).await?;
    if let Some(receiving) = receiving {
        receiving.await.context("the OTLP receiver panicked")??;
    }
    machine.stop().await;
    serving.await.context("the API panicked")?.context("the API failed")?;
    Ok(())
}
