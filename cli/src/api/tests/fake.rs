//! A backend with made-up but moving figures: a day of ten minutes, one serving and one training workload.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "made-up figures are small and positive"
)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tidegate_core::{Forecast, LEVELS, Quantiles, Score, Signal, Subject, Timestamp, WorkloadId};
use tokio::sync::broadcast;

use crate::api::views::*;
use crate::api::{Backend, Denied, LogFilter, Refusal, SeriesQuery};

pub(super) const SERVE: &str = "local/process/digits-serve";
pub(super) const TRAIN: &str = "local/process/digits-train";

/// One of another namespace, where there is one.
pub(super) const ELSEWHERE: &str = "ml/deployment/chat";

/// Length of a made-up day, in seconds.
const DAY_S: f64 = 600.0;

pub(super) struct Fake {
    pub(super) demo: bool,
    pub(super) empty: bool,
    /// Whether there is a workload of another namespace.
    pub(super) elsewhere: bool,
    pub(super) started: Timestamp,
    pub(super) running: Mutex<Vec<RunningFault>>,
    pub(super) news: broadcast::Sender<Event>,
    pub(super) denied: Mutex<Vec<Denied>>,
    pub(super) asked: Mutex<Vec<LogFilter>>,
    made: AtomicU64,
}

impl Fake {
    pub(super) fn new(demo: bool) -> Self {
        let mut fake = Self {
            demo,
            empty: false,
            elsewhere: false,
            started: Timestamp::EPOCH,
            running: Mutex::default(),
            news: broadcast::channel(256).0,
            denied: Mutex::default(),
            asked: Mutex::default(),
            made: AtomicU64::new(0),
        };
        fake.started = fake.now().before(Duration::from_secs(95));
        fake
    }

