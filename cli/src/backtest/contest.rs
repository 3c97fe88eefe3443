//! Every policy with every setting on one and the same world, on all cores. What becomes of the runs is for the report.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use indicatif::ProgressBar;
use tidegate_brain::History;
use tidegate_core::policy::ForecastPolicy;
use tidegate_core::units::replicas_ceil;
use tidegate_core::{Bounds, Ratio, Series, Timestamp};
use tidegate_sim::scalers::{
    Hpa, Keda, KedaSettings, Kpa, KpaSettings, Metric, Oracle, Schedule, Staffing, Static, Tidegate,
};
use tidegate_sim::{Load, Look, Pipeline, Run, Scaler, Sizes, StartUp, World, simulate};

use super::args::{ContestArgs, Named, ServiceArgs};
use super::replica::Replica;
use super::score::{Decision, Ran};
use super::traffic::{Split, quantile};

/// Simulated before the scored time, where it is known: nobody is judged by how it began.
const WARM_UP: Duration = Duration::from_secs(30 * 60);
/// Nobody waits for longer than this, or twice the objective.
const DROP_AFTER: Duration = Duration::from_secs(30);
/// Start-up medians that the oracle looks ahead: most starts are over by then.
const ORACLE_AHEAD: f64 = 1.5;
/// Targets of the reactive policies' fronts.
const TARGETS: [f64; 5] = [0.5, 0.6, 0.7, 0.8, 0.9];
/// Attainment targets of Tidegate's front.
const ATTAINMENTS: [f64; 4] = [0.95, 0.99, 0.995, 0.999];
/// Misses that the oracle is made for, in those of the target. It knows the load and not chance, so that it ends beside them.
const ORACLE_MISSES: [f64; 5] = [4.0, 2.0, 1.0, 0.5, 0.25];
/// Rates of the history that the static front is made for, as quantiles.
const STATIC_QUANTILES: [f64; 5] = [0.9, 0.95, 0.99, 0.999, 1.0];

/// How busy the schedule wants replicas to be in what an hour needed, and the quantile of an hour that it takes: a usual margin.
const SCHEDULE_BUSY: f64 = 0.7;
const SCHEDULE_QUANTILE: f64 = 0.95;
/// Decisions kept of a run: two months of thirty an hour.
const DECISIONS_MAX: usize = 50_000;

/// One run to be made.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Job {
    policy: Named,
    setting: f64,
    usual: bool,
}

/// The world that all runs share, and what may be learned before it.
#[derive(Debug)]
pub(super) struct Contest<'a> {
    world: World,
    /// The history by the minute, which is what people and Tidegate look at.
    demand: Option<Series>,
    /// Tokens of prompts and of answers in it, where they are told.
    tokens: Option<[Series; 2]>,
    replica: Replica,
    service: &'a ServiceArgs,
    asked: &'a ContestArgs,
    jobs: Vec<Job>,
}

impl<'a> Contest<'a> {
    pub(super) fn new(
        split: &'a Split,
        replica: Replica,
        service: &'a ServiceArgs,
        asked: &'a ContestArgs,
    ) -> Self {
        let world = world(split, replica, service, asked.seed);
        let demand = by_minute(&split.history, world.start);
        let tokens = split.tokens.as_ref().and_then(|[(prompt, _), (output, _)]| {
            Some([by_minute(prompt, world.start)?, by_minute(output, world.start)?])
        });
        let mut contest = Self { world, demand, tokens, replica, service, asked, jobs: Vec::new() };
        let mut policies = asked.policies.clone();
        policies.sort_unstable();
        policies.dedup();
        policies.retain(|policy| *policy != Named::Oracle);
        policies.push(Named::Oracle);
        contest.jobs = policies.into_iter().flat_map(|policy| contest.jobs_of(policy)).collect();
        contest
    }

    /// How many runs there are.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    fn jobs_of(&self, policy: Named) -> Vec<Job> {
        let (usual, others): (f64, Vec<f64>) = match policy {
            Named::Tidegate => (self.service.target, ATTAINMENTS.to_vec()),
            Named::Hpa => (self.asked.hpa_target, TARGETS.to_vec()),
            Named::Keda => (self.asked.keda_target, TARGETS.to_vec()),
            Named::Kpa => (self.asked.kpa_target, TARGETS.to_vec()),
            Named::Schedule => (SCHEDULE_BUSY, TARGETS.to_vec()),
            Named::Static => self.static_sizes(),
            Named::Oracle => {
                let misses = ORACLE_MISSES.map(|factor| factor * (1.0 - self.service.target));
                (
                    self.service.target,
                    misses.iter().filter(|miss| **miss < 0.5).map(|miss| 1.0 - miss).collect(),
                )
            }
        };
        let fronts = !self.asked.no_fronts || policy == Named::Oracle;
        let mut settings: Vec<f64> = others.into_iter().filter(|_| fronts).chain([usual]).collect();
        settings.sort_by(f64::total_cmp);
        settings.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
        let job = |setting: f64| Job { policy, setting, usual: (setting - usual).abs() < 1e-9 };
        settings.into_iter().map(job).collect()
    }

    /// Makes all runs; in their order, whichever core made which.
    pub(super) fn run(&self, bar: &ProgressBar) -> anyhow::Result<Vec<Ran>> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = self.asked.jobs.unwrap_or(cores).min(self.jobs.len());
        let made: Vec<Mutex<Option<Ran>>> = self.jobs.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        tracing::debug!(runs = self.jobs.len(), workers, "simulating");
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        let Some((job, slot)) = self.jobs.get(place).zip(made.get(place)) else { break };
                        *slot.lock().expect("no holder panics") = Some(self.one(*job));
                        bar.inc(1);
                    }
                });
            }
        });
        let runs: Option<Vec<Ran>> =
            made.into_iter().map(|slot| slot.into_inner().expect("no holder panics")).collect();
        Ok(with_usual_oracle(runs.context("a run was not made")?, self.service.target))
    }
}

