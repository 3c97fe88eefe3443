//! `tidegate backtest`: what Tidegate and others would have done with recorded traffic, and what it would have cost.

mod args;
mod contest;
mod page;
mod prometheus;
mod recorded;
mod replica;
mod report;
mod score;
mod tokens;
mod traffic;
mod worst;

use anyhow::Context;

use self::contest::Contest;
use self::replica::Replica;
use self::report::Report;
use crate::{Usage, output};

pub(crate) use self::args::BacktestArgs;

/// Most requests of the scored time: a minute for each run.
const REQUESTS_MAX: f64 = 1e9;

/// Reads the load, lets every policy have it, and tells what came of it.
///
/// # Errors
/// When an argument or the load is wrong, or a result cannot be written.
pub(crate) async fn run(args: BacktestArgs) -> anyhow::Result<()> {
    let traffic = traffic::read(&args).await?;
    // A thread of its own, not the runtime's: the program ends without waiting for it when it is interrupted.
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Whoever waited may have been interrupted.
        drop(done.send(compare(&args, traffic).map(|report| (args, report))));
    });
    let (args, report) = result.await.context("the simulation broke off")??;
    if let Some(file) = &args.html {
        let page = page::html(&report).context("failed to make the page")?;
        std::fs::write(file, page).with_context(|| format!("failed to write {}", file.display()))?;
    }
    report.print(args.output)
}

fn compare(args: &BacktestArgs, traffic: traffic::Traffic) -> anyhow::Result<Report> {
    let asked = &args.contest;
    let replica = Replica::new(&args.service, &args.engine, &traffic)?;
    let wanted_rps = asked.scale.map(|replicas| f64::from(replicas) * replica.rps());
    let split = traffic.split(asked.days, |peak_rps| wanted_rps.map_or(1.0, |wanted| wanted / peak_rps))?;
    let expected: f64 =
        split.scored.values().iter().flatten().sum::<f64>() * split.scored.step().as_secs_f64();
    if expected > REQUESTS_MAX {
        return Err(Usage(format!(
            "{}: {expected:.0} requests are more than can be simulated; --days and --scale make them fewer",
            split.source
        ))
        .into());
    }
    let contest = Contest::new(&split, replica, &args.service, asked);
    let bar = output::progress(contest.len() as u64, "runs", args.quiet);
    let runs = contest.run(&bar)?;
    bar.finish_and_clear();
    Ok(Report::new(args, &split, &replica, &runs))
}
