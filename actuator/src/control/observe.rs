//! Observing: turns the gateway's counters, the target's events and scraped readings into what a brain is told.

use std::time::Duration;

use tidegate_brain::{Flow, Progress, Seen, Tokens};
use tidegate_core::{ReplicaCounts, Signal, Timestamp, WorkloadId};
use tokio::sync::broadcast;

use super::{DemandSource, Managed, Readings};
use crate::gateway::GatewayStats;
use crate::targets::local::{Event, EventKind};

/// A reading older than this says nothing of the present: three of the usual 2 s, and some. Where readings come less often, so many
/// of them may be missing.
const FRESH: Duration = Duration::from_secs(10);
const FRESH_READINGS: u32 = 3;
/// What lies further apart than this is a gap, not a rhythm: the longest pause between two scrapes of a server set up with care.
const EVERY_MAX: Duration = Duration::from_secs(60);
/// Events taken from a target in one look; the rest wait for the next.
const EVENTS_MAX: usize = 256;

/// What it takes to look at a workload.
pub(super) struct Eyes<'a> {
    pub(super) id: &'a WorkloadId,
    pub(super) managed: &'a Managed,
    pub(super) readings: &'a dyn Readings,
    pub(super) source: DemandSource,
    pub(super) resizing: bool,
}

/// What was seen in one look.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) seen: Option<Seen>,
    pub(super) progress: Option<Progress>,
    pub(super) gateway: Option<GatewayStats>,
    pub(super) started: Vec<Duration>,
    pub(super) lost: u32,
}

/// What is remembered from one look to the next.
#[derive(Debug)]
pub(super) struct Observer {
    events: Option<broadcast::Receiver<Event>>,
    last: Option<GatewayStats>,
    looked: Option<Timestamp>,
    scraped: Scraped,
}

/// What is remembered of a workload whose flow comes from readings: when the last new one was taken, and how far apart they come.
#[derive(Debug, Default)]
pub(crate) struct Scraped {
    last: Option<Timestamp>,
    every: Duration,
}

impl Scraped {
    /// Fills in what the replicas' own metrics say: a rate stands for the time since the last new reading.
    pub(crate) fn fill(&mut self, readings: &dyn Readings, id: &WorkloadId, now: Timestamp, seen: &mut Seen) {
        let fresh = FRESH.max(self.every * FRESH_READINGS);
        let read = |signal| {
            let (value, at) = readings.latest(id, signal)?;
            (now.since(at) <= fresh).then_some((value, at))
        };
        seen.in_flight = read(Signal::InFlight).map(|(value, _)| value);
        seen.queued = read(Signal::Queued).map(|(value, _)| value);
        seen.kv_utilisation = read(Signal::KvUtilisation).map(|(value, _)| value);
        // The first that is seen at all tells nothing of how far apart they come, so it may be as old as the slowest.
        let told = readings.latest(id, Signal::RequestsPerSecond);
        let Some((rate, at)) = told.filter(|(_, at)| now.since(*at) <= fresh.max(EVERY_MAX)) else { return };
        let last = self.last.replace(at);
        let Some(since) = last.map(|last| at.since(last)).filter(|since| !since.is_zero()) else { return };
        let window = since.min(EVERY_MAX);
        if since <= EVERY_MAX {
            // A slower rhythm is believed at once, a faster one bit by bit: readings that come together are no rhythm.
            self.every = since.max((self.every * 3 + since) / 4);
        }
        let amount = |rate: f64| rate * window.as_secs_f64();
        let completed = read(Signal::CompletionsPerSecond).map_or(rate, |(value, _)| value);
        let missed = read(Signal::SloMissesPerSecond).map(|(value, _)| amount(value));
        let tokens = read(Signal::PromptTokensPerSecond).zip(read(Signal::OutputTokensPerSecond));
        let per_output_token_s = read(Signal::PerTokenMean).map(|(value, _)| value);
        seen.flow = Some(Flow {
            window,
            age: now.since(at),
            arrivals: amount(rate),
            completed: amount(completed),
            ended: missed.map(|_| amount(completed)),
            missed,
            tokens: tokens.map(|((prompt, _), (output, _))| Tokens {
                prompt: amount(prompt),
                output: amount(output),
                per_output_token_s,
            }),
        });
    }
}

