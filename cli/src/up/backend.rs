//! What the API shows of this machine: the parts' figures in the API's shapes.

use tidegate_agent::export::Format;
use tidegate_agent::logs::{self, LogClass, LogLevel};
use tidegate_brain::Brain;
use tidegate_core::{Label, Metric, Signal, Subject, Timestamp, WorkloadId};
use tokio::sync::broadcast;

use super::machine::{Machine, lock};
use super::rivals::Rivals;
use super::round::log_line;
use super::settings::LogSetting;
use crate::api::views::{self, About, AlertBatch, AlertReport, Event, Exposition, ForecastView, Point};
use crate::api::{Backend, Denied, LogFilter, Refusal, SeriesQuery};
use crate::{clock, show, summary};

impl Machine {
    /// Looks at one brain.
    fn brain<T>(&self, id: &WorkloadId, look: impl FnOnce(&Brain) -> T) -> Result<T, Refusal> {
        let control = lock(&self.control);
        let control = control.as_ref().ok_or_else(|| Refusal::Unavailable("stopping".into()))?;
        let brain = control.fleet().get(id).ok_or_else(|| Refusal::NotFound(format!("no workload {id}")))?;
        Ok(look(brain))
    }
}

impl Backend for Machine {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn ready(&self) -> Result<(), String> {
        match lock(&self.control).is_some() {
            true => Ok(()),
            false => Err("stopping".into()),
        }
    }

    fn about(&self) -> About {
        // One lock at a time: a round holds others while it takes these.
        let (rivals_since, rivals) = rivals_view(&lock(&self.rivals));
        let pool = lock(&self.control).as_ref().and_then(|control| show::pool(control.fleet()));
        let days = self.preloaded;
        About {
            version: env!("CARGO_PKG_VERSION").into(),
            host: Some(self.host.clone()),
            started_at: self.started_at,
            demo: self.demo.is_some(),
            speed: self.settings.demo.as_ref().map(|demo| demo.speed),
            day_s: self.settings.demo.as_ref().map_or(86_400.0, |demo| demo.day().as_secs_f64()),
            history_preloaded: days.map(|days| views::Preloaded {
                days,
                text: "made by the same pattern as the load that follows, with other chance".into(),
            }),
            listen: self.addresses.clone(),
            notes: self.notes.clone(),
            sinks: sinks(self),
            elasticsearch: indexed(self),
            pool,
            rivals_since,
            rivals,
        }
    }

    fn workloads(&self) -> Vec<views::Workload> {
        lock(&self.cards).values().map(|card| card.view.clone()).collect()
    }

    fn workload(&self, id: &WorkloadId) -> Option<views::WorkloadDetail> {
        let workload = lock(&self.cards).get(id)?.view.clone();
        let signals = self.store.signals(&Subject::Workload(id.clone()));
        let name = format!("{}: ", id.name());
        let address = self.addresses.iter().find_map(|address| address.strip_prefix(&name));
        self.brain(id, |brain| show::detail(workload, brain, &signals, address.map(str::to_owned))).ok()
    }

    fn forecast(&self, id: &WorkloadId, signal: Option<Signal>) -> Result<Option<ForecastView>, Refusal> {
        show::must_be_forecast(signal)?;
        self.brain(id, |brain| brain.forecast().map(ForecastView::from))
    }

    fn series(&self, query: &SeriesQuery) -> Result<Vec<Point>, Refusal> {
        if let Subject::Workload(id) = &query.subject
            && !lock(&self.cards).contains_key(id)
        {
            return Err(Refusal::NotFound(format!("no workload {id}")));
        }
        show::series(&self.store, query)
    }

    fn decisions(&self, id: &WorkloadId, limit: usize) -> Result<Vec<views::Decision>, Refusal> {
        self.brain(id, |_| ())?;
        show::decisions(&self.store, id, limit)
    }

    fn summary(&self, from: Timestamp, to: Timestamp) -> Result<views::Summary, Refusal> {
        // History that the demo made up is nothing that a workload did.
        let from = if self.preloaded.is_some() { from.max(self.started_at) } else { from };
        let control = lock(&self.control);
        let control = control.as_ref().ok_or_else(|| Refusal::Unavailable("stopping".into()))?;
        summary::summary(&self.store, control.fleet().brains(), from, to)
    }

