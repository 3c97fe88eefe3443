//! What came of it, as Markdown.

use std::time::Duration;

use tidegate_core::Timestamp;
use tidegate_sim::Run;

use crate::contest::{ENTRANTS, ORACLE, TIDEGATE};
use crate::traces::Scene;

/// A trace counts as attained from here on: a tenth of the budget is left to chance.
const ATTAINED: f64 = 0.989;
const HOUR: Duration = Duration::from_secs(3600);
/// About the time from an order to a ready replica.
const LEAD: Duration = Duration::from_secs(120);
const DAY_S: u64 = 86_400;
const QUARTER_S: u64 = 900;
/// Hours shown of each trace.
const HOURS: usize = 3;

fn attained(run: &Run) -> f64 {
    1.0 - run.totals.miss_fraction().unwrap_or(0.0)
}

pub(crate) fn table(scenes: &[Scene], runs: &[Vec<Run>]) {
    println!("Attained %, and replica-hours as a multiple of the oracle's:\n");
    let names: Vec<&str> = scenes.iter().map(|scene| scene.name.as_str()).collect();
    println!("| | {} | cost, geometric mean | 98.9 % attained |", names.join(" | "));
    println!("|---|{}---|---|", "---|".repeat(names.len()));
    for (index, (entrant, _)) in ENTRANTS.iter().enumerate() {
        let cost = |of: &Vec<Run>| of[index].totals.replica_seconds / of[ORACLE].totals.replica_seconds;
        let cells: Vec<String> =
            runs.iter().map(|of| format!("{:.2}, {:.2}", attained(&of[index]) * 100.0, cost(of))).collect();
        let mean = (runs.iter().map(|of| cost(of).ln()).sum::<f64>() / runs.len() as f64).exp();
        let kept = runs.iter().filter(|of| attained(&of[index]) >= ATTAINED).count();
        println!("| {entrant} | {} | {mean:.2} | {kept} of {} |", cells.join(" | "), runs.len());
    }
}

/// Where Tidegate's misses lie: the worst minute of an hour beside what was to be known when a replica for it had to be ordered.
pub(crate) fn hardest_hours(scenes: &[Scene], runs: &[Vec<Run>]) {
    println!("\nHours with most of Tidegate's misses; load in requests per second:\n");
    println!(
        "| trace | hour | share of all misses | missed in it | minutes with misses | load in the worst | two minutes before | most at that time, days before |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (scene, of) in scenes.iter().zip(runs) {
        let run = &of[TIDEGATE];
        let mut hours = run.by(HOUR);
        hours.sort_by_key(|hour| std::cmp::Reverse(hour.missed));
        for hour in hours.iter().take(HOURS).filter(|hour| hour.missed > 0) {
            let within = || run.minutes.iter().filter(|m| hour.at <= m.at && m.at < hour.at + HOUR);
            let Some(worst) = within().max_by_key(|minute| minute.missed) else { continue };
            let before = scene.world.load.rate_at(worst.at.before(LEAD));
            let usual = most_at_that_time(scene, worst.at);
            println!(
                "| {} | {} | {:.0} % | {:.1} % | {} | {:.0} | {before:.0} | {} |",
                scene.name,
                hour.at.since(scene.world.scored_from()).as_secs() / 3600,
                100.0 * hour.missed as f64 / run.totals.missed as f64,
                100.0 * hour.miss_fraction().unwrap_or(0.0),
                within().filter(|minute| minute.missed > 0).count(),
                worst.arrivals as f64 / 60.0,
                usual.map_or_else(|| "unknown".to_owned(), |usual| format!("{usual:.0}")),
            );
        }
    }
}

/// The largest load of the days before within a quarter of an hour of this time of day.
fn most_at_that_time(scene: &Scene, at: Timestamp) -> Option<f64> {
    let known = &scene.history;
    let near = |index: &usize| {
        let apart = at.since(known.time(*index)).as_secs() % DAY_S;
        apart.min(DAY_S - apart) <= QUARTER_S
    };
    (0..known.len()).filter(near).filter_map(|index| known.get(index)).reduce(f64::max)
}