impl Observer {
    pub(super) fn new(managed: &Managed) -> Self {
        let events = managed.target.as_ref().map(|target| target.events());
        Self { events, last: None, looked: None, scraped: Scraped::default() }
    }

    pub(super) fn look_at_serving(&mut self, eyes: &Eyes<'_>, now: Timestamp) -> Look {
        let (started, lost) = self.take_events();
        let stats = eyes.managed.gateway.as_ref().map(|gateway| gateway.stats());
        let withheld = eyes.readings.withheld(eyes.id);
        let by_gateway = eyes.source == DemandSource::Gateway && stats.is_some();
        let mut seen = Seen {
            at: now,
            replicas: counts(eyes),
            flow: None,
            in_flight: None,
            queued: None,
            kv_utilisation: None,
            lost,
            crash_loop: eyes.managed.target.as_ref().is_some_and(|target| target.is_crash_looping()),
        };
        let flow = stats.as_ref().and_then(|stats| flow_between(self.last.as_ref()?, stats));
        match stats.as_ref().filter(|_| by_gateway && !withheld) {
            Some(stats) => {
                seen.flow = flow;
                seen.in_flight = Some(count(stats.in_flight));
                seen.queued = Some(count(stats.queued));
            }
            None if !by_gateway && !withheld => self.scraped.fill(eyes.readings, eyes.id, now, &mut seen),
            None => {}
        }
        self.last.clone_from(&stats);
        self.looked = Some(now);
        Look { seen: Some(seen), progress: None, gateway: stats, started, lost }
    }

    pub(super) fn look_at_training(&mut self, eyes: &Eyes<'_>, now: Timestamp) -> Look {
        let (started, lost) = self.take_events();
        let read = |signal| {
            let (value, at) = eyes.readings.latest(eyes.id, signal)?;
            (now.since(at) <= FRESH && !eyes.readings.withheld(eyes.id)).then_some(value)
        };
        let progress = Progress {
            at: now,
            workers: counts(eyes),
            samples_per_second: read(Signal::SamplesPerSecond),
            steps_per_second: read(Signal::StepsPerSecond),
            resizing: eyes.resizing,
        };
        Look { progress: Some(progress), started, lost, ..Look::default() }
    }

    /// Start-up times, and processes that ended unasked, since the last look.
    fn take_events(&mut self) -> (Vec<Duration>, u32) {
        let (mut started, mut lost) = (Vec::new(), 0);
        let Some(events) = &mut self.events else { return (started, lost) };
        for _ in 0..EVENTS_MAX {
            match events.try_recv().map(|event| event.kind) {
                Ok(EventKind::Ready { start_up }) => started.push(start_up),
                Ok(EventKind::Exited { asked: false, .. }) => lost += 1,
                Ok(_) | Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(_) => break,
            }
        }
        (started, lost)
    }
}

fn counts(eyes: &Eyes<'_>) -> ReplicaCounts {
    if let Some(target) = &eyes.managed.target {
        return target.counts();
    }
    let answering = eyes.readings.answering(eyes.id).unwrap_or(0);
    ReplicaCounts { wanted: answering, ready: answering, starting: 0, draining: 0 }
}

