//! What has been pushed here, by who pushed it: the latest value of every series, bounded. No I/O.
//!
//! Senders that tell what happened since their last point are added up, so that every series counts from its start. What is not
//! pushed again for a while is gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::messages::{ExportMetricsServiceRequest, KeyValue, Metric, ResourceMetrics};
use super::names;
use super::points::{self, Kind, Point, Told, Value};
use crate::clock::Moment;

/// Most senders.
const SENDERS_MAX: usize = 1024;
/// Most series of all of them, and of one: a runtime has some hundred.
const SERIES_MAX: usize = 50_000;
const SERIES_OF_ONE_MAX: usize = 5_000;
/// Longest description of a sender, in bytes.
const SENDER_BYTES_MAX: usize = 16 * 1024;
/// Longest help text of a family that is kept, in bytes.
const HELP_BYTES_MAX: usize = 512;
/// A series that is not pushed again for so long is gone, as a Prometheus server has it.
const GONE_AFTER: Duration = Duration::from_mins(5);

/// Why a point was not taken: the closed set behind the `cause` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// A metric without data, or a point without a value that can be used.
    BadValue,
    /// The name of the metric is none.
    BadName,
    /// Too many attributes, or one that is too long or called `le` or `quantile`.
    BadLabels,
    /// It is not said whether points count from the start or from the last one.
    NoTemporality,
    /// The metric is of another type than before.
    TypeChanged,
    /// More senders than allowed, or one whose description is too long.
    TooManySenders,
    /// More series than allowed.
    TooManySeries,
}

impl Refusal {
    /// The value of the `cause` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadValue => "bad_value",
            Self::BadName => "bad_name",
            Self::BadLabels => "bad_labels",
            Self::NoTemporality => "no_temporality",
            Self::TypeChanged => "type_changed",
            Self::TooManySenders => "too_many_senders",
            Self::TooManySeries => "too_many_series",
        }
    }
}

/// What became of the points of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Points that are kept now.
    pub accepted: u64,
    /// Points that are not, by why.
    pub refused: BTreeMap<Refusal, u64>,
}

impl Taken {
    /// How many were not taken.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.refused.values().sum()
    }

    /// For whoever sent them; empty when all were taken.
    #[must_use]
    pub fn message(&self) -> String {
        let causes: Vec<_> =
            self.refused.iter().map(|(cause, count)| format!("{} {}", count, cause.as_str())).collect();
        causes.join(", ")
    }

    fn refuse(&mut self, cause: Refusal, points: usize) {
        if points > 0 {
            *self.refused.entry(cause).or_default() += points as u64;
        }
    }
}

/// Who pushes: what its resource says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) service: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) pod: Option<String>,
    pub(crate) pod_uid: Option<String>,
}

/// One series.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) value: Value,
    /// Nanoseconds since the epoch, as the sender has them.
    time: u64,
    seen: Duration,
}

/// One family of one sender; series by their labels as they stand between the braces of a text page.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    pub(crate) kind: Kind,
    pub(crate) help: Box<str>,
    pub(crate) series: HashMap<Box<str>, Series>,
}

/// One sender.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) origin: Origin,
    /// Labels that its series bear.
    labels: Vec<(&'static str, String)>,
    /// When it pushed last.
    pub(crate) pushed: Moment,
    pub(crate) families: BTreeMap<Box<str>, Family>,
    weight: usize,
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// By what their resources say.
    pub(crate) senders: BTreeMap<Box<str>, Sender>,
    weight: usize,
}

/// What has been pushed here. Shared; short locks only.
#[derive(Debug, Default)]
pub struct Inbox(Mutex<Contents>);

impl Inbox {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what a request tells.
    pub fn take(&self, request: &ExportMetricsServiceRequest, now: Moment) -> Taken {
        let mut contents = self.lock();
        contents.expire(now);
        let mut taken = Taken::default();
        for resource in &request.resource_metrics {
            contents.take(resource, now, &mut taken);
        }
        taken
    }

    /// Senders and series that are known now.
    #[must_use]
    pub fn size(&self, now: Moment) -> (usize, usize) {
        let mut contents = self.lock();
        contents.expire(now);
        (contents.senders.len(), contents.weight)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    /// Forgets what has not been pushed for long.
    pub(crate) fn expire(&mut self, now: Moment) {
        let is_gone = |seen: Duration| now.steady.saturating_sub(seen) > GONE_AFTER;
        self.senders.retain(|_, sender| {
            for family in sender.families.values_mut() {
                family.series.retain(|_, series| !is_gone(series.seen));
            }
            sender.families.retain(|_, family| !family.series.is_empty());
            let all = sender.families.values().flat_map(|family| family.series.values());
            sender.weight = all.map(|series| series.value.weight()).sum();
            !is_gone(sender.pushed.steady)
        });
        self.weight = self.senders.values().map(|sender| sender.weight).sum();
    }

    fn take(&mut self, resource: &ResourceMetrics, now: Moment, taken: &mut Taken) {
        let metrics = || resource.scope_metrics.iter().flat_map(|scope| &scope.metrics);
        let attributes = resource.resource.as_ref().map(|resource| &*resource.attributes).unwrap_or_default();
        let key = key_of(attributes);
        let is_new = key.as_ref().is_some_and(|key| !self.senders.contains_key(key));
        let Some(key) = key.filter(|_| !is_new || self.senders.len() < SENDERS_MAX) else {
            return taken.refuse(Refusal::TooManySenders, metrics().map(count).sum());
        };
        let sender = self.senders.entry(key).or_insert_with(|| Sender::new(attributes, now));
        sender.pushed = now;
        let before = sender.weight;
        let room =
            (SERIES_MAX - self.weight.min(SERIES_MAX)).min(SERIES_OF_ONE_MAX - before.min(SERIES_OF_ONE_MAX));
        let mut intake = SenderIntake { sender, now, most: before + room, taken };
        for scope in &resource.scope_metrics {
            let scope_name = scope.scope.as_ref().map(|scope| scope.name.clone()).unwrap_or_default();
            scope.metrics.iter().for_each(|metric| intake.take(metric, &scope_name));
        }
        self.weight += intake.sender.weight;
        self.weight -= before;
    }
}

/// One sender's metrics on their way in.
struct SenderIntake<'a> {
    sender: &'a mut Sender,
    now: Moment,
    /// The most that the sender may weigh.
    most: usize,
    taken: &'a mut Taken,
}

