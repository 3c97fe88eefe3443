//! Metrics that workloads push (OTLP), as a source: read by the same rules as what is scraped, for every sender is a target whose
//! page comes by itself.
//!
//! A rate is taken between two pushes, and holds until the next one is overdue; then the sender's part is missing, and after three
//! times its interval the sender is as good as gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::{Histogram, WorkloadId};
use tokio::sync::watch;

use super::map::{Intake, Rules, Snapshot};
use super::rate::{self, Parts};
use super::text::{Labels, Line, SeriesLine};
use super::{merge, rules};
use crate::clock::Moment;
use crate::collect::pods::PodTable;
use crate::collect::pods::targets::{Discovery, WorkloadScrape};
use crate::collect::reading::{BlockingSource, Reading};
use crate::export::classic_buckets;
use crate::otlp::inbox::{Family, Inbox, Origin, Sender};
use crate::otlp::points::Value;

/// A push may come in several requests: it is over when nothing has come for so long,
const SETTLED_AFTER: Duration = Duration::from_millis(50);
/// or, of a sender that never rests, when it has been waited for so long.
const WAITS_MAX: Duration = Duration::from_secs(1);
/// A sender's interval is not taken to be shorter or longer than this.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(90));

/// What is remembered of a sender.
#[derive(Debug)]
struct Known {
    settings: WorkloadScrape,
    rules: Arc<Rules>,
    before: Option<Snapshot>,
    parts: Option<Parts>,
    interval: Duration,
    /// Since when there is something new that may not be whole.
    waits: Option<Duration>,
}

impl Known {
    fn new(settings: WorkloadScrape) -> Self {
        let rules = Rules::new(&settings.rules, &settings.select, rules::catalogue());
        Self { settings, rules, before: None, parts: None, interval: INTERVAL.1, waits: None }
    }

    /// Reads what the sender has pushed, if it is new and whole.
    fn read(&mut self, sender: &Sender, now: Moment) {
        let before = self.before.as_ref().map(|before| before.at);
        if before.is_some_and(|before| before.steady >= sender.pushed.steady) {
            return;
        }
        let since = |then: Duration| now.steady.saturating_sub(then);
        let waits = *self.waits.get_or_insert(now.steady);
        if since(sender.pushed.steady) < SETTLED_AFTER && since(waits) < WAITS_MAX {
            return;
        }
        self.waits = None;
        let mut intake = Intake::new(Arc::clone(&self.rules));
        for (name, family) in &sender.families {
            lines(name, family, &mut |line| intake.take(line));
        }
        let snapshot = intake.finish(sender.pushed, false);
        let parts = rate::parts(&self.rules, self.before.as_ref(), &snapshot, self.settings.objective);
        self.parts = Some(parts);
        if let Some(before) = before {
            let since = sender.pushed.steady.saturating_sub(before.steady);
            self.interval = since.clamp(INTERVAL.0, INTERVAL.1);
        }
        self.before = Some(snapshot);
    }

    /// The sender's part: missing while its next push is overdue. `None` when it has fallen silent.
    fn part(&self, sender: &Sender, now: Moment) -> Option<Option<Parts>> {
        let age = now.steady.saturating_sub(sender.pushed.steady);
        let is_known = self.parts.as_ref().is_some_and(|parts| parts.known);
        (is_known && age <= self.interval * 3)
            .then(|| self.parts.clone().filter(|_| age <= self.interval * 3 / 2 + INTERVAL.0))
    }
}

/// Senders as a source.
#[derive(Debug)]
pub(crate) struct PushedSource {
    inbox: Arc<Inbox>,
    pods: watch::Receiver<PodTable>,
    discovery: watch::Receiver<Discovery>,
    known: BTreeMap<Box<str>, Known>,
}

impl PushedSource {
    pub(crate) fn new(
        inbox: Arc<Inbox>,
        pods: watch::Receiver<PodTable>,
        discovery: watch::Receiver<Discovery>,
    ) -> Self {
        Self { inbox, pods, discovery, known: BTreeMap::new() }
    }
}

