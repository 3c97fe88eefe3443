//! Shows a load while it goes on, on a terminal, and prints its summary.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::generator::Generator;
use super::tally::Snapshot;
use crate::args::Output;
use crate::output;

/// Often enough to look alive.
const REDRAW: Duration = Duration::from_millis(500);

/// Shows how it goes until `duration` is over or Ctrl-C; whether it was Ctrl-C. Draws nothing where stderr is no terminal.
///
/// # Errors
/// When Ctrl-C cannot be waited for.
pub(super) async fn follow(generator: &Generator, duration: Option<Duration>) -> anyhow::Result<bool> {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("a constant template"));
    // A century away, where there is no end.
    let end = Instant::now() + duration.unwrap_or(Duration::from_secs(100 * 365 * 86_400));
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let interrupted = loop {
        tokio::select! {
            asked = &mut interrupt => break asked.map(|()| true)?,
            () = tokio::time::sleep_until(end) => break false,
            () = tokio::time::sleep(REDRAW) => {
                bar.set_message(line(&generator.snapshot()));
                bar.tick();
            }
        }
    };
    bar.finish_and_clear();
    Ok(interrupted)
}

fn line(now: &Snapshot) -> String {
    let failed: u64 = now.failed.values().sum();
    format!(
        "{:.0} s  due {}  ok {}  failed {failed}  not sent {}  in flight {}  p95 {} s",
        now.seconds,
        now.due,
        now.ok,
        now.not_sent,
        now.in_flight,
        output::known(now.latency_s.p95)
    )
}

/// Prints the summary.
///
/// # Errors
/// When stdout cannot be written.
pub(super) fn print(how: Output, end: &Snapshot) -> anyhow::Result<()> {
    output::print(how, &["figure", "value"], &rows(end), end)
}

fn rows(end: &Snapshot) -> Vec<Vec<String>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("seconds", format!("{:.1}", end.seconds)),
        row("due", end.due.to_string()),
        row("due per second", output::number(end.due_rps)),
        row("sent", end.sent.to_string()),
        row("not sent", end.not_sent.to_string()),
        row("ok", end.ok.to_string()),
        row("ok per second", output::number(end.ok_rps)),
    ];
    for (outcome, count) in &end.failed {
        let name = serde_json::to_value(outcome).ok().and_then(|name| Some(name.as_str()?.replace('_', " ")));
        rows.push(row(&format!("failed: {}", name.unwrap_or_default()), count.to_string()));
    }
    rows.push(row("unanswered", end.in_flight.to_string()));
    let latency = [("p50", end.latency_s.p50), ("p95", end.latency_s.p95), ("p99", end.latency_s.p99)];
    rows.extend(latency.map(|(name, seconds)| row(&format!("latency {name} (s)"), precise(seconds))));
    rows
}

fn precise(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "–".into(), |seconds| format!("{seconds:.4}"))
}