impl Contest<'_> {
    fn one(&self, job: Job) -> Ran {
        let (run, decisions) = self.simulated(job);
        let world = &self.world;
        let scored_h = world.end.since(world.scored_from()).as_secs_f64() / 3600.0;
        let totals = &run.totals;
        Ran {
            policy: job.policy,
            setting: self.setting(job),
            name: self.name(job),
            usual: job.usual,
            requests: totals.arrived,
            // What has no end within an hour is late, whatever becomes of it.
            missed: totals.missed + totals.inside,
            replica_hours: totals.replica_hours(),
            actions_per_hour: f64::from(u32::try_from(totals.actions()).unwrap_or(u32::MAX)) / scored_h,
            latency_p99_s: run.latency.quantile(0.99),
            minutes: run.minutes,
            decisions,
        }
    }

    fn simulated(&self, job: Job) -> (Run, Vec<Decision>) {
        let world = &self.world;
        let (bounds, concurrency) = (world.bounds, self.replica.concurrency());
        let plain = |scaler: &mut dyn Scaler| (simulate(world, scaler), Vec::new());
        match job.policy {
            Named::Tidegate => {
                let policy = Tidegate::policy(world, ratio(job.setting));
                let history = History { demand: self.demand.clone(), tokens: self.tokens.clone() };
                let tidegate = Tidegate::new(policy, history, Tidegate::PIPELINE);
                let mut witness = Witness { tidegate, decisions: Vec::new(), keeps: job.usual };
                let run = simulate(world, &mut witness);
                (run, witness.decisions)
            }
            Named::Hpa => plain(&mut Hpa::new(Metric::Utilisation, job.setting * concurrency, bounds)),
            Named::Keda => {
                let target = job.setting * self.replica.rps();
                plain(&mut Keda::new(KedaSettings::new(Metric::Requests, target, bounds)))
            }
            Named::Kpa => plain(&mut Kpa::new(KpaSettings::new(job.setting * concurrency))),
            Named::Schedule => match self.schedule(job.setting) {
                Some(mut schedule) => plain(&mut schedule),
                None => plain(&mut Static(bounds.max)),
            },
            Named::Static => plain(&mut Static(replicas_ceil(job.setting))),
            Named::Oracle => plain(&mut Oracle::new(world, ratio(job.setting), ORACLE_AHEAD)),
        }
    }

    /// What the hour of the day, or of the week, needed in the past, with a replica this busy; `None` without a past.
    fn schedule(&self, busy: f64) -> Option<Schedule> {
        let history = self.demand.as_ref()?;
        Schedule::from_history(history, SCHEDULE_QUANTILE, 1.0 / busy, self.replica.rps())
    }

    /// The knob's position, where the policy has one.
    fn setting(&self, job: Job) -> Option<f64> {
        let is_known = job.policy != Named::Schedule || self.demand.is_some();
        is_known.then_some(job.setting)
    }

    fn name(&self, job: Job) -> String {
        let (title, share) = (job.policy.title(), percent(job.setting));
        match job.policy {
            Named::Tidegate if !job.usual => format!("{title}, attainment {share} %"),
            Named::Hpa | Named::Keda | Named::Kpa | Named::Schedule => format!("{title}, target {share} %"),
            Named::Static => format!("{title}, {} replicas", job.setting),
            Named::Tidegate | Named::Oracle => title.into(),
        }
    }

    /// Sizes for the history's rates of these quantiles; the whole pool where there is no history to size by.
    fn static_sizes(&self) -> (f64, Vec<f64>) {
        let rates: Vec<f64> =
            self.demand.iter().flat_map(|demand| demand.values().iter().flatten().copied()).collect();
        let bounds = self.world.bounds;
        if rates.is_empty() {
            return (f64::from(bounds.max), Vec::new());
        }
        let staffing = Staffing::new(&self.world, ratio(self.service.target));
        let sizes = STATIC_QUANTILES.map(|p| f64::from(bounds.clamp(staffing.replicas(quantile(&rates, p)))));
        (sizes[STATIC_QUANTILES.len() - 1], sizes.to_vec())
    }
}

