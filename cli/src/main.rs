//! `tidegate`: the binary. Parses the command line, sets up logging, runs one command, and turns its end into an exit status.

mod adopt;
mod agent;
mod api;
mod args;
mod backtest;
mod board;
mod certificate;
mod check;
mod client;
mod clock;
mod config;
mod controller;
mod crds;
mod ending;
mod explain;
mod forecast;
mod gpus;
mod keep;
mod load;
mod logs;
mod otlp;
mod output;
mod reference;
mod replay;
mod show;
mod steer;
mod summary;
mod told;
mod trace;
mod up;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;

use args::{Args, Command, Sample};

/// Exit status for a wrong command line or configuration (`EX_USAGE` of sysexits).
const USAGE: u8 = 64;
/// Exit status of a one-shot command that was interrupted: 128 + SIGINT, as shells report it.
const INTERRUPTED: u8 = 130;

/// An error that is the user's to mend: ends with status 64.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let wrong = error.use_stderr();
            // Nothing is left to tell a closed terminal.
            drop(error.print());
            return if wrong { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if let Err(error) = log_to_stderr(&args) {
        return tell(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let status = runtime.block_on(run(args.command));
    // A blocking read that never ends must not keep the program from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    status
}

fn log_to_stderr(args: &Args) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log)
        .map_err(|error| Usage(format!("wrong --log (or TIDEGATE_LOG) {:?}: {error}", args.log)))?;
    // The client's library logs every refused connection as an error of its own; who called it says the same, once.
    let quiet = "kube_client::client::builder=off".parse().expect("the directive is right");
    let filter = if args.log.contains("kube") { filter } else { filter.add_directive(quiet) };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if args.log_json {
        builder.json().init();
    } else {
        builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
    }
    Ok(())
}

async fn run(command: Command) -> ExitCode {
    let ended = match command {
        // Servers take care of signals themselves: they drain and end with 0.
        Command::Up(args) => up::run(*args).await,
        Command::Controller(args) => controller::run(*args).await,
        Command::Agent(args) => agent::run(*args).await,
        Command::Sample(Sample::DigitsServe(args)) => {
            tidegate_digits::serve::run(args).await.map_err(Into::into)
        }
        Command::Sample(Sample::DigitsTrain(args)) => {
            tidegate_digits::train::run(args).await.map_err(Into::into)
        }
        // Prints its summary when it is interrupted.
        Command::Load(args) => load::run(args).await,
        other => match interruptible(one_shot(other)).await {
            Some(ended) => ended,
            None => return ExitCode::from(INTERRUPTED),
        },
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<load::Interrupted>() => ExitCode::from(INTERRUPTED),
        Err(error) => tell(&error),
    }
}

/// Runs a command that Ctrl-C cuts short: `None`. Listens for it before the command begins, not when it first waits.
async fn interruptible(command: impl Future<Output = anyhow::Result<()>>) -> Option<anyhow::Result<()>> {
    let interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
    let mut interrupt = match interrupt {
        Ok(interrupt) => interrupt,
        Err(error) => return Some(Err(anyhow::Error::new(error).context("failed to listen for Ctrl-C"))),
    };
    tokio::select! {
        ended = command => Some(ended),
        _ = interrupt.recv() => None,
    }
}

async fn one_shot(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Check(args) => check::run(args).await,
        Command::Forecast(args) => tokio::task::spawn_blocking(move || forecast::run(&args)).await?,
        Command::Backtest(args) => backtest::run(*args).await,
        Command::Replay => {
            let talk = || replay::run(std::io::stdin().lock(), std::io::stdout().lock());
            tokio::task::spawn_blocking(talk).await?
        }
        Command::Explain(args) => explain::run(args).await,
        Command::Activate(args) => steer::activate(args).await,
        Command::Shadow(args) => steer::shadow(args).await,
        Command::Pause { args, lasting } => steer::pause(args, lasting.get()).await,
        Command::Resume(args) => steer::resume(args).await,
        Command::Release(args) => steer::release(args).await,
        Command::Adopt(args) => adopt::run(args).await,
        Command::Restore(args) => steer::restore(args).await,
        Command::Top(args) => steer::top(args).await,
        Command::Logs(args) => logs::run(args).await,
        Command::Crds { output } => output::say(crds::print(output)?.trim_end()),
        Command::Completions { shell } => {
            // By way of memory: the generator panics when its reader has gone away.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "tidegate", &mut script);
            output::say(String::from_utf8_lossy(&script).trim_end())
        }
        Command::Reference { page } => output::say(reference::page(page).trim_end()),
        Command::Up(_)
        | Command::Controller(_)
        | Command::Agent(_)
        | Command::Sample(_)
        | Command::Load(_) => unreachable!("these are run before"),
    }
}

/// Prints the error with its whole chain. What the user gave ends with 64 when it is wrong: usage, configuration, a trace; all else with 1.
fn tell(error: &anyhow::Error) -> ExitCode {
    let given = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<Usage>() || cause.is::<config::ConfigError>() || cause.is::<trace::TraceError>()
    };
    let usage = error.chain().any(given);
    eprintln!("error: {error:#}");
    ExitCode::from(if usage { USAGE } else { 1 })
}
