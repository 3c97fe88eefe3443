//! `tidegate load`: sends requests to an HTTP service as they would arrive, at a rate, a daily pattern or a recorded trace's.
//!
//! Open loop: a request is sent when it is due, whether or not earlier ones are answered; what is over the bound is counted, never queued.

mod generator;
mod report;
mod shape;
mod tally;
mod target;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use tidegate_core::Span;

use crate::Usage;
use crate::args::Output;
use crate::trace::Unit;

pub(crate) use self::generator::{Generator, Limits};
pub(crate) use self::shape::Shape;
pub(crate) use self::tally::Snapshot;

/// Shapes of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Named {
    /// A day with a steep morning, a dip at noon, a fall in the evening, noise and one burst.
    Daily,
}

/// `tidegate load`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate load http://127.0.0.1:8000/predict --body digits --rate 30 --for 1m
  tidegate load http://127.0.0.1:8000/ --pattern daily --base 5 --peak 60 --speed 288
  tidegate load http://127.0.0.1:8000/ --trace load.csv.gz --unit req/min --speed 60 --output json

Without --for, a trace is sent once; anything else goes on until Ctrl-C, which ends it with the summary.")]
pub(crate) struct LoadArgs {
    /// Where to send: an http:// address.
    pub(crate) url: String,
    /// Requests per second, always the same.
    #[arg(long, value_name = "RPS", default_value_t = 20.0, value_parser = rate, conflicts_with_all = ["pattern", "trace"])]
    pub(crate) rate: f64,
    /// A made-up shape.
    #[arg(long, value_enum, conflicts_with = "trace")]
    pub(crate) pattern: Option<Named>,
    /// Requests per second at night.
    #[arg(long, value_name = "RPS", default_value_t = 10.0, value_parser = rate, requires = "pattern")]
    pub(crate) base: f64,
    /// Requests per second at the peak.
    #[arg(long, value_name = "RPS", default_value_t = 80.0, value_parser = rate, requires = "pattern")]
    pub(crate) peak: f64,
    /// A recorded shape: CSV with `timestamp_s,value`, also gzipped.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Unit of the trace's values.
    #[arg(long, value_name = "UNIT", default_value = "req/s", requires = "trace")]
    pub(crate) unit: Unit,
    /// How much faster the pattern's or the trace's time runs; rates stay as they are.
    #[arg(long, value_name = "X", default_value_t = 144.0, value_parser = speed)]
    pub(crate) speed: f64,
    /// Stop after this long, as in 5m.
    #[arg(long = "for", value_name = "DURATION")]
    pub(crate) duration: Option<Span>,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Requests under way at once, each on a connection of its own; one more is counted as not sent.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) connections: u16,
    /// What to POST: `digits` for images of the sample service, or a file's content. Without it, GET.
    #[arg(long, value_name = "digits|FILE")]
    pub(crate) body: Option<String>,
    /// Send to another machine. Only load what is yours.
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// How to print the summary.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// A load with an end was interrupted before it; its summary has been printed.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// Sends the load, shows how it goes on a terminal, and prints a summary. Takes care of Ctrl-C itself.
///
/// # Errors
/// When an argument or file is wrong, nothing was answered, or a load with an end was interrupted.
pub(crate) async fn run(args: LoadArgs) -> anyhow::Result<()> {
    let target = target::Target::new(&args.url, args.body.as_deref(), args.seed, args.allow_remote)?;
    let shape = shape_of(&args)?;
    let once = args.trace.as_ref().and_then(|_| shape.period());
    let duration = args.duration.map(Span::get).or(once);
    let limits = Limits { in_flight_max: args.connections.into(), ..Limits::default() };
    let generator = Generator::start(target, shape, Duration::ZERO, args.seed, limits);
    let interrupted = report::follow(&generator, duration).await?;
    let end = generator.stop().await;
    report::print(args.output, &end)?;
    if interrupted && duration.is_some() {
        return Err(Interrupted.into());
    }
    anyhow::ensure!(end.sent == 0 || end.answered() > 0, "{} was not answered once", args.url);
    Ok(())
}

fn shape_of(args: &LoadArgs) -> anyhow::Result<Shape> {
    if let Some(file) = &args.trace {
        return Shape::recorded(file, args.unit, args.speed);
    }
    if args.pattern.is_none() {
        return Ok(Shape::steady(args.rate));
    }
    if args.base > args.peak {
        return Err(Usage(format!(
            "expected --base at or below --peak, got {} and {}",
            args.base, args.peak
        ))
        .into());
    }
    let day = Duration::from_secs_f64(86_400.0 / args.speed);
    Ok(Shape::daily(args.base, args.peak, day, args.seed))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    // More than one process on one machine makes and sends.
    if (0.0..=100_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("expected a number from 0 to 100000".into())
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    // Above that, a day is shorter than a second.
    if (0.01..=86_400.0).contains(&speed) {
        Ok(speed)
    } else {
        Err("expected a number from 0.01 to 86400".into())
    }
}
