//! The result in full, as the JSON output and the page have it, and what of it goes into the table.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use tidegate_core::{Reason, Timestamp};
use tidegate_sim::{Minute, Service};

use super::args::{BacktestArgs, Model, Named};
use super::replica::Replica;
use super::score::{Decision, MINUTE, Ran, oracle_hours, ready, rps, share};
use super::traffic::{Split, peak};
use super::worst::{self, Cause, Facts};
use crate::args::Output;
use crate::output;

/// Most points of a line over the whole time: more than a chart has pixels.
const POINTS_MAX: usize = 2880;

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Version.
    tidegate: &'static str,
    source: String,
    summary: String,
    notes: Vec<String>,
    method: Vec<&'static str>,
    settings: Settings,
    load: LoadView,
    /// Whether runs beside the usual ones were made.
    fronts: bool,
    runs: Vec<RunView>,
    timeline: Timeline,
    worst_hour: Option<WorstHour>,
}

#[derive(Debug, Serialize)]
struct Settings {
    model: Model,
    slo_s: f64,
    target: f64,
    /// Of a generic service.
    service_time_s: Option<f64>,
    concurrency: Option<u32>,
    /// Of a language model.
    engine: Option<Engine>,
    /// Requests per second that keep a replica busy.
    replica_rps: f64,
    start_up_s: f64,
    replicas: Bounds,
    price: Option<f64>,
    scale: f64,
    seed: u64,
}

#[derive(Debug, Serialize)]
struct Engine {
    tpot_s: f64,
    iteration_s: f64,
    running_s: f64,
    prompt_token_s: f64,
    chunk: u32,
    batch: u32,
    kv_tokens: u32,
    /// Of a request, on average.
    prompt_tokens: f64,
    output_tokens: f64,
}

impl Engine {
    fn of(replica: &Replica) -> Option<Self> {
        let Service::Llm(llm) = replica.service else { return None };
        Some(Self {
            tpot_s: llm.tpot.as_secs_f64(),
            iteration_s: llm.base_s,
            running_s: llm.per_running_s,
            prompt_token_s: llm.per_prefill_token_s,
            chunk: llm.chunk,
            batch: llm.batch,
            kv_tokens: llm.kv_tokens,
            prompt_tokens: replica.sizes.prompt_mean,
            output_tokens: replica.sizes.output_mean,
        })
    }
}

#[derive(Debug, Serialize)]
struct Bounds {
    min: u32,
    max: u32,
}

#[derive(Debug, Serialize)]
struct LoadView {
    history_from: Option<Timestamp>,
    from: Timestamp,
    to: Timestamp,
    step_s: f64,
    requests: u64,
    mean_rps: f64,
    /// The 0.99 quantile, by the minute.
    peak_rps: f64,
    /// Replicas that the peak keeps busy.
    peak_replicas: f64,
}

#[derive(Debug, Serialize)]
struct RunView {
    policy: Named,
    name: String,
    setting: Option<f64>,
    usual: bool,
    requests: u64,
    missed: u64,
    attained: f64,
    kept: bool,
    replica_hours: f64,
    relative_to_oracle: Option<f64>,
    actions_per_hour: f64,
    latency_p99_s: Option<f64>,
    cost: Option<f64>,
    worst_hour: Option<HourView>,
}

#[derive(Debug, Serialize)]
struct HourView {
    from: Timestamp,
    requests: u64,
    missed: u64,
}

