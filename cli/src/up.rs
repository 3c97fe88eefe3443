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
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::UpArgs;
use crate::output;
pub(crate) use logging::server_config;
use machine::Machine;
use settings::Settings;
pub(crate) use settings::missing_commands;

/// How long the loop, or the look-up of lines, may take to end: many times a round's length.
const PART_ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Runs until SIGINT, SIGTERM or the end of `--for`; then drains and leaves nothing behind.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<()> {
    // Taken first: also what is only half started is ended in good order.
    let mut signals = Signals::new()?;
    let settings = Settings::new(&args)?;
    let duration = settings.duration;
    // A port or a directory in use is said before anything is started.
    let bound = settings.listen.clone().bind().context("the API cannot listen")?;
    let url = bound.url();
    let machine = tokio::select! {
        started = Machine::start(settings, &url) => Arc::new(started?),
        why = signals.next() => {
            tracing::info!(why, "stopped before the start was over");
            return Ok(());
        }
    };
    let stop = CancellationToken::new();
    let serving = tokio::spawn(bound.serve(Arc::clone(&machine) as _, stop.clone().cancelled_owned()));
    let rounds = tokio::spawn(round::run(Arc::clone(&machine), stop.clone()));
    let looking = tokio::spawn(logging::look_up(Arc::clone(&machine), stop.clone()));
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
    machine.stop().await;
    serving.await.context("the API panicked")?.context("the API failed")?;
    Ok(())
}

/// Waits for a part that was told to stop, but not for ever: a disk that hangs must not keep replicas from being ended.
async fn ended(part: tokio::task::JoinHandle<()>, name: &str) -> anyhow::Result<()> {
    match tokio::time::timeout(PART_ENDS_WITHIN, part).await {
        Ok(ended) => ended.with_context(|| format!("{name} panicked")),
        Err(_) => {
            tracing::error!(part = name, "did not stop in time; going on without it");
            Ok(())
        }
    }
}

/// The signals that end a server in good order.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
        }
    }
}

async fn over(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
