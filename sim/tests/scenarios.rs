//! Runs every file of `tests/scenarios`: a load, what goes wrong, a policy, and what must come of it. `tests/scenarios/README.md` says
//! what a file may hold.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::Deserialize;
use tidegate_brain::History;
use tidegate_core::{ReasonCode, Series, ServingPolicy, Span, Timestamp};
use tidegate_sim::scalers::Tidegate;
use tidegate_sim::{
    Fault, FaultKind, Generic, Load, Pipeline, Retries, Run, Service, ServiceTime, Sizes, StartUp, World,
    simulate,
};

/// When scoring begins: a Monday, 00:00 UTC.
const START: Timestamp = Timestamp::from_secs(1_704_067_200);
const MINUTE: Duration = Duration::from_secs(60);
const DAY_S: f64 = 86_400.0;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    about: String,
    length: Span,
    #[serde(default = "warm_up")]
    warm_up: Span,
    /// What is known from before, at most.
    #[serde(default = "nothing")]
    history: Span,
    #[serde(default = "seeds")]
    seeds: Vec<u64>,
    replicas: u32,
    load: Shape,
    #[serde(default)]
    service: ServiceText,
    #[serde(default)]
    start_up: StartUpText,
    /// What the brain sees: age and length of the window.
    pipeline: Option<PipelineText>,
    retries: Option<RetriesText>,
    #[serde(default)]
    faults: Vec<FaultText>,
    policy: ServingPolicy,
    expect: Expect,
}

fn warm_up() -> Span {
    Span::from_secs(600)
}

fn nothing() -> Span {
    Span::from_secs(0)
}

fn seeds() -> Vec<u64> {
    vec![1]
}

/// Requests per second: lines between the points, times the week.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    points: Vec<(Span, f64)>,
    /// How far a day swings around its mean, 0 to 1; lowest at midnight.
    #[serde(default)]
    day_swing: f64,
    /// Factor of Saturdays and Sundays.
    #[serde(default = "one")]
    weekend: f64,
}

fn one() -> f64 {
    1.0
}

impl Shape {
    fn at(&self, time: Timestamp) -> f64 {
        let since = time.as_secs_f64() - START.as_secs_f64();
        let after = self.points.partition_point(|(at, _)| at.get().as_secs_f64() <= since);
        let base = match (after.checked_sub(1).map(|i| self.points[i]), self.points.get(after).copied()) {
            (Some((a, x)), Some((b, y))) => {
                let (a, b) = (a.get().as_secs_f64(), b.get().as_secs_f64());
                x + (y - x) * (since - a) / (b - a)
            }
            (Some((_, value)), None) | (None, Some((_, value))) => value,
            (None, None) => 0.0,
        };
        let days = since / DAY_S;
        let day = 1.0 - self.day_swing * (days * std::f64::consts::TAU).cos();
        let is_weekend = days.rem_euclid(7.0) >= 5.0;
        base * day * if is_weekend { self.weekend } else { 1.0 }
    }

    fn series(&self, from: Timestamp, until: Timestamp, step: Duration) -> Series {
        let steps = (until - from).as_millis() / step.as_millis();
        let mut series = Series::new(from, step);
        for _ in 0..steps {
            let middle = series.end() + step / 2;
            series.push(Some(self.at(middle)));
        }
        series
    }

