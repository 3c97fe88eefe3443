//! `tidegate replay`: lets a simulator drive the brain through a recorded load, in JSON lines on stdin and stdout. The same brain as
//! everywhere, with the same defaults; it is told nothing of the simulator but what the protocol says.

mod message;

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tidegate_brain::{Brain, Event, Flow, History, Seen, Tokens};
use tidegate_core::policy::{ForecastPolicy, Scaling};
use tidegate_core::{
    Bounds, CapacityHint, Mode, Policy, Ratio, Rehearsed, ReplicaCounts, Series, ServingPolicy, Slo, Span,
    Timestamp, WorkloadId,
};

use message::{FromSimulator, Init, Objective, Tick};

/// Version of the protocol that is spoken.
const PROTOCOL: u64 = 1;
/// Reasons given with a plan.
const REASONS_MAX: usize = 16;

/// Speaks the protocol until the end of the conversation.
pub(crate) fn run(input: impl BufRead, mut output: impl Write) -> anyhow::Result<()> {
    let mut lines = input.lines();
    let first = lines.next().context("the simulator said nothing")?.context("failed to read stdin")?;
    let FromSimulator::Init(init) =
        serde_json::from_str(&first).context("the first line is not an `init`")?
    else {
        bail!("the first line is not an `init`");
    };
    if init.protocol != PROTOCOL {
        bail!("protocol {} is not known; this speaks {PROTOCOL}", init.protocol);
    }
    let mut replay = Replay::new(&init)?;
    say(&mut output, &json!({ "type": "ready" }))?;
    for line in lines {
        // A line that cannot be parsed, and a closed stdin, are the end, as the protocol says.
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(FromSimulator::Tick(tick)) => say(&mut output, &replay.tick(&tick)?)?,
            Ok(FromSimulator::Event(event)) => replay.event(&event),
            Ok(FromSimulator::Init(_) | FromSimulator::End) => break,
            Err(error) => {
                tracing::warn!(%error, "a line that is none of the protocol's ends the conversation");
                break;
            }
        }
    }
    Ok(())
}

fn say(output: &mut impl Write, message: &Value) -> anyhow::Result<()> {
    writeln!(output, "{message}").and_then(|()| output.flush()).context("failed to write to stdout")
}

struct Replay {
    brain: Brain,
    bounds: Bounds,
    /// The latest time seen: a simulator that goes back in time gets plans, but teaches nothing.
    latest: Timestamp,
    /// The end of the figures taken in so far.
    counted_to: f64,
    stance: Option<Rehearsed>,
}

impl Replay {
    fn new(init: &Init) -> anyhow::Result<Self> {
        let workload = &init.workload;
        let bounds =
            Bounds { min: workload.replicas.min, max: workload.replicas.max.max(workload.replicas.min) };
        let id: WorkloadId = WorkloadId::local("workload").expect("the name is plain");
        let now = Timestamp::from_secs_f64(init.start_time).context("`start_time` is no time")?;
        let brain = Brain::new(id, Policy::Serving(policy(init, bounds)?), history(init).unwrap_or_default());
        let mut replay = Self { brain, bounds, latest: now, counted_to: f64::NEG_INFINITY, stance: None };
        replay.brain.study();
        Ok(replay)
    }

    fn event(&mut self, event: &message::Happened) {
        let (Some(at), true) = (Timestamp::from_secs_f64(event.t), event.event == "replica_ready") else {
            return;
        };
        if let Some(start_up) = event.start_up_s.and_then(|s| Duration::try_from_secs_f64(s).ok()) {
            self.brain.ingest(Event::Started { at, start_up });
        }
    }

    fn tick(&mut self, tick: &Tick) -> anyhow::Result<Value> {
        let now = Timestamp::from_secs_f64(tick.t).context("the tick's `t` is no time")?;
        if now >= self.latest {
            self.latest = now;
            let seen = self.seen(tick, now);
            self.brain.ingest(Event::Seen(seen));
            self.brain.study();
            self.tell_stance();
        }
        let (plan, _) = self.brain.tick(self.latest, None);
        let reasons: Vec<&str> =
            plan.reasons.iter().take(REASONS_MAX).map(|reason| reason.text.as_str()).collect();
        let replicas = self.bounds.clamp(plan.replicas);
        Ok(json!({ "type": "plan", "t": tick.t, "replicas": replicas, "reasons": reasons }))
    }

    /// Logs how the workload is provided for, when that has changed.
    fn tell_stance(&mut self) {
        let stance = self.brain.stance(self.latest).copied();
        if stance != self.stance {
            self.stance = stance;
            if let Some(Rehearsed { stance, replicas, actions_per_hour, missed }) = stance {
                tracing::debug!(at = %self.latest, ?stance, replicas, actions_per_hour, missed, capacity = ?self.brain.capacity(), "stance");
            }
        }
    }