/// The usual runs over time.
#[derive(Debug, Serialize)]
struct Timeline {
    from: Timestamp,
    step_s: f64,
    arrivals_rps: Vec<f64>,
    runs: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    policy: Named,
    name: String,
    wanted: Vec<u32>,
    ready: Vec<f64>,
    missed: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct WorstHour {
    policy: Named,
    name: String,
    from: Timestamp,
    to: Timestamp,
    text: String,
    causes: Vec<Cause>,
    timeline: Close,
    decisions: Vec<DecisionView>,
}

/// One run by the minute, around its worst hour.
#[derive(Debug, Serialize)]
struct Close {
    from: Timestamp,
    step_s: f64,
    arrivals_rps: Vec<f64>,
    /// Replicas that the arrivals alone keep busy.
    busy: Vec<f64>,
    wanted: Vec<u32>,
    ready: Vec<f64>,
    missed: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct DecisionView {
    at: Timestamp,
    from: u32,
    to: u32,
    reasons: Vec<Reason>,
}

/// What the reader should know of how the figures came about.
const METHOD: [&str; 3] = [
    "Each policy sees what it would see: the HPA and KEDA figures 30 s old every 15 s, KPA its own every 2 s, Tidegate the gateway's every 5 s. \
     None but the oracle sees the future; the schedule and the static size come from the history.",
    "A replica is paid for from its order to its end. A replica that is removed takes no new request and finishes what it has.",
    "Not in it: retries, failing replicas, waiting for nodes, cold caches, and bursts shorter than the step of the load.",
];

/// The same of each kind of replica.
const fn served(model: Model) -> &'static str {
    match model {
        Model::Generic => {
            "Requests arrive at random at the recorded rate and wait in one queue for a free place in a ready replica; each is served for a random time. \
             The same requests, service times and start-ups meet every policy."
        }
        Model::Llm => {
            "Requests arrive as recorded one by one, or at random at the recorded rate with random sizes around the recorded means. Each goes to the replica with \
             the least to read that has room for it; a replica works in iterations, each of which writes a token of every request that it has read. \
             The same requests and start-ups meet every policy."
        }
    }
}

impl Report {
    pub(super) fn new(args: &BacktestArgs, split: &Split, replica: &Replica, runs: &[Ran]) -> Self {
        let (service, contest) = (&args.service, &args.contest);
        let is_generic = service.model == Model::Generic;
        let settings = Settings {
            model: service.model,
            slo_s: service.slo.get().as_secs_f64(),
            target: service.target,
            service_time_s: is_generic.then(|| service.service_time.get().as_secs_f64()),
            concurrency: is_generic.then_some(service.concurrency),
            engine: Engine::of(replica),
            replica_rps: replica.rps(),
            start_up_s: service.start_up.get().as_secs_f64(),
            replicas: Bounds { min: service.replicas.0, max: service.replicas.1 },
            price: service.price,
            scale: split.scale,
            seed: contest.seed,
        };
        let facts = Facts {
            replica_rps: replica.rps(),
            replicas_max: service.replicas.1,
            start_up: service.start_up.get(),
        };
        let start = split.scored.start();
        let oracle = oracle_hours(runs, 1.0 - service.target);
        let views: Vec<RunView> = runs.iter().map(|run| view(run, start, oracle, &settings)).collect();
        let load = load(split, runs, &facts);
        let mut notes = split.notes.clone();
        notes.extend(remarks(&load, &settings, oracle));
        Self {
            tidegate: env!("CARGO_PKG_VERSION"),
            source: split.source.clone(),
            summary: summary(&views, &settings, oracle),
            notes,
            method: [served(service.model)].into_iter().chain(METHOD).collect(),
            fronts: !contest.no_fronts,
            timeline: timeline(runs, start),
            worst_hour: worst_hour(runs, start, &facts),
            runs: views,
            load,
            settings,
        }
    }

    /// Prints it.
    pub(super) fn print(&self, how: Output) -> anyhow::Result<()> {
        let (header, rows) = match how {
            Output::Csv => self.all_rows(),
            Output::Table | Output::Json => self.usual_rows(),
        };
        if how == Output::Table {
            output::say(&self.head())?;
        }
        output::print(how, &header, &rows, self)?;
        if how == Output::Table { output::say(&self.foot()) } else { Ok(()) }
    }