    /// A number from 0 to 1 that depends on `k` alone.
    fn noise(k: i64) -> f64 {
        let x = (k as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f64 / (1u64 << 24) as f64
    }

    fn level(at: f64) -> f64 {
        let phase = at / DAY_S * std::f64::consts::TAU;
        42.0 - 30.0 * phase.cos() + 6.0 * (2.0 * phase + 1.0).sin()
    }

    fn demand(at: f64) -> f64 {
        (Self::level(at) + 9.0 * (Self::noise((at / 2.0) as i64) - 0.5)).max(0.0)
    }

    fn wanted(at: f64) -> u32 {
        (0..25).map(|k| Self::level(at + f64::from(k))).fold(0.0, f64::max).mul_add(1.25 / 12.0, 0.6).ceil()
            as u32
    }

    fn ready(at: f64) -> u32 {
        Self::wanted(at - 8.0).min(Self::wanted(at).max(1))
    }

    fn workers(at: f64) -> u32 {
        10u32.saturating_sub(Self::wanted(at + 6.0)).clamp(1, 6)
    }

    fn value(signal: Signal, id: &str, at: f64) -> Option<f64> {
        let (demand, ready) = (Self::demand(at), f64::from(Self::ready(at)));
        let latency = 0.09 + 0.12 * (demand / (ready * 12.0)).powi(4) + 0.01 * Self::noise(at as i64);
        let serve = id == SERVE;
        Some(match signal {
            Signal::RequestsPerSecond if serve => demand,
            Signal::LatencyP50 if serve => latency * 0.6,
            Signal::LatencyP95 if serve => latency,
            Signal::LatencyP99 if serve => latency * 1.4,
            Signal::ReplicasWanted if serve => f64::from(Self::wanted(at)),
            Signal::ReplicasReady if serve => ready,
            Signal::ReplicasStarting if serve => f64::from(Self::wanted(at).saturating_sub(Self::ready(at))),
            Signal::ReplicasWanted => f64::from(Self::workers(at)),
            Signal::ReplicasReady => f64::from(Self::workers(at - 4.0)),
            Signal::ReplicasStarting => f64::from(Self::workers(at).saturating_sub(Self::workers(at - 4.0))),
            Signal::SamplesPerSecond if !serve => {
                310.0 * f64::from(Self::workers(at - 4.0)) + 40.0 * Self::noise(at as i64)
            }
            Signal::StepsPerSecond if !serve => 9.0 + Self::noise(at as i64),
            Signal::Loss if !serve => {
                0.2 + 1.8 / (1.0 + (at.rem_euclid(86_400.0)) / 9000.0) + 0.02 * Self::noise(at as i64)
            }
            Signal::CpuBusyRatio => 0.35 + 0.3 * Self::noise(at as i64 / 3),
            Signal::MemoryAvailableBytes => 1.3e10 + 1e9 * Self::noise(at as i64 / 9),
            Signal::MemoryTotalBytes => 2.5e10,
            Signal::Load1 => 1.2 + Self::noise(at as i64 / 20),
            Signal::CpuPressureRatio | Signal::MemoryPressureRatio | Signal::IoPressureRatio => {
                0.05 * Self::noise(at as i64 / 5)
            }
            _ => return None,
        })
    }

    pub(super) fn workload_at(&self, id: &str, now: Timestamp) -> Workload {
        let at = now.as_secs_f64();
        let serve = id == SERVE;
        let killed = self.running.lock().unwrap().iter().any(|f| f.workload == id);
        let conditions = if killed {
            vec![Condition {
                name: "fault".into(),
                severity: Severity::Warning,
                text: "a fault is being tried".into(),
                since: Some(now),
            }]
        } else {
            Vec::new()
        };
        let (wanted, ready) = if serve {
            (Self::wanted(at), Self::ready(at))
        } else {
            (Self::workers(at), Self::workers(at - 4.0))
        };
        Workload {
            id: id.into(),
            role: if serve { "serving" } else { "training" }.into(),
            mode: "active".into(),
            replicas: Replicas {
                wanted: Some(wanted),
                ready: Some(ready),
                starting: Some(wanted.saturating_sub(ready)),
            },
            demand: serve
                .then(|| Demand {
                    signal: Signal::RequestsPerSecond.name().into(),
                    value: Some(Self::demand(at)),
                    unit: "req/s".into(),
                    age_s: Some(1.0),
                })
                .into_iter()
                .collect(),
            slo: if serve { Slo { attained: Some(0.9958), target: Some(0.99) } } else { Slo::default() },
            bottleneck: serve.then(|| "compute".to_owned()),
            conditions,
        }
    }

    /// Tells what a running program would tell within a second.
    pub(super) fn tick(&self) {
        let now = self.now();
        for id in [SERVE, TRAIN] {
            self.tell(Event::Workload(Box::new(self.workload_at(id, now))));
        }
        if self.made.fetch_add(1, Ordering::Relaxed).is_multiple_of(6) {
            self.tell(Event::Decision { workload: SERVE.into(), decision: Box::new(decision(now)) });
        }
    }

    pub(super) fn tell(&self, event: Event) {
        // Nobody may be listening.
        drop(self.news.send(event));
    }

    fn known(id: &WorkloadId) -> Result<(), Refusal> {
        let known = [SERVE, TRAIN].contains(&id.as_str());
        if known { Ok(()) } else { Err(Refusal::NotFound(format!("there is no workload {:?}", id.as_str()))) }
    }
}

pub(super) fn decision(at: Timestamp) -> Decision {
    let secs = at.as_secs_f64();
    let (from, to) = (Fake::wanted(secs - 12.0), Fake::wanted(secs));
    let reason = |code: &str, text: String, values: &[(&str, f64)]| Reason {
        code: code.into(),
        text,
        values: values.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
    };
    let demand = Fake::demand(secs);
    Decision {
        at,
        from,
        to,
        reasons: vec![
            reason("demand_seen", format!("{demand:.1} req/s, 1 s old"), &[("demand_rps", demand), ("age_s", 1.0)]),
            reason("reactive", format!("{demand:.1} req/s at 12.0 req/s each needs {}", (demand / 12.0).ceil()), &[("replicas", (demand / 12.0).ceil()), ("capacity_rps", 12.0)]),
            reason("predicted", format!("up to {:.1} req/s within 18 s at q0.975 needs {to}", demand * 1.2), &[("replicas", f64::from(to)), ("demand_rps", demand * 1.2), ("window_s", 18.0), ("quantile", 0.975)]),
            reason("held", "a smaller size has not been enough for 30 s yet".into(), &[("hold_s", 30.0)]),
            reason("max_replicas", "at most 8".into(), &[("replicas", 8.0)]),
        ],
        baseline: Baseline { hpa: Some(from) },
        inputs: json!({ "demand": { "value": demand, "age_s": 1.0 }, "lead_s": 12.4, "ready": from, "starting": 0, "queued": null })
            .as_object()
            .cloned()
            .unwrap(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the made-up figures move with the real clock, so that the page does"
)]
fn clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
}

impl Backend for Fake {
    fn now(&self) -> Timestamp {
        clock()
    }