    fn logs(&self, filter: &LogFilter) -> Result<Vec<views::LogLine>, Refusal> {
        let unknown = |what: &str, name: &str| Refusal::Invalid(format!("no {what} is called {name}"));
        let class = |name: &String| LogClass::from_name(name).ok_or_else(|| unknown("class", name));
        let level = |name: &String| LogLevel::from_word(name).ok_or_else(|| unknown("level", name));
        let filter = logs::LogFilter {
            workload: filter.workload.clone(),
            class: filter.class.as_ref().map(class).transpose()?,
            level: filter.level.as_ref().map(level).transpose()?,
            text: filter.text.clone(),
            limit: filter.limit,
        };
        let logs = lock(&self.logs);
        let logs = logs.as_ref().ok_or_else(|| Refusal::Unavailable("stopping".into()))?;
        Ok(logs.recent(&filter).iter().map(|line| log_line(line)).collect())
    }

    fn node(&self) -> Vec<views::NodeReading> {
        show::node(&self.latest, clock::now(), super::machine::SHOWN_FOR)
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.news.subscribe()
    }

    fn alerts(&self, batch: AlertBatch) -> Result<AlertReport, Refusal> {
        let now = clock::now();
        let mut control = lock(&self.control);
        let control = control.as_mut().ok_or_else(|| Refusal::Unavailable("stopping".into()))?;
        Ok(show::alerts(&self.registry, batch, |alert| control.admit(alert, now)))
    }

    fn metrics(&self, accept: Option<&str>) -> Exposition {
        let format = Format::negotiate(accept);
        Exposition { content_type: format.content_type().into(), body: self.exporter.page(format) }
    }

    fn faults(&self) -> Option<views::Faults> {
        self.demo.as_ref().map(|demo| demo.faults())
    }

    fn trigger(&self, request: &views::FaultRequest) -> Result<views::Faults, Refusal> {
        let demo = self
            .demo
            .as_ref()
            .ok_or_else(|| Refusal::NotFound("faults are tried in the demo only".into()))?;
        let id: WorkloadId = request
            .workload
            .parse()
            .map_err(|_| Refusal::NotFound(format!("no workload {}", request.workload)))?;
        demo.trigger(self, &id, request.fault)?;
        Ok(demo.faults())
    }

    fn denied(&self, cause: Denied) {
        self.registry.counter(Metric::AuthDenied, &[(Label::Cause, cause.as_str())]).inc();
    }
}

/// Since when rivals are compared, and what each has cost.
fn rivals_view(all: &[Rivals]) -> (Option<Timestamp>, Vec<views::Rival>) {
    let compared = all.iter().filter(|rivals| rivals.since.is_some());
    let rows = compared.flat_map(|rivals| {
        rivals.totals().into_iter().map(|(policy, totals)| views::Rival {
            policy: policy.to_owned(),
            workload: rivals.workload().to_string(),
            replica_hours: Some(totals.replica_seconds / 3600.0),
            slo_miss_fraction: totals.miss_fraction(),
        })
    });
    (all.iter().filter_map(|rivals| rivals.since).min(), rows.collect())
}

fn sinks(machine: &Machine) -> Vec<views::Sink> {
    let stats = lock(&machine.logs).as_ref().map(|logs| logs.stats());
    let sink = |stats: logs::LogStats| views::Sink {
        sink: stats.sink.into(),
        read: Some(stats.read_total()),
        shipped: Some(stats.shipped),
        dead_lettered: Some(stats.dead_lettered_total()),
        buffered: Some(stats.buffered),
        retries: Some(stats.retries.values().sum()),
        lag_s: stats.lag.map(|lag| lag.as_secs_f64()),
        // A line is acknowledged within a second or two; one that waits for longer has a sink that does not answer.
        problem: stats
            .lag
            .filter(|lag| lag.as_secs() >= 10)
            .map(|lag| format!("the oldest line has waited for {} s", lag.as_secs())),
    };
    stats.map(sink).into_iter().collect()
}

fn indexed(machine: &Machine) -> Option<views::IndexedLogs> {
    let LogSetting::Elasticsearch(server) = &machine.settings.logs else { return None };
    let asked = *lock(&machine.indexed);
    Some(views::IndexedLogs {
        url: server.url.clone(),
        written: asked.map(|(written, _)| written),
        indexed: asked.map(|(_, found)| found),
    })
}