/// What happened between two looks; `None` when no time passed, or counters went back.
fn flow_between(before: &GatewayStats, now: &GatewayStats) -> Option<Flow> {
    let window = now.at.since(before.at);
    if window.is_zero() {
        return None;
    }
    Some(Flow {
        window,
        age: Duration::ZERO,
        arrivals: count(now.arrivals.checked_sub(before.arrivals)?),
        completed: count(now.completed.checked_sub(before.completed)?),
        ended: Some(count(now.judged.checked_sub(before.judged)?)),
        missed: Some(count(now.missed.checked_sub(before.missed)?)),
        tokens: None,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are out of reach")]
fn count(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Readings made at one moment.
    struct Scraped(Timestamp, HashMap<Signal, f64>);

    impl Readings for Scraped {
        fn latest(&self, _: &WorkloadId, signal: Signal) -> Option<(f64, Timestamp)> {
            Some((*self.1.get(&signal)?, self.0))
        }

        fn answering(&self, _: &WorkloadId) -> Option<u32> {
            Some(2)
        }

        fn withheld(&self, _: &WorkloadId) -> bool {
            false
        }
    }

    #[test]
    fn what_an_engine_tells_of_itself_reaches_the_brain() {
        let (id, managed) = (WorkloadId::local("chat").unwrap(), Managed::default());
        let mut observer = Observer::new(&managed);
        let mut look = |second: i64, told: &[(Signal, f64)]| {
            let now = Timestamp::from_secs(second);
            let readings = Scraped(now, told.iter().copied().collect());
            let source = DemandSource::Scraped;
            let eyes = Eyes { id: &id, managed: &managed, readings: &readings, source, resizing: false };
            observer.look_at_serving(&eyes, now).seen.expect("it serves")
        };
        let told = [
            (Signal::RequestsPerSecond, 4.0),
            (Signal::CompletionsPerSecond, 3.0),
            (Signal::InFlight, 30.0),
            (Signal::Queued, 5.0),
            (Signal::KvUtilisation, 0.7),
            (Signal::PromptTokensPerSecond, 4000.0),
            (Signal::OutputTokensPerSecond, 600.0),
            (Signal::PerTokenMean, 0.03),
        ];
        look(0, &told);
        let seen = look(2, &told);
        assert_eq!((seen.replicas.ready, seen.in_flight, seen.queued), (2, Some(30.0), Some(5.0)));
        assert_eq!(seen.kv_utilisation, Some(0.7));
        let flow = seen.flow.expect("two readings have a rate");
        assert_eq!((flow.arrivals, flow.completed, flow.ended, flow.missed), (8.0, 6.0, None, None));
        let tokens = Tokens { prompt: 8000.0, output: 1200.0, per_output_token_s: Some(0.03) };
        assert_eq!(flow.tokens, Some(tokens));
        let seen = look(4, &[(Signal::InFlight, 1.0)]);
        assert_eq!((seen.flow, seen.in_flight, seen.kv_utilisation), (None, Some(1.0), None));
    }

    #[test]
    fn readings_that_come_seldom_hold_until_the_next_and_one_that_stays_away_does_not() {
        let (id, mut scraped) = (WorkloadId::local("chat").unwrap(), super::Scraped::default());
        let mut look = |second: i64, newest: i64| {
            let at = Timestamp::from_secs(newest);
            let readings =
                Scraped(at, HashMap::from([(Signal::RequestsPerSecond, 4.0), (Signal::InFlight, 3.0)]));
            let mut seen = Seen { at: Timestamp::from_secs(second), ..blank() };
            scraped.fill(&readings, &id, seen.at, &mut seen);
            (seen.flow.map(|flow| (flow.window.as_secs(), flow.age.as_secs())), seen.in_flight)
        };
        assert_eq!(look(103, 100), (None, Some(3.0)));
        assert_eq!(look(134, 130), (Some((30, 4)), Some(3.0)));
        assert_eq!(look(159, 130), (None, Some(3.0)), "29 s old, where they come every 30 s");
        assert_eq!(look(221, 130), (None, None), "three are missing");
        assert_eq!(look(1002, 1000), (Some((60, 2)), Some(3.0)), "a gap is no window");
    }

    fn blank() -> Seen {
        Seen {
            at: Timestamp::EPOCH,
            replicas: ReplicaCounts::default(),
            flow: None,
            in_flight: None,
            queued: None,
            kv_utilisation: None,
            lost: 0,
            crash_loop: false,
        }
    }
}