    fn ready(&self) -> Result<(), String> {
        if self.empty { Err("no workload is ready".into()) } else { Ok(()) }
    }

    fn about(&self) -> About {
        let at = self.now().as_secs_f64();
        let holder = |workload: &str, role: &str, slots| PoolHolder {
            workload: workload.into(),
            role: role.into(),
            slots,
        };
        let (serving, training) =
            (Fake::wanted(at).min(8), Fake::workers(at - 4.0).min(8u32.saturating_sub(Fake::wanted(at))));
        let rival = |policy: &str, replica_hours, missed| Rival {
            policy: policy.into(),
            workload: SERVE.into(),
            replica_hours,
            slo_miss_fraction: missed,
        };
        let idle = self.empty;
        About {
            version: "0.1.0".into(),
            host: Some("gpu-box".into()),
            started_at: self.started,
            demo: self.demo,
            speed: self.demo.then_some(144.0),
            day_s: if self.demo { DAY_S } else { 86_400.0 },
            history_preloaded: self.demo.then(|| Preloaded {
                days: 2.0,
                text: "two days of the same pattern, made up before the start".into(),
            }),
            listen: vec!["http://127.0.0.1:8080".into()],
            notes: vec![
                "the service time of digits-serve is mostly a wait that stands for an accelerator".into(),
            ],
            sinks: vec![Sink {
                sink: "ndjson".into(),
                read: Some(18_231),
                shipped: Some(18_220),
                dead_lettered: Some(0),
                buffered: Some(11),
                retries: Some(0),
                lag_s: Some(0.4),
                problem: None,
            }],
            elasticsearch: self.demo.then(|| IndexedLogs {
                url: "http://127.0.0.1:9200".into(),
                written: Some(18_100),
                indexed: Some(18_100),
            }),
            pool: (!idle).then(|| Pool {
                slots: 8,
                held: vec![holder(SERVE, "serving", serving), holder(TRAIN, "training", training)],
                free: 8u32.saturating_sub(serving + training),
                notes: vec!["digits-train gives way: serving needs 1 more slot within 18 s".into()],
            }),
            rivals: if idle {
                Vec::new()
            } else {
                vec![
                    rival("tidegate", Some(1.42), Some(0.0041)),
                    rival("reactive", Some(1.37), Some(0.0193)),
                    rival("hpa", Some(1.71), Some(0.0312)),
                ]
            },
            rivals_since: Some(self.started),
        }
    }

    fn workloads(&self) -> Vec<Workload> {
        let now = self.now();
        let ids = if self.empty { &[][..] } else { &[SERVE, TRAIN] };
        let elsewhere = self.elsewhere.then_some(&ELSEWHERE);
        ids.iter().chain(elsewhere).map(|id| self.workload_at(id, now)).collect()
    }

    fn workload(&self, id: &WorkloadId) -> Option<WorkloadDetail> {
        Self::known(id).ok()?;
        let serve = id.as_str() == SERVE;
        let row = |model: &str, ratio: Option<f64>, in_use| Standing {
            signal: Signal::RequestsPerSecond.name().into(),
            model: model.into(),
            pinball: ratio.map(|r| r * 1.7),
            pinball_ratio: ratio,
            coverage95: ratio.map(|r| 0.96 - r / 40.0),
            origins: ratio.map(|_| 214),
            in_use,
        };
        Some(WorkloadDetail {
            workload: self.workload_at(id.as_str(), self.now()),
            policy: json!({ "serving": { "mode": "active", "replicas": { "min": 1, "max": 8 }, "slo": { "latency": "400ms", "target": 0.99 } } }),
            capacity: serve.then(|| Capacity {
                low: Some(11.2),
                mid: Some(12.0),
                high: Some(13.1),
                unit: "req/s".into(),
                source: "learned".into(),
                variant: Some("6d4cf56db6@NVIDIA-H100-80GB-HBM3".into()),
            }),
            lead_time: serve.then_some(LeadTime { p50_s: Some(7.9), p90_s: Some(12.4), starts: 23 }),
            provision: serve.then(|| Provision {
                text: "1 × the present demand, or the 0.95 quantile of the peak".into(),
                level: 1.0,
                usual: 0.0,
                peak_quantile: Some(0.95),
                hold_s: 120.0,
                rehearsed_replicas: 4.2,
                rehearsed_miss_fraction: 0.006,
                front: vec![FrontPoint { replicas: 4.2, miss_fraction: 0.006 }],
            }),
            league: if serve {
                vec![
                    row("mix", Some(0.71), true),
                    row("regression", Some(0.74), false),
                    row("quantile forest", Some(0.83), false),
                    row("last_value", Some(1.0), false),
                    row("ets", None, false),
                ]
            } else {
                Vec::new()
            },
            evidence: serve.then(|| Bottleneck {
                text: "in flight grows with latency while CPU stays low".into(),
                replicas_help: Some(true),
            }),
            signals: [Signal::RequestsPerSecond, Signal::LatencyP95]
                .iter()
                .map(|s| SignalName { signal: s.name().into(), unit: s.unit().symbol().into() })
                .collect(),
            slo_latency_s: serve.then_some(0.4),
            address: serve.then(|| "http://127.0.0.1:8081".into()),
        })
    }

