//! The demo: two sample workloads on this machine, a load that follows a daily pattern or a trace, and faults to try.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context;
use tidegate_actuator::control::Managed;
use tidegate_core::policy::{ForecastPolicy, Scaling};
use tidegate_core::{
    Bounds, CapacityHint, Mode, Ratio, Sample, ServingPolicy, Signal, Slo, Span, Subject, Timestamp,
    TrainingPolicy, WorkloadId,
};
use tidegate_digits::faults::Fault as SampleFault;
use tidegate_history::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::machine::{Machine, lock};
use crate::api::Refusal;
use crate::api::views::{self, Fault};
use crate::args::UpArgs;
use crate::clock;
use crate::config::{CheckpointHook, Gateway, Metrics, Pool, Process, Workload};
use crate::load::{self, Shape};

const SERVE: &str = "digits-serve";
const TRAIN: &str = "digits-train";
/// Slots that replicas and workers share: the burst needs most of them, the night a few.
const SLOTS: u32 = 14;
/// Wait that stands for the accelerator, per request.
const SERVICE_TIME: &str = "150ms";
/// Wait that stands for loading weights, per start.
const LOAD_TIME: &str = "5s";
/// Requests that one replica serves at a time.
const CONCURRENCY: u32 = 4;
/// Requests per second that one replica carries within the objective: 4 at a time, 0.15 s each, at three quarters of full.
const CAPACITY_RPS: f64 = 20.0;
/// Load at night and at the peak, in requests per second.
const BASE_RPS: f64 = 12.0;
const PEAK_RPS: f64 = 120.0;
/// Steps in a day: fine enough for the morning's rise, coarse enough that a step holds tens of requests.
const STEPS_PER_DAY: f64 = 120.0;
/// Days of the same pattern that are preloaded.
const PRELOADED_DAYS: u32 = 2;
/// Steps of training with which the served model is made: a second or two.
const MODEL_STEPS: &str = "400";
/// A day of the demo begins at this share of the pattern's day: shortly before the morning's rise.
const BEGINS_AT: f64 = 0.2;

/// What the demo needs to know before it starts.
#[derive(Debug)]
pub(super) struct Demo {
    pub(super) speed: f64,
    seed: u64,
    cold: bool,
    shape: Shape,
    program: PathBuf,
    folder: PathBuf,
}

impl Demo {
    pub(super) fn new(args: &UpArgs, data: &Path) -> anyhow::Result<Self> {
        let day = Duration::from_secs_f64(86_400.0 / args.speed);
        let shape = match &args.trace {
            Some(file) => Shape::trace(file, args.unit, args.speed, PEAK_RPS)?,
            None => Shape::daily(BASE_RPS, PEAK_RPS, day, args.seed),
        };
        Ok(Self {
            speed: args.speed,
            seed: args.seed,
            cold: args.cold,
            shape,
            program: std::env::current_exe().context("failed to find this program's own file")?,
            folder: data.join("demo"),
        })
    }

    /// Length of a day of load.
    pub(super) fn day(&self) -> Duration {
        Duration::from_secs_f64(86_400.0 / self.speed)
    }

    pub(super) const fn pool(&self) -> Pool {
        Pool { slots: SLOTS }
    }

    fn model(&self) -> PathBuf {
        self.folder.join("model.bin")
    }

    fn faults(&self, name: &str) -> PathBuf {
        self.folder.join("faults").join(name)
    }

    /// The sample workloads, as a user would write them in `tidegate.yaml`.
    pub(super) fn workloads(&self) -> Vec<Workload> {
        vec![self.serve(), self.train()]
    }