    /// The past by the minute, with the chance of its arrivals.
    fn history(&self, from: Timestamp, until: Timestamp, seed: u64) -> Series {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let exact = self.series(from, until, MINUTE);
        let counted = exact.values().iter().map(|rate| {
            let chance: f64 = rng.sample(StandardNormal);
            rate.map(|rate| (rate + (rate / 60.0).sqrt() * chance).max(0.0))
        });
        Series::from_values(from, MINUTE, counted)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ServiceText {
    concurrency: u32,
    mean: Span,
    cv: f64,
}

impl Default for ServiceText {
    fn default() -> Self {
        Self { concurrency: 4, mean: Duration::from_millis(500).into(), cv: 0.5 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartUpText {
    median: Span,
    sigma: f64,
}

impl Default for StartUpText {
    fn default() -> Self {
        Self { median: StartUp::MODEL.median.into(), sigma: StartUp::MODEL.sigma }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PipelineText {
    age: Span,
    window: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetriesText {
    times: u8,
    after: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultText {
    from: Span,
    #[serde(default = "nothing")]
    lasts: Span,
    #[serde(flatten)]
    kind: KindText,
}

/// `true`: there is nothing more to say of the fault.
#[derive(Debug, Deserialize)]
#[serde(try_from = "bool")]
struct Strikes;

impl TryFrom<bool> for Strikes {
    type Error = &'static str;
    fn try_from(strikes: bool) -> Result<Self, Self::Error> {
        strikes.then_some(Self).ok_or("expected `true`; leave a fault out that is none")
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindText {
    MetricGap(Strikes),
    MetricNan(Strikes),
    MetricDelay(Span),
    CounterReset(Strikes),
    FailedStarts(Strikes),
    LostReplicas(u32),
    SlowApi(Span),
}

impl FaultText {
    fn fault(&self) -> Fault {
        let from = START + self.from.get();
        let kind = match self.kind {
            KindText::MetricGap(Strikes) => FaultKind::MetricGap,
            KindText::MetricNan(Strikes) => FaultKind::MetricNan,
            KindText::MetricDelay(delay) => FaultKind::MetricDelay(delay.get()),
            KindText::CounterReset(Strikes) => FaultKind::CounterReset,
            KindText::FailedStarts(Strikes) => FaultKind::FailedStarts,
            KindText::LostReplicas(count) => FaultKind::LostReplicas(count),
            KindText::SlowApi(late) => FaultKind::SlowApi(late.get()),
        };
        Fault { from, until: from + self.lasts.get(), kind }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// Share of requests outside the objective, at most.
    missed_max: f64,
    replica_hours: (f64, f64),
    /// Orders, at most.
    actions_max: u64,
    /// Reasons that a plan must have had.
    #[serde(default)]
    reasons: Vec<ReasonCode>,
    /// Reasons that no plan may have had.
    #[serde(default)]
    never: Vec<ReasonCode>,
}

impl Scenario {
    fn world(&self, seed: u64) -> World {
        let start = START.before(self.warm_up.get());
        let end = START + self.length.get();
        // Seconds show a step as one; minutes would make a ramp of it.
        let series = self.load.series(start, end, Duration::from_secs(1));
        let time = ServiceTime::Lognormal {
            mean_s: self.service.mean.get().as_secs_f64(),
            cv: self.service.cv,
            cut: 3.2,
        };
        let latency = self.policy.slo.latency.get();
        World {
            load: Load::rate(&series, Sizes::default()),
            service: Service::Generic(Generic { concurrency: self.service.concurrency, time, latency }),
            drop_after: Duration::from_secs(30),
            retries: self.retries.as_ref().map(|r| Retries { times: r.times, after: r.after.get() }),
            start_up: StartUp { median: self.start_up.median.get(), sigma: self.start_up.sigma },
            bounds: self.policy.replicas,
            replicas: self.replicas,
            start,
            warm_up: self.warm_up.get(),
            end,
            faults: self.faults.iter().map(FaultText::fault).collect(),
            seed,
        }
    }

    fn tidegate(&self, seed: u64) -> Tidegate {
        let start = START.before(self.warm_up.get());
        let length = self.history.get();
        let demand = (!length.is_zero()).then(|| self.load.history(start.before(length), start, seed));
        let pipeline = self.pipeline.as_ref().map_or(Tidegate::PIPELINE, |text| Pipeline {
            age: text.age.get(),
            window: text.window.get(),
            ..Tidegate::PIPELINE
        });
        Tidegate::new(self.policy.clone(), History { demand, ..History::default() }, pipeline)
    }

    /// What is not as expected, one sentence each; what came of it.
    fn run(&self, seed: u64) -> (Vec<String>, String) {
        let mut tidegate = self.tidegate(seed);
        let run = simulate(&self.world(seed), &mut tidegate);
        let Run { totals, .. } = &run;
        let (missed, hours, actions) =
            (totals.miss_fraction().unwrap_or(0.0), totals.replica_hours(), totals.actions());
        let (low, high) = self.expect.replica_hours;
        let mut wrong = Vec::new();
        if missed > self.expect.missed_max {
            wrong.push(format!("missed {missed:.4}, more than {}", self.expect.missed_max));
        }
        if !(low..=high).contains(&hours) {
            wrong.push(format!("took {hours:.2} replica-hours, not {low} to {high}"));
        }
        if actions > self.expect.actions_max {
            wrong.push(format!("took {actions} actions, more than {}", self.expect.actions_max));
        }
        let had = |code: &&ReasonCode| tidegate.reasons().contains_key(*code);
        wrong.extend(self.expect.reasons.iter().filter(|c| !had(c)).map(|c| format!("no plan had {c:?}")));
        wrong.extend(self.expect.never.iter().filter(had).map(|c| format!("a plan had {c:?}")));
        let reasons: Vec<_> = tidegate.reasons().iter().map(|(code, n)| format!("{code:?} {n}")).collect();
        let reasons = reasons.join(", ");
        (wrong, format!("missed {missed:.4}, {hours:.2} replica-hours, {actions} actions; {reasons}"))
    }
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios");
    let entries = std::fs::read_dir(&folder).expect("the folder of scenarios can be read");
    let paths = entries.map(|entry| entry.expect("its entries can be read").path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

/// Runs one file; what is not as it says.
fn surprises(file: &Path) -> Vec<String> {
    let name = file.file_stem().expect("it has a name").to_string_lossy();
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{name}: {error}"));
    let scenario: Scenario = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(scenario.policy.problems(), [], "the policy of {name}");
    let one = |seed: &u64| {
        let (wrong, came) = scenario.run(*seed);
        eprintln!("{name}, seed {seed}: {came}");
        let told = wrong.into_iter().map(|what| format!("{name} ({}), seed {seed}: {what}", scenario.about));
        told.collect::<Vec<_>>()
    };
    scenario.seeds.iter().flat_map(one).collect()
}

#[test]
fn every_scenario_comes_out_as_it_says() {
    let files = files();
    assert!(!files.is_empty());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = files.len().div_ceil(threads);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let runs = files
            .chunks(share)
            .map(|files| scope.spawn(|| files.iter().flat_map(|file| surprises(file)).collect::<Vec<_>>()));
        let runs: Vec<_> = runs.collect();
        runs.into_iter().flat_map(|run| run.join().expect("a scenario panicked")).collect()
    });
    assert!(wrong.is_empty(), "{} surprises:\n{}", wrong.len(), wrong.join("\n"));
}