    /// What the tick tells. A window that overlaps the one before counts only for what is new in it.
    fn seen(&mut self, tick: &Tick, now: Timestamp) -> Seen {
        let end = tick.t - tick.age_s.unwrap_or(0.0).max(0.0);
        let window_s = tick.window_s.unwrap_or(0.0).max(0.0);
        let new_s = (end - self.counted_to.max(end - window_s)).clamp(0.0, window_s);
        self.counted_to = self.counted_to.max(end);
        let share = if window_s > 0.0 { new_s / window_s } else { 0.0 };
        let ended = tick.completed.zip(tick.dropped).map(|(completed, dropped)| completed + dropped);
        let flow = tick.arrivals.filter(|_| share > 0.0).and_then(|arrivals| {
            Some(Flow {
                window: Duration::try_from_secs_f64(new_s).ok()?,
                // The age that the tick tells is the pipeline's, the same each time: what is learned has it in it.
                age: Duration::ZERO,
                arrivals: arrivals * share,
                completed: tick.completed.unwrap_or(0.0) * share,
                ended: ended.map(|ended| ended * share),
                missed: tick.slo_miss.map(|missed| missed * share),
                tokens: tick.prompt_tokens.zip(tick.output_tokens).map(|(prompt, output)| Tokens {
                    prompt: prompt * share,
                    output: output * share,
                    per_output_token_s: tick.tpot_mean_s,
                }),
            })
        });
        let replicas = ReplicaCounts {
            wanted: tick.replicas.desired,
            ready: tick.replicas.ready,
            starting: tick.replicas.starting,
            draining: tick.replicas.draining,
        };
        Seen {
            at: now,
            replicas,
            flow,
            in_flight: tick.in_flight,
            queued: tick.queued,
            kv_utilisation: tick.kv_utilisation,
            lost: 0,
            crash_loop: false,
        }
    }
}

/// The default policy with what the simulator asks for.
fn policy(init: &Init, bounds: Bounds) -> anyhow::Result<ServingPolicy> {
    let workload = &init.workload;
    let seconds = |s: f64, name: &str| {
        let span = Duration::try_from_secs_f64(s).ok().filter(|span| !span.is_zero());
        span.map(Span::from).with_context(|| format!("`{name}` is no length of time"))
    };
    let (latency, per_output_token) = match workload.slo {
        Objective::Latency { latency_s } => (seconds(latency_s, "slo.latency_s")?, None),
        Objective::Llm { ttft_s, tpot_s } => {
            (seconds(ttft_s, "slo.ttft_s")?, Some(seconds(tpot_s, "slo.tpot_s")?))
        }
    };
    let concurrency = workload.replica.as_ref().and_then(|replica| replica.max_concurrency);
    let target = Ratio::new(workload.attainment_target).context("`attainment_target`")?;
    let scaling = match workload.start_up_hint_s {
        Some(hint) => Scaling { lead_time: seconds(hint, "start_up_hint_s")?, ..Scaling::default() },
        None => Scaling::default(),
    };
    Ok(ServingPolicy {
        mode: Mode::Active,
        replicas: bounds,
        slo: Slo { latency, per_output_token, target },
        capacity: CapacityHint { requests_per_second: None, concurrency },
        forecast: ForecastPolicy::default(),
        scaling,
        schedule: Vec::new(),
        alerts: Vec::new(),
        fallback: None,
        priority: 0,
    })
}

/// The load per second by the brain's step. Rows that are none, or not in order, are left out.
fn history(init: &Init) -> Option<History> {
    let history = init.history.as_ref()?;
    let column = |name: &str| history.columns.iter().position(|column| column == name);
    let tokens = column("prompt_tokens").zip(column("output_tokens"));
    Some(History {
        demand: series(init, history, column("arrivals")?),
        tokens: tokens.and_then(|(prompt, output)| {
            Some([series(init, history, prompt)?, series(init, history, output)?])
        }),
    })
}

fn series(init: &Init, history: &message::Past, column: usize) -> Option<Series> {
    let time = history.columns.iter().position(|column| column == "t")?;
    let step_s = history.step_s.filter(|step| step.is_finite() && *step > 0.0)?;
    let step = ForecastPolicy::default().step.get();
    let mut sums: BTreeMap<Timestamp, (f64, f64)> = BTreeMap::new();
    for row in &history.rows {
        let read = |at: usize| row.get(at).copied().flatten().filter(|value| value.is_finite());
        let (Some(t), Some(count)) = (read(time), read(column).filter(|count| *count >= 0.0)) else {
            continue;
        };
        let Some(at) = Timestamp::from_secs_f64(t).filter(|_| t < init.start_time) else { continue };
        let sum = sums.entry(at.floor_to(step)).or_default();
        sum.0 += count;
        sum.1 += step_s;
    }
    let points: Vec<_> = sums.into_iter().map(|(at, (count, seconds))| (at, count / seconds)).collect();
    Series::from_points(&points, step)
}

#[cfg(test)]
mod tests;
