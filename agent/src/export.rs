//! `/metrics`: the program's own families and the latest signals, in the text formats of Prometheus and OpenMetrics and in
//! protobuf, which alone carries native histograms.
//!
//! A page is made from memory alone, at most once a second, and served from there: a scrape never waits for a disk, a
//! process or a target. Not here: HTTP, which is the server's, and where values come from.

pub mod digest;
mod encode;
pub mod format;
mod gpu;
mod otlp;
mod protobuf;
mod pushed;
pub mod registry;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::{Family, Label, Metric, Scope, Signal, Subject};

pub use format::Format;
pub use gpu::GpuPage;
pub use registry::{Counter, Gauge, HistogramHandle, Registry};

use crate::clock::{self, Moment};
use crate::collect::LatestValues;
use crate::collect::latest::Fresh;
use crate::otlp::Inbox;
use crate::otlp::messages::ExportMetricsServiceRequest;
pub(crate) use encode::{CLASSIC_BUCKETS, classic_buckets, escape, number_text};
use encode::{Point, Points};

/// A page is made anew after this; no scraper asks more often.
const PAGE_AGE_MAX: Duration = Duration::from_secs(1);

/// Makes the pages, and keeps the last one of each format.
#[derive(Debug)]
pub struct Exporter {
    registry: Arc<Registry>,
    latest: Arc<LatestValues>,
    fresh_for: Duration,
    gpus: Option<GpuPage>,
    began: Moment,
    inbox: Option<Arc<Inbox>>,
    pages: Mutex<BTreeMap<Format, (Duration, Bytes)>>,
}

impl Exporter {
    /// Shows `registry`, and of `latest` what is not older than `fresh_for`: three times the longest interval of a source is a good choice.
    #[must_use]
    pub fn new(registry: Arc<Registry>, latest: Arc<LatestValues>, fresh_for: Duration) -> Self {
        registry.gauge(Metric::BuildInfo, &[(Label::Version, env!("CARGO_PKG_VERSION"))]).set(Some(1.0));
        Self {
            registry,
            latest,
            fresh_for,
            gpus: None,
            began: clock::now(),
            inbox: None,
            pages: Mutex::default(),
        }
    }

    /// Says of GPUs what their signals do not.
    #[must_use]
    pub fn with_gpus(self, gpus: GpuPage) -> Self {
        Self { gpus: Some(gpus), ..self }
    }

    /// Shows besides what others have pushed here, where they may.
    #[must_use]
    pub fn with_pushed(self, inbox: Option<Arc<Inbox>>) -> Self {
        Self { inbox, ..self }
    }

    /// The page as of at most a second ago.
    #[must_use]
    pub fn page(&self, format: Format) -> Bytes {
        self.page_at(format, clock::now())
    }

    fn page_at(&self, format: Format, now: Moment) -> Bytes {
        // Held while the page is made: of several scrapers at once, one makes it and the others take it.
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, page)) = pages.get(&format)
            && now.steady.saturating_sub(*made) < PAGE_AGE_MAX
        {
            return page.clone();
        }
        let page = Bytes::from(self.render(format, now));
        pages.insert(format, (now.steady, page.clone()));
        page
    }

    /// Makes a page, whatever was made before.
    #[must_use]
    pub fn render(&self, format: Format, now: Moment) -> Vec<u8> {
        let families = self.families(now);
        let mut page = match format {
            Format::Protobuf => protobuf::page(&families),
            Format::Text | Format::OpenMetrics => encode::page(format, &families).into_bytes(),
        };
        if let Some(inbox) = &self.inbox {
            self.registry.refuse(pushed::append(&mut page, format, inbox, now));
        }
        if format == Format::OpenMetrics {
            page.extend_from_slice(b"# EOF\n");
        }
        page
    }

    /// What the page says, without what others have pushed here, for OpenTelemetry's protocol; `resource` says who tells.
    #[must_use]
    pub fn requests(&self, resource: &[(&str, String)]) -> Vec<ExportMetricsServiceRequest> {
        let now = clock::now();
        otlp::requests(&self.families(now), otlp::Times::new(self.began, now), resource)
    }

    /// Every family that has series now: the signals' first, then the program's own.
    fn families(&self, now: Moment) -> Vec<(Family, Points)> {
        let mut by_signal: BTreeMap<Signal, Vec<Point>> = BTreeMap::new();
        self.latest.fresh(now.at, self.fresh_for, |fresh| {
            if let Some(labels) = labels_of(&fresh) {
                let point = Point { labels, value: fresh.latest.value };
                by_signal.entry(fresh.signal).or_default().push(point);
            }
        });
        let mut refused = 0;
        let mut families = Vec::new();
        for (signal, mut points) in by_signal {
            points.sort_by(|a, b| a.labels.cmp(&b.labels));
            refused += points.len().saturating_sub(registry::SERIES_MAX);
            points.truncate(registry::SERIES_MAX);
            families.push((family_of(signal), Points::Numbers(points)));
        }
        self.registry.refuse(refused);
        let own = Metric::ALL.iter().map(|metric| (metric.family(), self.registry.points(*metric)));
        families.extend(own.filter(|(_, points)| !points.is_empty()));
        families.extend(self.gpus.iter().flat_map(|gpus| gpus.families(&self.latest)));
        families
    }
}

fn family_of(signal: Signal) -> Family {
    Family {
        name: signal.metric_name(),
        kind: signal.kind(),
        unit: signal.unit(),
        labels: signal.labels(),
        help: signal.help(),
    }
}

/// The label values of a signal of its subject; `None` when the subject is not one that the signal is of.
fn labels_of(fresh: &Fresh<'_>) -> Option<Vec<Box<str>>> {
    let labels = fresh.signal.labels();
    let belongs = match (fresh.subject, fresh.signal.scope()) {
        (Subject::Node, Scope::Node) => labels.is_empty(),
        (Subject::Pod(_), Scope::Pod) => !labels.contains(&Label::Volume),
        (Subject::Volume { .. }, Scope::Pod) => labels.contains(&Label::Volume),
        (Subject::NodePart(_), Scope::Node) => !labels.is_empty(),
        (Subject::Workload(_), Scope::Workload)
        | (Subject::Container { .. }, Scope::Container)
        | (Subject::Gpu(_), Scope::Gpu) => true,
        _ => false,
    };
    belongs.then(|| labels.iter().map(|label| label_of(fresh, *label).into()).collect())
}

/// The value of one label: from the subject, else as its giver named it; empty, which is as good as absent, when nobody knows.
fn label_of<'a>(fresh: &Fresh<'a>, label: Label) -> &'a str {
    match (fresh.subject, label) {
        (Subject::Workload(id), Label::Workload) => id.as_str(),
        (Subject::NodePart(part), Label::Device | Label::Mountpoint) => part,
        (Subject::Pod(pod) | Subject::Container { pod, .. } | Subject::Volume { pod, .. }, Label::PodUid) => {
            pod
        }
        (Subject::Container { name, .. }, Label::Container)
        | (Subject::Volume { name, .. }, Label::Volume) => name,
        (Subject::Gpu(uuid), Label::Uuid) => uuid,
        _ => fresh.names.iter().find(|(known, _)| *known == label).map_or("", |(_, value)| value),
    }
}

#[cfg(test)]
mod tests;