    fn head(&self) -> String {
        let Self { load, settings, .. } = self;
        let scaled = if (settings.scale - 1.0).abs() > 1e-9 {
            format!(", load × {}", short(settings.scale))
        } else {
            String::new()
        };
        format!(
            "{}\n{} to {}: {} requests, {} req/s on average, {} at the peak, which keep {:.1} replicas busy{scaled}\n",
            self.source,
            clock(load.from),
            clock(load.to),
            load.requests,
            output::number(load.mean_rps),
            output::number(load.peak_rps),
            load.peak_replicas
        )
    }

    fn usual_rows(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let priced = self.settings.price.is_some();
        let mut header = vec!["policy", "in time %", "kept", "replica-hours", "× oracle"];
        if priced {
            header.push("cost");
        }
        header.extend(["actions/h", "late in worst hour", "which began"]);
        let row = |run: &RunView| {
            let mut row = vec![
                run.name.clone(),
                percent(run.attained),
                if run.kept { "yes".into() } else { "no".into() },
                output::number(run.replica_hours),
                run.relative_to_oracle.map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}")),
            ];
            row.extend(run.cost.map(output::number));
            row.push(output::number(run.actions_per_hour));
            row.push(run.worst_hour.as_ref().map_or(0, |hour| hour.missed).to_string());
            row.push(run.worst_hour.as_ref().map_or_else(|| "–".into(), |hour| clock(hour.from)));
            row
        };
        (header, self.runs.iter().filter(|run| run.usual).map(row).collect())
    }

    fn all_rows(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let header = vec![
            "policy",
            "setting",
            "usual",
            "requests",
            "missed",
            "attained",
            "kept",
            "replica_hours",
            "relative_to_oracle",
            "actions_per_hour",
            "latency_p99_s",
            "cost",
            "worst_hour_from",
            "worst_hour_missed",
        ];
        let known = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let row = |run: &RunView| {
            vec![
                run.policy.to_string(),
                known(run.setting),
                run.usual.to_string(),
                run.requests.to_string(),
                run.missed.to_string(),
                run.attained.to_string(),
                run.kept.to_string(),
                run.replica_hours.to_string(),
                known(run.relative_to_oracle),
                run.actions_per_hour.to_string(),
                known(run.latency_p99_s),
                known(run.cost),
                run.worst_hour.as_ref().map(|hour| hour.from.to_string()).unwrap_or_default(),
                run.worst_hour.as_ref().map_or(0, |hour| hour.missed).to_string(),
            ]
        };
        (header, self.runs.iter().map(row).collect())
    }

    /// What stands below the table: the cheapest way to the target of each policy, the sentence, and what to know.
    fn foot(&self) -> String {
        let mut text = String::new();
        if self.fronts {
            text += &self.cheapest();
        }
        text += &format!("\n{}", self.summary);
        for note in &self.notes {
            text += &format!("\nnote: {note}");
        }
        if let Some(worst) = &self.worst_hour {
            text +=
                &format!("\nThe worst hour of {}, from {}: {}", worst.name, clock(worst.from), worst.text);
            for cause in &worst.causes {
                text += &format!("\n  {}", cause.text);
            }
        }
        text
    }

    /// For each policy with a knob, the cheapest of its settings that kept the target, known only afterwards.
    fn cheapest(&self) -> String {
        let mut text = "\nThe cheapest setting that kept the target, chosen in hindsight:".to_owned();
        let with_knob = self.runs.iter().filter(|run| !run.usual && run.policy != Named::Oracle);
        let policies: BTreeSet<Named> = with_knob.map(|run| run.policy).collect();
        for policy in policies {
            let kept = self.runs.iter().filter(|run| run.policy == policy && run.kept);
            let best = kept.min_by(|a, b| a.replica_hours.total_cmp(&b.replica_hours));
            text += &match best {
                Some(run) => format!(
                    "\n  {}: {} replica-hours, {} % in time",
                    run.name,
                    output::number(run.replica_hours),
                    percent(run.attained)
                ),
                None => format!("\n  {}: none", policy.title()),
            };
        }
        text
    }
}