/// What is known before `start`, by the brain's step. Of coarser steps, the line that arrivals follow too.
fn by_minute(history: &Series, start: Timestamp) -> Option<Series> {
    let step = ForecastPolicy::default().step.get();
    let line = Load::rate(history, Sizes::default());
    let own = history.step();
    let parts = u32::try_from(own.as_millis().div_ceil(step.as_millis())).unwrap_or(1).max(1);
    let mut points: Vec<(Timestamp, f64)> = Vec::new();
    for (index, _) in history.values().iter().enumerate().filter(|(_, rate)| rate.is_some()) {
        let first = history.time(index);
        let times = (0..parts).map(|part| first + own * part / parts).filter(|at| *at < start);
        points.extend(times.map(|at| (at, line.rate_at(at + own / parts / 2))));
    }
    Series::from_points(&points, step)
}

/// Tidegate, whose decisions are kept.
struct Witness {
    tidegate: Tidegate,
    decisions: Vec<Decision>,
    keeps: bool,
}

impl Scaler for Witness {
    fn pipeline(&self) -> Pipeline {
        self.tidegate.pipeline()
    }

    fn decide(&mut self, look: &Look) -> u32 {
        let to = self.tidegate.decide(look);
        let from = look.replicas.wanted;
        if self.keeps && to != from && self.decisions.len() < DECISIONS_MAX {
            let newest = self.tidegate.brain().decisions().next();
            let reasons = newest.map(|decision| decision.reasons.clone()).unwrap_or_default();
            self.decisions.push(Decision { at: look.now, from, to, reasons });
        }
        to
    }

    fn started(&mut self, at: Timestamp, start_up: Duration) {
        self.tidegate.started(at, start_up);
    }
}

fn percent(share: f64) -> f64 {
    (share * 10_000.0).round() / 100.0
}

fn ratio(share: f64) -> Ratio {
    Ratio::new(share).expect("targets were checked when they were read")
}

/// The oracle of the table is the cheapest of its runs that kept the target; where none did, the one made for it.
fn with_usual_oracle(mut runs: Vec<Ran>, target: f64) -> Vec<Ran> {
    let kept =
        runs.iter().enumerate().filter(|(_, run)| run.policy == Named::Oracle && run.attained() >= target);
    let cheapest =
        kept.min_by(|a, b| a.1.replica_hours.total_cmp(&b.1.replica_hours)).map(|(place, _)| place);
    if let Some(cheapest) = cheapest {
        for (place, run) in runs.iter_mut().enumerate().filter(|(_, run)| run.policy == Named::Oracle) {
            run.usual = place == cheapest;
        }
    }
    runs
}

fn world(split: &Split, replica: Replica, service: &ServiceArgs, seed: u64) -> World {
    let bounds = Bounds { min: service.replicas.0, max: service.replicas.1 };
    let warm_up = if is_known(&split.history, WARM_UP) { WARM_UP } else { Duration::ZERO };
    let start = split.scored.start().before(warm_up);
    let mut world = World {
        service: replica.service,
        drop_after: DROP_AFTER.max(service.slo.get() * 2),
        retries: None,
        start_up: StartUp { median: service.start_up.get(), ..StartUp::MODEL },
        bounds,
        replicas: bounds.min,
        start,
        warm_up,
        end: split.scored.end(),
        faults: Vec::new(),
        seed,
        load: load(split, start, replica.sizes),
    };
    // All begin with what the first minute needs.
    let first = Staffing::new(&world, ratio(service.target));
    world.replicas = bounds.clamp(first.replicas(world.load.rate_at(start)));
    world
}

/// What arrives: the requests themselves where they are recorded, else by chance at the rates that are known.
fn load(split: &Split, start: Timestamp, sizes: Sizes) -> Load {
    if !split.requests.is_empty() {
        let first = split.requests.partition_point(|(at, _)| *at < start);
        return Load::requests(split.requests[first..].to_vec());
    }
    let requests = joined(&split.history, &split.scored);
    match &split.tokens {
        Some(tokens) => {
            let [prompt, output] = tokens.each_ref().map(|(before, scored)| joined(before, scored));
            Load::tokens(&requests, [&prompt, &output], sizes)
        }
        None => Load::rate(&requests, sizes),
    }
}

/// Whether the end of the history is there without a gap.
fn is_known(history: &Series, span: Duration) -> bool {
    let steps = usize::try_from(span.as_millis().div_ceil(history.step().as_millis())).unwrap_or(usize::MAX);
    let values = history.values();
    values.len() >= steps && values[values.len() - steps..].iter().all(Option::is_some)
}

/// The last of the history and all that is scored: what is simulated.
fn joined(history: &Series, scored: &Series) -> Series {
    let steps =
        usize::try_from(WARM_UP.as_millis().div_ceil(history.step().as_millis())).unwrap_or(usize::MAX);
    let kept = history.len().saturating_sub(steps.saturating_add(1));
    let values = history.values()[kept..].iter().chain(scored.values()).copied();
    Series::from_values(history.time(kept), history.step(), values)
}
