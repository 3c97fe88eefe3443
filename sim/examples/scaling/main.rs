//! What each ingredient of Tidegate buys on real loads: a day of each trace under Tidegate, under Tidegate with one ingredient left
//! out at a time, and under what people run today, beside the oracle.
//!
//! `TIDEGATE_TRACES=DIR cargo run --release -p tidegate-sim --example scaling [DAYS] [SERIES…]`
//!
//! DAYS are scored (1). Without SERIES: the long traces of requests whose steps are five minutes at most. Runs are spread over the
//! cores; figures depend on neither their number nor their order.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod contest;
mod report;
mod traces;

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use contest::{ENTRANTS, compete};
use tidegate_sim::Run;
use traces::{Scene, load};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let Some(folder) = std::env::var_os("TIDEGATE_TRACES") else {
        return Err("TIDEGATE_TRACES is not set: name a folder of traces".into());
    };
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let days = arguments.first().and_then(|first| first.parse::<u32>().ok());
    if days.is_some() {
        arguments.remove(0);
    }
    let scenes = load(Path::new(&folder), &arguments, days.unwrap_or(1).max(1))?;
    let runs = run_all(&scenes)?;
    report::table(&scenes, &runs);
    report::hardest_hours(&scenes, &runs);
    Ok(())
}

/// One line of runs for each scene, in the order of [`ENTRANTS`].
fn run_all(scenes: &[Scene]) -> Outcome<Vec<Vec<Run>>> {
    let jobs = scenes.len() * ENTRANTS.len();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= jobs {
                return done;
            }
            let (scene, entrant) = (&scenes[job / ENTRANTS.len()], ENTRANTS[job % ENTRANTS.len()].1);
            let run = compete(scene, entrant);
            eprintln!("{} of {jobs}: {}, {}", job + 1, scene.name, ENTRANTS[job % ENTRANTS.len()].0);
            done.push((job, run));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join().map_err(|_| "a run has panicked"));
        joined.collect::<Result<Vec<_>, _>>().map(|parts| parts.concat())
    })?;
    done.sort_by_key(|(job, _)| *job);
    let mut runs: Vec<Vec<Run>> = scenes.iter().map(|_| Vec::new()).collect();
    for (job, run) in done {
        runs[job / ENTRANTS.len()].push(run);
    }
    Ok(runs)
}