    fn serve(&self) -> Workload {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let (model, faults) = (path(self.model()), path(self.faults(SERVE)));
        let options = [
            ("--port", "{port}"),
            ("--model", &model),
            ("--service-time", SERVICE_TIME),
            ("--load-time", LOAD_TIME),
            ("--concurrency", &CONCURRENCY.to_string()),
            ("--faults", &faults),
        ];
        Workload {
            gateway: Some(Gateway::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))),
            serving: Some(self.serving_policy()),
            ..self.sample(SERVE, &options)
        }
    }

    fn train(&self) -> Workload {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let (dir, faults) = (path(self.folder.join("training")), path(self.faults(TRAIN)));
        let options = [("--port", "{port}"), ("--dir", &*dir), ("--faults", &faults)];
        Workload {
            checkpoint: Some(CheckpointHook { path: "/checkpoint".into(), timeout: Span::from_secs(10) }),
            training: Some(TrainingPolicy {
                mode: Mode::Active,
                workers: Bounds { min: 1, max: 10 },
                gang: 1,
                grow_hold: Span::from_secs(30),
                resizes_per_hour_max: 120,
                priority: 0,
            }),
            ..self.sample(TRAIN, &options)
        }
    }

    fn sample(&self, name: &str, options: &[(&str, &str)]) -> Workload {
        let mut command = vec![self.program.to_string_lossy().into_owned(), "sample".into(), name.into()];
        command
            .extend(options.iter().flat_map(|(option, value)| [(*option).to_owned(), (*value).to_owned()]));
        Workload {
            name: name.into(),
            process: Some(Process {
                command,
                env: BTreeMap::new(),
                directory: None,
                ready_path: Some("/readyz".into()),
                start_deadline: Span::from_secs(15),
                stop_grace: Span::from_secs(10),
            }),
            gateway: None,
            metrics: Some(Metrics::default()),
            checkpoint: None,
            files: Vec::new(),
            serving: None,
            training: None,
        }
    }

    fn serving_policy(&self) -> ServingPolicy {
        let day = self.day();
        // Whole seconds, and a whole number of them to a day, so that a season is a whole number of steps.
        let step = Duration::from_secs_f64((day.as_secs_f64() / STEPS_PER_DAY).round().max(1.0));
        ServingPolicy {
            mode: Mode::Active,
            replicas: Bounds { min: 1, max: SLOTS - 1 },
            slo: Slo {
                latency: Span::from(Duration::from_millis(500)),
                per_output_token: None,
                target: Ratio::new(0.99).expect("0.99 is a share"),
            },
            capacity: CapacityHint {
                requests_per_second: Some(CAPACITY_RPS),
                concurrency: Some(CONCURRENCY),
            },
            forecast: ForecastPolicy { enabled: true, step: step.into(), seasons: vec![day.into()] },
            scaling: Scaling {
                lead_time: Span::from_secs(8),
                scale_down_hold: Span::from_secs(20),
                flap_window: Span::from_secs(15),
                scale_downs_per_hour_max: 240,
                ..Scaling::default()
            },
            schedule: Vec::new(),
            alerts: vec![tidegate_core::policy::AlertRule {
                labels: BTreeMap::from([("alertname".into(), "TidegateSloMissed".into())]),
                add: Some(2),
                floor: None,
                ttl: Span::from_secs(120),
                cool_down: Span::from_secs(60),
                per_hour_max: 6,
            }],
            fallback: None,
            priority: 1,
        }
    }

    /// Makes what the workloads need: folders, no faults, the served model, and the history. Gives the days preloaded.
    pub(super) async fn prepare(&self, store: &Store, now: Timestamp) -> anyhow::Result<Option<f64>> {
        for name in [SERVE, TRAIN] {
            let folder = self.faults(name);
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("failed to make {}", folder.display()))?;
            for fault in SampleFault::ALL {
                clear(&folder, fault)?;
            }
        }
        self.make_model().await?;
        if self.cold {
            return Ok(None);
        }
        Ok(Some(self.preload(store, now)))
    }

    async fn make_model(&self) -> anyhow::Result<()> {
        if self.model().is_file() {
            return Ok(());
        }
        tracing::info!(steps = MODEL_STEPS, "training the sample's model");
        let mut command = tokio::process::Command::new(&self.program);
        command.args(["sample", "digits-train", "--once", "--steps", MODEL_STEPS, "--out"]).arg(self.model());
        let output =
            command.kill_on_drop(true).output().await.context("failed to train the sample's model")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "failed to train the sample's model: {}", said.trim());
        Ok(())
    }

    /// Two days of the same pattern, with other chance, up to now; only what the history does not have yet.
    fn preload(&self, store: &Store, now: Timestamp) -> f64 {
        let subject = Subject::Workload(sample_id(SERVE));
        let since = store.latest(&subject, Signal::RequestsPerSecond).ok().flatten().map(|(at, _)| at);
        let days = f64::from(PRELOADED_DAYS);
        let from = now.before(self.day() * PRELOADED_DAYS);
        let mut samples = Vec::new();
        for (k, arrivals) in self
            .shape
            .counts_before(self.begins(), self.day() * PRELOADED_DAYS, self.seed)
            .into_iter()
            .enumerate()
        {
            let at = from + Duration::from_secs(k as u64);
            if since.is_none_or(|since| at > since) {
                samples.extend(Sample::new(
                    subject.clone(),
                    Signal::RequestsPerSecond,
                    at,
                    f64::from(arrivals),
                ));
            }
        }
        let appended = store.append(&samples);
        tracing::info!(days, samples = appended.stored, "history preloaded");
        days
    }

    /// Where in the pattern the load begins.
    fn begins(&self) -> Duration {
        self.day() * PRELOADED_DAYS + self.day().mul_f64(BEGINS_AT)
    }

    /// Starts the load as soon as a replica is ready to take it.
    pub(super) fn run(&self, managed: &BTreeMap<WorkloadId, Managed>) -> anyhow::Result<Running> {
        let serve = managed.get(&sample_id(SERVE)).context("the demo serves")?;
        let gateway = serve.gateway.as_ref().context("the demo has a gateway")?.addr();
        let mut replicas = serve.target.as_ref().context("the demo has replicas")?.watch();
        let (shape, begins, seed) = (self.shape.clone(), self.begins(), self.seed);
        let (stop, mut stopped) = watch::channel(false);
        let load = tokio::spawn(async move {
            tokio::select! {
                ready = replicas.wait_for(|seen| seen.counts.ready > 0) => ready.ok()?,
                _ = stopped.wait_for(|stop| *stop) => return None,
            };
            let generator = load::Generator::start_digits(gateway, shape, begins, seed);
            // Also over when the demo is dropped.
            drop(stopped.wait_for(|stop| *stop).await);
            Some(generator.stop().await)
        });
        let folders = [SERVE, TRAIN].map(|name| (sample_id(name), self.faults(name)));
        Ok(Running { stop, load: Mutex::new(Some(load)), folders: folders.into(), faults: Mutex::default() })
    }
}