    fn forecast(&self, id: &WorkloadId, signal: Option<Signal>) -> Result<Option<ForecastView>, Refusal> {
        Self::known(id)?;
        if id.as_str() != SERVE {
            return Ok(None);
        }
        let (now, step) = (self.now(), Duration::from_secs(5));
        let start = now.floor_to(step);
        let steps: Vec<_> = (0..48)
            .map(|k| {
                let mid = Fake::level(start.as_secs_f64() + 5.0 * f64::from(k));
                Quantiles::new(LEVELS.map(|p| mid + (3.0 + f64::from(k) * 0.12) * (p / (1.0 - p)).ln() * 0.7))
                    .unwrap()
            })
            .collect();
        let forecast = Forecast {
            signal: signal.unwrap_or(Signal::RequestsPerSecond),
            issued_at: now,
            start,
            step,
            model: "mix".into(),
            window_max: steps.clone(),
            steps,
            score: Some(Score { pinball: 1.2, pinball_ratio: 0.71, coverage95: 0.947, origins: 214 }),
        };
        Ok(Some(ForecastView::from(&forecast)))
    }

    fn series(&self, query: &SeriesQuery) -> Result<Vec<Point>, Refusal> {
        let id = match &query.subject {
            Subject::Workload(id) => {
                Self::known(id)?;
                id.as_str().to_owned()
            }
            _ => String::new(),
        };
        let now = self.now();
        let mut at = query.from.floor_to(query.step);
        let mut points = Vec::new();
        while at < query.to {
            let secs = at.as_secs_f64();
            let gap = at >= now || ((secs / DAY_S).fract() > 0.42 && (secs / DAY_S).fract() < 0.43);
            points.push(Point(at, if gap { None } else { Self::value(query.signal, &id, secs) }));
            at = at + query.step;
        }
        Ok(points)
    }

    fn decisions(&self, id: &WorkloadId, limit: usize) -> Result<Vec<Decision>, Refusal> {
        Self::known(id)?;
        let last = self.now().floor_to(Duration::from_secs(6));
        Ok((0..limit.min(30)).map(|k| decision(last.before(Duration::from_secs(6 * k as u64)))).collect())
    }

    fn summary(&self, from: Timestamp, to: Timestamp) -> Result<Summary, Refusal> {
        let serving = WorkloadSummary {
            workload: SERVE.into(),
            role: "serving".into(),
            requests: Some(25_310),
            slo_miss_fraction: Some(0.0041),
            replica_hours: Some(1.42),
            decisions: Some(31),
            forecast_score: Some(0.71),
            steps: None,
            goodput_lost_s: None,
            goodput_lost_fraction: None,
        };
        let training = WorkloadSummary {
            workload: TRAIN.into(),
            role: "training".into(),
            requests: None,
            slo_miss_fraction: None,
            forecast_score: None,
            steps: Some(5_120),
            goodput_lost_s: Some(64.0),
            goodput_lost_fraction: Some(0.021),
            ..serving.clone()
        };
        Ok(Summary { from, to, workloads: vec![serving, training] })
    }