fn view(run: &Ran, start: Timestamp, oracle: Option<f64>, settings: &Settings) -> RunView {
    let attained = run.attained();
    RunView {
        policy: run.policy,
        name: run.name.clone(),
        setting: run.setting,
        usual: run.usual,
        requests: run.requests,
        missed: run.missed,
        attained,
        kept: attained >= settings.target,
        replica_hours: run.replica_hours,
        relative_to_oracle: oracle.map(|hours| run.replica_hours / hours),
        actions_per_hour: run.actions_per_hour,
        latency_p99_s: run.latency_p99_s,
        cost: settings.price.map(|price| price * run.replica_hours),
        worst_hour: run.worst_hour().map(|hour| HourView {
            from: at(start, hour.first),
            requests: hour.requests,
            missed: hour.missed,
        }),
    }
}

fn load(split: &Split, runs: &[Ran], facts: &Facts) -> LoadView {
    let rates: Vec<f64> = split.scored.values().iter().flatten().copied().collect();
    let peak_rps = peak(&rates, split.scored.step());
    let requests = runs.first().map_or(0, |run| run.requests);
    let span = split.scored.end().since(split.scored.start());
    LoadView {
        history_from: (!split.history.is_empty()).then(|| split.history.start()),
        from: split.scored.start(),
        to: split.scored.end(),
        step_s: split.scored.step().as_secs_f64(),
        requests,
        mean_rps: share(requests, span.as_secs()),
        peak_rps,
        peak_replicas: peak_rps / facts.replica_rps,
    }
}

/// What makes the comparison say less than it seems to.
fn remarks(load: &LoadView, settings: &Settings, oracle: Option<f64>) -> Vec<String> {
    let mut notes = Vec::new();
    if load.peak_replicas > f64::from(settings.replicas.max) {
        notes.push(format!(
            "The peak keeps {:.0} replicas busy and there are {} at most: no policy can keep up. Raise --replicas, or shrink the load with --scale.",
            load.peak_replicas.ceil(),
            settings.replicas.max
        ));
    } else if load.peak_replicas < f64::from(settings.replicas.min).max(1.0) {
        notes.push("The peak does not fill the fewest replicas: there is nothing to scale. --scale multiplies the load.".into());
    } else if oracle.is_none() {
        notes.push("Not even one that knows the future kept the target: more replicas, or a shorter start-up, would be needed.".into());
    }
    if load.step_s > 60.0 {
        notes.push(format!(
            "The load is known in steps of {:.0} s: bursts within them are not in this comparison, which flatters every policy that reacts slowly.",
            load.step_s
        ));
    }
    notes
}

/// The result in a sentence or two.
fn summary(runs: &[RunView], settings: &Settings, oracle: Option<f64>) -> String {
    let of = |run: &RunView| {
        let cost = run.cost.map(|cost| format!(" (a cost of {})", output::number(cost))).unwrap_or_default();
        format!(
            "{} % in time for {} replica-hours{cost}",
            percent(run.attained),
            output::number(run.replica_hours)
        )
    };
    let usual = |policy: Named| runs.iter().find(|run| run.usual && run.policy == policy);
    let others = [Named::Hpa, Named::Keda, Named::Kpa, Named::Schedule, Named::Static];
    let other = others.into_iter().find_map(usual);
    let mut text = match (usual(Named::Tidegate), other) {
        (Some(own), Some(other)) => {
            format!("With Tidegate, {}; with {}, {}.", of(own), other.name, of(other))
        }
        (Some(only), None) | (None, Some(only)) => format!("With {}, {}.", only.name, of(only)),
        (None, None) => String::new(),
    };
    if let Some(hours) = oracle {
        text += &format!(
            " One that knows the future needs {} for {} %.",
            output::number(hours),
            percent(settings.target)
        );
    }
    text.trim_start().to_owned()
}