fn sample_id(name: &str) -> WorkloadId {
    WorkloadId::local(name).expect("the samples' names are segments")
}

/// The demo at work.
pub(super) struct Running {
    stop: watch::Sender<bool>,
    load: Mutex<Option<JoinHandle<Option<load::Snapshot>>>>,
    folders: BTreeMap<WorkloadId, PathBuf>,
    faults: Mutex<BTreeMap<(WorkloadId, Fault), Timestamp>>,
}

impl Running {
    /// Ends the load.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        let load = lock(&self.load).take();
        let Some(load) = load else { return };
        if let Ok(Some(end)) = load.await {
            tracing::info!(sent = end.sent, ok = end.ok, not_sent = end.not_sent, "load ended");
        }
    }

    /// Faults that can be tried, and those that hold.
    pub(super) fn faults(&self) -> views::Faults {
        let targets = self
            .folders
            .keys()
            .map(|id| views::FaultTarget { workload: id.to_string(), faults: possible(id).into() });
        let running = lock(&self.faults);
        let running = running.iter().map(|((id, fault), since)| views::RunningFault {
            workload: id.to_string(),
            fault: *fault,
            since: *since,
        });
        views::Faults { targets: targets.collect(), running: running.collect() }
    }

    /// Names of the faults that hold for a workload.
    pub(super) fn running_names(&self, id: &WorkloadId) -> Vec<String> {
        let name =
            |fault: &Fault| serde_json::to_value(fault).ok().and_then(|v| v.as_str().map(str::to_owned));
        lock(&self.faults).keys().filter(|(of, _)| of == id).filter_map(|(_, fault)| name(fault)).collect()
    }

    /// Starts a fault, or ends all of a workload's.
    pub(super) fn trigger(&self, machine: &Machine, id: &WorkloadId, fault: Fault) -> Result<(), Refusal> {
        let folder =
            self.folders.get(id).ok_or_else(|| Refusal::NotFound(format!("no sample workload {id}")))?;
        if fault != Fault::Clear && !possible(id).contains(&fault) {
            return Err(Refusal::Invalid(format!("{id} has no such fault")));
        }
        let failed =
            |error: std::io::Error| Refusal::Unavailable(format!("the fault could not be set: {error}"));
        match fault {
            Fault::KillReplica => return kill(machine, id),
            Fault::StopMetrics => {
                set(folder, SampleFault::NoMetrics).map_err(failed)?;
                machine.collected.withhold(id, true);
            }
            Fault::CrashLoop => set(folder, SampleFault::Crash).map_err(failed)?,
            Fault::FailCheckpoint => set(folder, SampleFault::FailCheckpoint).map_err(failed)?,
            Fault::Clear => {
                for fault in SampleFault::ALL {
                    clear(folder, fault).map_err(|error| Refusal::Unavailable(format!("{error:#}")))?;
                }
                machine.collected.withhold(id, false);
                lock(&self.faults).retain(|(of, _), _| of != id);
                return Ok(());
            }
        }
        lock(&self.faults).insert((id.clone(), fault), clock::now());
        Ok(())
    }
}

fn possible(id: &WorkloadId) -> &'static [Fault] {
    match id.name() {
        SERVE => &[Fault::KillReplica, Fault::StopMetrics, Fault::CrashLoop],
        _ => &[Fault::KillReplica, Fault::StopMetrics, Fault::CrashLoop, Fault::FailCheckpoint],
    }
}

/// Kills the newest ready replica.
fn kill(machine: &Machine, id: &WorkloadId) -> Result<(), Refusal> {
    use tidegate_actuator::targets::local::ReplicaState;
    let target = lock(&machine.control).as_ref().and_then(|control| control.managed(id)?.target.clone());
    let target = target.ok_or_else(|| Refusal::Unavailable("stopping".into()))?;
    let victim =
        target.replicas().into_iter().filter(|r| r.state == ReplicaState::Ready).map(|r| r.index).next_back();
    let victim = victim.ok_or_else(|| Refusal::Conflict("no replica is ready".into()))?;
    let killed = tokio::runtime::Handle::current().block_on(target.kill_replica(victim));
    killed.map_err(|error| Refusal::Conflict(error.to_string()))
}

fn set(folder: &Path, fault: SampleFault) -> std::io::Result<()> {
    std::fs::write(folder.join(fault.file_name()), b"")
}

fn clear(folder: &Path, fault: SampleFault) -> anyhow::Result<()> {
    let file = folder.join(fault.file_name());
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", file.display()))
        }
        _ => Ok(()),
    }
}