impl SenderIntake<'_> {
    fn take(&mut self, metric: &Metric, scope: &str) {
        let Some(data) = &metric.data else {
            // Nothing to refuse but the metric itself.
            return self.taken.refuse(Refusal::BadValue, 1);
        };
        let read = points::points(data);
        let count = read.points.len();
        let Some(is_delta) = read.is_delta else {
            return self.taken.refuse(Refusal::NoTemporality, count);
        };
        let Some(name) = names::family(&metric.name, &metric.unit, read.kind) else {
            return self.taken.refuse(Refusal::BadName, count);
        };
        let known = self.sender.families.get(name.as_str());
        if known.is_some_and(|known| known.kind != read.kind) {
            return self.taken.refuse(Refusal::TypeChanged, count);
        }
        let mut labels = self.sender.labels.clone();
        labels.push(("otel_scope_name", scope.to_owned()));
        let end = metric.description.floor_char_boundary(HELP_BYTES_MAX);
        let family = self.sender.families.entry(name.into()).or_insert_with(|| Family {
            kind: read.kind,
            help: metric.description[..end].into(),
            series: HashMap::new(),
        });
        for point in read.points {
            match take_point(family, &mut self.sender.weight, self.most, point, &labels, is_delta, self.now) {
                Ok(()) => self.taken.accepted += 1,
                Err(cause) => self.taken.refuse(cause, 1),
            }
        }
    }
}

fn take_point(
    family: &mut Family,
    weight: &mut usize,
    most: usize,
    Point { attributes, time, told }: Point<'_>,
    origin: &[(&'static str, String)],
    is_delta: bool,
    now: Moment,
) -> Result<(), Refusal> {
    let labels = names::labels(attributes, origin).ok_or(Refusal::BadLabels)?;
    let value = match told {
        Told::Value(value) => value,
        Told::Broken => return Err(Refusal::BadValue),
        Told::Ended => {
            let ended = family.series.remove(labels.as_str());
            *weight -= ended.map_or(0, |series| series.value.weight());
            return Ok(());
        }
    };
    let known = family.series.get_mut(labels.as_str());
    let held = known.as_ref().map_or(0, |series| series.value.weight());
    if *weight - held + value.weight() > most {
        return Err(Refusal::TooManySeries);
    }
    let Some(series) = known else {
        *weight += value.weight();
        family.series.insert(labels.into(), Series { value, time, seen: now.steady });
        return Ok(());
    };
    series.seen = now.steady;
    // A request that is sent again, for its answer was lost, or one that was overtaken.
    let is_old = time != 0 && (time < series.time || (is_delta && time == series.time));
    if !is_old {
        series.time = time;
        if is_delta {
            series.value.add(value);
        } else {
            series.value = value;
        }
        *weight = *weight - held + series.value.weight();
    }
    Ok(())
}

impl Sender {
    fn new(attributes: &[KeyValue], now: Moment) -> Self {
        let of = |key| names::attribute(attributes, key);
        let service = of("service.name");
        let job = match (of("service.namespace"), &service) {
            (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
            (_, name) => name.clone(),
        };
        let origin = Origin {
            service,
            namespace: of("k8s.namespace.name"),
            pod: of("k8s.pod.name"),
            pod_uid: of("k8s.pod.uid"),
        };
        let labels = [
            ("job", job),
            ("instance", of("service.instance.id")),
            ("namespace", origin.namespace.clone()),
            ("pod", origin.pod.clone()),
            ("container", of("k8s.container.name")),
        ];
        let labels = labels.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        Self { origin, labels, pushed: now, families: BTreeMap::new(), weight: 0 }
    }
}

/// What tells senders apart: all that their resources say, in order; `None` when that is too long.
fn key_of(attributes: &[KeyValue]) -> Option<Box<str>> {
    let mut pairs: Vec<_> =
        attributes.iter().map(|of| format!("{}={}", of.key, names::text(of.value.as_ref()))).collect();
    pairs.sort();
    let key = pairs.join("\n");
    (key.len() <= SENDER_BYTES_MAX).then(|| key.into())
}

/// Points of a metric; one where there are none to count.
fn count(metric: &Metric) -> usize {
    metric.data.as_ref().map_or(1, |data| points::points(data).points.len())
}

#[cfg(test)]
mod tests;
