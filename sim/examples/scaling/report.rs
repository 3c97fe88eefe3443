//! What came of it, as Markdown.

use std::time::Duration;

use tidegate_sim::Run;

use crate::contest::{ENTRANTS, ORACLE, TIDEGATE};
use crate::traces::Scene;

/// A trace counts as attained from here on: a tenth of the budget is left to chance.
const ATTAINED: f64 = 0.989;
const HOUR: Duration = Duration::from_secs(3600);
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

/// Where Tidegate's misses lie.
pub(crate) fn hardest_hours(scenes: &[Scene], runs: &[Vec<Run>]) {
    println!("\nHours with most of Tidegate's misses:\n");
    println!(
        "| trace | requests | hour of the run | share of all misses | missed in it | minutes with misses | fewest minutes to grow by half |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (scene, of) in scenes.iter().zip(runs) {
        let run = &of[TIDEGATE];
        let mut hours = run.by(HOUR);
        hours.sort_by_key(|hour| std::cmp::Reverse(hour.missed));
        for hour in hours.iter().take(HOURS).filter(|hour| hour.missed > 0) {
            let within = || run.minutes.iter().filter(|m| hour.at <= m.at && m.at < hour.at + HOUR);
            let late = within().filter(|minute| minute.missed > 0).count();
            println!(
                "| {} | {} | {} | {:.0} % | {:.1} % | {late} | {} |",
                scene.name,
                run.totals.arrived,
                hour.at.since(scene.world.scored_from()).as_secs() / 3600,
                100.0 * hour.missed as f64 / run.totals.missed as f64,
                100.0 * hour.miss_fraction().unwrap_or(0.0),
                growth(scene, hour.at).map_or("none".to_owned(), |minutes| minutes.to_string()),
            );
        }
    }
}

/// Fewest minutes within the hour in which the load grew by half; `None`: it never did.
fn growth(scene: &Scene, hour: tidegate_core::Timestamp) -> Option<u32> {
    let rate = |minute: u32| scene.world.load.rate_at(hour + Duration::from_secs(60) * minute);
    (1..60).find(|span| (0..60 - span).any(|from| rate(from + span) >= 1.5 * rate(from).max(1.0)))
}
