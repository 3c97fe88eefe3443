//! How the sources fare: what people are shown, and what `/metrics` says of the collectors themselves. No I/O.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidegate_core::{Label, Metric, Timestamp, WorkloadId};

use super::reading::{Cause, SourceName};
use crate::export::Registry;

/// How one source fares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceStatus {
    /// Whether its last reading was in time and gave something. `None` before the first one ended.
    pub up: Option<bool>,
    /// Whether a reading is overdue right now.
    pub stuck: bool,
    /// When its last good reading began.
    pub read_at: Option<Timestamp>,
    /// How long the last reading took.
    pub took: Option<Duration>,
    /// Why the last reading failed, if so.
    pub cause: Option<Cause>,
}

/// How one scrape target fares.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetStatus {
    /// The workload that it is a replica of.
    pub workload: WorkloadId,
    /// Its name: the value of the `target` label.
    pub name: String,
    /// Whether its last scrape gave metrics.
    pub up: bool,
    /// What went wrong in the last scrape, and how often: lines for what stands in lines. A target may be up and have causes.
    pub causes: BTreeMap<Cause, u64>,
    /// The runtimes whose metrics the page was found to have: more than one where they are nested, such as vLLM in Ray Serve.
    pub runtimes: Vec<String>,
    /// Requests that it serves, as its last page says; `None` where it does not say, or did not answer.
    pub in_flight: Option<f64>,
}

/// How all of it fares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentStatus {
    /// By source; a source that is switched off is absent.
    pub sources: BTreeMap<SourceName, SourceStatus>,
    /// Targets, in the order they were given.
    pub targets: Vec<TargetStatus>,
}

/// Keeps the status, and `/metrics` in step with it.
#[derive(Debug)]
pub struct StatusBoard {
    status: Mutex<AgentStatus>,
    registry: std::sync::Arc<Registry>,
}

impl StatusBoard {
    /// Nothing known yet.
    #[must_use]
    pub fn new(registry: std::sync::Arc<Registry>) -> Self {
        Self { status: Mutex::default(), registry }
    }

    /// The present status.
    #[must_use]
    pub fn get(&self) -> AgentStatus {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, AgentStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A source was switched on.
    pub fn started(&self, source: SourceName) {
        self.lock().sources.entry(source).or_default();
    }

    /// A reading ended in time.
    pub fn read(&self, source: SourceName, at: Timestamp, took: Duration, failure: Option<Cause>) {
        let mut status = self.lock();
        let entry = status.sources.entry(source).or_default();
        entry.up = Some(failure.is_none());
        entry.stuck = false;
        entry.took = Some(took);
        entry.cause = failure;
        if failure.is_none() {
            entry.read_at = Some(at);
        }
        drop(status);
        let label = [(Label::Source, source.as_str())];
        let seconds = self.registry.gauge(Metric::SourceReadSeconds, &label);
        seconds.set(Some(took.as_secs_f64()));
        self.tell_up(source, failure);
    }

    /// Parts of a reading failed, this often each.
    pub fn read_in_part(&self, source: SourceName, causes: &BTreeMap<Cause, u64>) {
        for (cause, count) in causes {
            let labels = [(Label::Source, source.as_str()), (Label::Cause, cause.as_str())];
            #[expect(clippy::cast_precision_loss, reason = "bounded by what one reading asks for")]
            self.registry.counter(Metric::SourceErrors, &labels).add(*count as f64);
        }
    }

    /// What the source reads is not on this machine: it is as good as switched off.
    pub fn absent(&self, source: SourceName) {
        if self.lock().sources.remove(&source).is_some() {
            self.registry.forget(Label::Source, source.as_str());
        }
    }

    /// A reading failed without an end of its own: overdue (`stuck`), or panicked.
    pub fn lost(&self, source: SourceName, cause: Cause) {
        let mut status = self.lock();
        let entry = status.sources.entry(source).or_default();
        entry.up = Some(false);
        entry.stuck = cause == Cause::Timeout;
        entry.cause = Some(cause);
        drop(status);
        self.tell_up(source, Some(cause));
    }

    fn tell_up(&self, source: SourceName, failure: Option<Cause>) {
        let up = self.registry.gauge(Metric::SourceUp, &[(Label::Source, source.as_str())]);
        up.set(Some(f64::from(u8::from(failure.is_none()))));
        if let Some(cause) = failure {
            let labels = [(Label::Source, source.as_str()), (Label::Cause, cause.as_str())];
            self.registry.counter(Metric::SourceErrors, &labels).add(1.0);
        }
    }

    /// Which runtimes the target's page has metrics of; those that it had before and has no more are taken off.
    fn tell_runtimes(&self, target: &TargetStatus) {
        let before = self.lock().targets.iter().find(|before| before.name == target.name).cloned();
        let gone = before.into_iter().flat_map(|before| before.runtimes);
        let gone = gone.filter(|name| !target.runtimes.contains(name)).map(|name| (name, None));
        for (name, value) in gone.chain(target.runtimes.iter().map(|name| (name.clone(), Some(1.0)))) {
            let labels = [(Label::Target, target.name.as_str()), (Label::Runtime, name.as_str())];
            self.registry.gauge(Metric::ScrapeTargetRuntime, &labels).set(value);
        }
    }

    /// A round of scrapes ended. Targets that are gone are forgotten.
    pub fn scraped(&self, targets: Vec<TargetStatus>) {
        for target in &targets {
            let name = (Label::Target, target.name.as_str());
            let up = self.registry.gauge(Metric::ScrapeTargetUp, &[name]);
            up.set(Some(f64::from(u8::from(target.up))));
            self.tell_runtimes(target);
            for (cause, count) in &target.causes {
                let errors =
                    self.registry.counter(Metric::ScrapeErrors, &[name, (Label::Cause, cause.as_str())]);
                #[expect(clippy::cast_precision_loss, reason = "bounded by the lines of a page")]
                errors.add(*count as f64);
            }
        }
        let before = std::mem::replace(&mut self.lock().targets, targets);
        let status = self.lock();
        for gone in before {
            if !status.targets.iter().any(|target| target.name == gone.name) {
                self.registry.forget(Label::Target, &gone.name);
            }
        }
    }
}