    fn logs(&self, filter: &LogFilter) -> Result<Vec<LogLine>, Refusal> {
        self.asked.lock().unwrap().push(filter.clone());
        let last = self.now().floor_to(Duration::from_secs(1));
        let line = |k: i64| {
            let at = last.before(Duration::from_secs(u64::try_from(k).unwrap()));
            let n = at.as_millis() / 1000;
            let (workload, level, class, text) = match n % 7 {
                0 => (
                    TRAIN,
                    "info",
                    Some("training_step"),
                    format!("step {n}: loss {:.4}", 0.2 + Fake::noise(n)),
                ),
                3 => (TRAIN, "info", Some("checkpoint_saved"), format!("checkpoint {n} saved")),
                5 => (SERVE, "warn", None, "request waited 180 ms for a free replica".to_owned()),
                6 => (
                    SERVE,
                    "error",
                    Some("traceback"),
                    "Traceback (most recent call last): ValueError: image has 63 pixels, expected 64"
                        .to_owned(),
                ),
                _ => {
                    (SERVE, "info", None, format!("POST /predict 200 {:.0} ms", 80.0 + 60.0 * Fake::noise(n)))
                }
            };
            LogLine {
                at,
                workload: Some(workload.into()),
                level: Some(level.into()),
                class: class.map(str::to_owned),
                text,
            }
        };
        let passes = |line: &LogLine| {
            filter.workload.as_ref().is_none_or(|id| line.workload.as_deref() == Some(id.as_str()))
                && filter.level.as_ref().is_none_or(|level| line.level.as_ref() == Some(level))
                && filter.class.as_ref().is_none_or(|class| line.class.as_ref() == Some(class))
                && filter
                    .text
                    .as_ref()
                    .is_none_or(|text| line.text.to_lowercase().contains(&text.to_lowercase()))
        };
        Ok(if self.empty {
            Vec::new()
        } else {
            (0..400).map(line).filter(passes).take(filter.limit).collect()
        })
    }

    fn node(&self) -> Vec<NodeReading> {
        let at = self.now().as_secs_f64();
        let reading = |signal: Signal, part: Option<&str>, value| NodeReading {
            signal: signal.name().into(),
            unit: signal.unit().symbol().into(),
            part: part.map(str::to_owned),
            value,
            age_s: Some(0.8),
        };
        let whole = [
            Signal::CpuBusyRatio,
            Signal::Load1,
            Signal::MemoryAvailableBytes,
            Signal::MemoryTotalBytes,
            Signal::CpuPressureRatio,
        ];
        let mut all: Vec<_> = whole.iter().map(|s| reading(*s, None, Self::value(*s, "", at))).collect();
        all.push(reading(Signal::FilesystemAvailableBytes, Some("/"), Some(3.1e10)));
        all.push(reading(Signal::FilesystemSizeBytes, Some("/"), Some(6.2e10)));
        all.push(reading(Signal::FilesystemHoursUntilFull, Some("/"), None));
        all.push(reading(Signal::DiskWrittenBytesPerSecond, Some("vda"), Some(1.4e6)));
        all
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.news.subscribe()
    }

    fn alerts(&self, batch: AlertBatch) -> Result<AlertReport, Refusal> {
        let outcome = |alert: Alert| AlertOutcome {
            fingerprint: alert.fingerprint,
            outcome: if alert.status == AlertStatus::Firing { "applied" } else { "resolved" }.into(),
            workload: alert.labels.get("workload").cloned(),
            text: String::new(),
        };
        Ok(AlertReport { results: batch.alerts.into_iter().map(outcome).collect() })
    }

    fn metrics(&self, accept: Option<&str>) -> Exposition {
        let open = accept.is_some_and(|a| a.contains("openmetrics"));
        let content_type = if open {
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        } else {
            "text/plain; version=0.0.4; charset=utf-8"
        };
        Exposition { content_type: content_type.into(), body: "# EOF\n".into() }
    }

    fn faults(&self) -> Option<Faults> {
        let target = |workload: &str, faults: &[Fault]| FaultTarget {
            workload: workload.into(),
            faults: faults.to_vec(),
        };
        self.demo.then(|| Faults {
            targets: vec![
                target(SERVE, &[Fault::KillReplica, Fault::StopMetrics, Fault::CrashLoop]),
                target(TRAIN, &[Fault::KillReplica, Fault::FailCheckpoint]),
            ],
            running: self.running.lock().unwrap().clone(),
        })
    }

    fn trigger(&self, request: &FaultRequest) -> Result<Faults, Refusal> {
        let id: WorkloadId = request.workload.parse().map_err(|e| Refusal::Invalid(format!("{e}")))?;
        Self::known(&id)?;
        let mut running = self.running.lock().unwrap();
        running.retain(|fault| fault.workload != request.workload);
        if request.fault != Fault::Clear {
            running.push(RunningFault {
                workload: request.workload.clone(),
                fault: request.fault,
                since: self.now(),
            });
        }
        drop(running);
        self.faults().ok_or_else(|| Refusal::Conflict("not the demo".into()))
    }

    fn denied(&self, cause: Denied) {
        self.denied.lock().unwrap().push(cause);
    }
}