impl BlockingSource for PushedSource {
    fn read(&mut self, now: Moment) -> Reading {
        let (pods, discovery) = (self.pods.borrow().clone(), self.discovery.borrow().clone());
        let mut contents = self.inbox.lock();
        contents.expire(now);
        self.known.retain(|key, _| contents.senders.contains_key(key));
        let mut answers: BTreeMap<WorkloadId, (Moment, Vec<Option<Parts>>)> = BTreeMap::new();
        for (key, sender) in &contents.senders {
            let Some(workload) = workload(&sender.origin, &pods, &discovery) else {
                self.known.remove(key);
                continue;
            };
            let settings = discovery.workloads.get(&workload).cloned().unwrap_or_default();
            let known = self.known.entry(key.clone()).or_insert_with(|| Known::new(settings.clone()));
            if known.settings != settings {
                *known = Known::new(settings);
            }
            known.read(sender, now);
            if let Some(part) = known.part(sender, now) {
                let (latest, parts) = answers.entry(workload).or_insert_with(|| (sender.pushed, Vec::new()));
                if sender.pushed.steady > latest.steady {
                    *latest = sender.pushed;
                }
                parts.push(part);
            }
        }
        drop(contents);
        let mut all = Reading::default();
        for (workload, (latest, parts)) in answers {
            let of = merge::reading(
                latest.at,
                parts.into_iter().map(|part| (&workload, part.map(|part| (latest.at, part)))),
            );
            all.samples.extend(of.samples);
            all.coverage.extend(of.coverage);
            all.spreads.extend(of.spreads);
        }
        all
    }
}

/// Whose sender it is: that of its pod, by uid, else by name; without a pod, the workload of this machine that the service is called as.
fn workload(origin: &Origin, pods: &PodTable, discovery: &Discovery) -> Option<WorkloadId> {
    let by_uid = origin.pod_uid.as_deref().map(|uid| pods.pod(uid));
    let by_name = origin.namespace.as_deref().zip(origin.pod.as_deref());
    let pod = by_uid.or_else(|| by_name.map(|(namespace, name)| pods.named(namespace, name)));
    match pod {
        Some(pod) => pod?.workload.clone(),
        None => {
            let local = WorkloadId::local(origin.service.as_deref()?).ok()?;
            discovery.workloads.contains_key(&local).then_some(local)
        }
    }
}

/// A family as the lines of a page.
pub(crate) fn lines(name: &str, family: &Family, take: &mut impl FnMut(&Line<'_>)) {
    take(&Line::Type { family: name, kind: family.kind.as_str() });
    for (labels, series) in &family.series {
        let mut put = |suffix: &str, extra: Option<(&str, f64)>, value: f64| {
            let name = format!("{name}{suffix}");
            let raw = match extra {
                None => labels.to_string(),
                Some((label, at)) => {
                    let comma = if labels.is_empty() { "" } else { "," };
                    format!("{labels}{comma}{label}=\"{}\"", crate::export::number_text(at))
                }
            };
            take(&Line::Series(SeriesLine {
                name: name.into(),
                labels: Labels::of_checked(&raw),
                value,
                at_seconds: None,
            }));
        };
        values(&series.value, &mut put);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are out of reach")]
fn values(value: &Value, put: &mut impl FnMut(&str, Option<(&str, f64)>, f64)) {
    match value {
        Value::Number(value) => put("", None, *value),
        Value::Classic(classic) => {
            let mut below = 0u64;
            let bounds = classic.bounds.iter().copied().chain([f64::INFINITY]);
            for (bound, count) in bounds.zip(&classic.counts) {
                below += count;
                put("_bucket", Some(("le", bound)), below as f64);
            }
            if let Some(sum) = classic.sum {
                put("_sum", None, sum);
            }
            put("_count", None, below as f64);
        }
        Value::Exponential(histogram) => exponential(histogram, put),
        Value::Summary(quantiles, sum, count) => {
            for (level, value) in quantiles {
                put("", Some(("quantile", *level)), *value);
            }
            put("_sum", None, *sum);
            put("_count", None, *count as f64);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are out of reach")]
fn exponential(histogram: &Histogram, put: &mut impl FnMut(&str, Option<(&str, f64)>, f64)) {
    for (bound, count) in classic_buckets(histogram) {
        put("_bucket", Some(("le", bound)), count as f64);
    }
    put("_sum", None, histogram.sum());
    put("_count", None, histogram.count() as f64);
}

#[cfg(test)]
mod tests;