fn timeline(runs: &[Ran], start: Timestamp) -> Timeline {
    let usual: Vec<&Ran> = runs.iter().filter(|run| run.usual).collect();
    let minutes = usual.first().map_or(0, |run| run.minutes.len());
    let group = minutes.div_ceil(POINTS_MAX).max(1);
    let step = MINUTE * u32::try_from(group).unwrap_or(u32::MAX);
    let arrivals =
        |run: &&Ran| run.minutes.chunks(group).map(|few| rounded(mean(few.iter().map(rps)))).collect();
    let line = |run: &&Ran| Line {
        policy: run.policy,
        name: run.name.clone(),
        wanted: run
            .minutes
            .chunks(group)
            .map(|few| few.iter().map(|m| m.wanted).max().unwrap_or(0))
            .collect(),
        ready: run.minutes.chunks(group).map(|few| rounded(mean(few.iter().map(ready)))).collect(),
        missed: run.minutes.chunks(group).map(|few| few.iter().map(|m| m.missed).sum()).collect(),
    };
    Timeline {
        from: start,
        step_s: step.as_secs_f64(),
        arrivals_rps: usual.first().map(arrivals).unwrap_or_default(),
        runs: usual.iter().map(line).collect(),
    }
}

fn worst_hour(runs: &[Ran], start: Timestamp, facts: &Facts) -> Option<WorstHour> {
    let usual = |policy: Option<Named>| {
        runs.iter().find(|run| {
            run.usual && policy.map_or(run.policy != Named::Oracle, |policy| policy == run.policy)
        })
    };
    let run = usual(Some(Named::Tidegate)).or_else(|| usual(None))?;
    let hour = run.worst_hour()?;
    let explained = worst::explain(run, hour, start, facts);
    let shown = &run.minutes[explained.shown.0..explained.shown.1];
    let busy = |minute: &Minute| rounded(rps(minute) / facts.replica_rps);
    let timeline = Close {
        from: at(start, explained.shown.0),
        step_s: MINUTE.as_secs_f64(),
        arrivals_rps: shown.iter().map(rps).map(rounded).collect(),
        busy: shown.iter().map(busy).collect(),
        wanted: shown.iter().map(|minute| minute.wanted).collect(),
        ready: shown.iter().map(ready).map(rounded).collect(),
        missed: shown.iter().map(|minute| minute.missed).collect(),
    };
    let told = |one: Decision| DecisionView { at: one.at, from: one.from, to: one.to, reasons: one.reasons };
    Some(WorstHour {
        policy: run.policy,
        name: run.name.clone(),
        from: at(start, hour.first),
        to: at(start, hour.first + run.hour(hour.first).len()),
        text: explained.text,
        causes: explained.causes,
        timeline,
        decisions: explained.decisions.into_iter().map(told).collect(),
    })
}

/// A time for people, to the minute (UTC).
fn clock(at: Timestamp) -> String {
    at.to_string().chars().take(16).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

fn at(start: Timestamp, minute: usize) -> Timestamp {
    start + step_of(minute)
}

fn step_of(minutes: usize) -> Duration {
    MINUTE * u32::try_from(minutes).unwrap_or(u32::MAX)
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = u32::try_from(values.len().max(1)).unwrap_or(u32::MAX);
    values.sum::<f64>() / f64::from(count)
}

/// Three places are more than a chart shows.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A share in per cent, with as many digits as tell it from all and from nothing.
fn percent(share: f64) -> String {
    let off = share.min(1.0 - share) * 100.0;
    let digits = match off {
        off if off <= 0.0 => 0,
        off if off < 0.1 => 3,
        off if off < 1.0 => 2,
        _ => 1,
    };
    let most = if share < 1.0 { 99.999 } else { 100.0 };
    format!("{:.digits$}", (share * 100.0).min(most))
}

/// A factor for people.
fn short(value: f64) -> String {
    if value >= 1.0 { output::number(value) } else { format!("{value:.4}") }
}
