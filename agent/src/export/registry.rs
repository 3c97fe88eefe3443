//! The program's own metrics: one registry of the closed catalogue in `core`, and handles to its series. No I/O.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_core::{Histogram, Kind, Label, Metric};

use super::encode::{Point, Points};

/// Most series of one family; further ones are refused and counted. A node with 200 workloads stays far below, and a cluster with
/// 5,000, of which a forecast has three, just so.
pub const SERIES_MAX: usize = 20_000;

/// A number that may be unknown.
#[derive(Debug)]
struct Number(AtomicU64);

impl Number {
    const fn unknown() -> Self {
        Self(AtomicU64::new(f64::NAN.to_bits()))
    }

    fn get(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Ordering::Relaxed))).filter(|value| !value.is_nan())
    }

    fn set(&self, value: Option<f64>) {
        self.0.store(value.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
    }

    fn update(&self, change: impl Fn(f64) -> f64) {
        let next = |bits| change(f64::from_bits(bits)).to_bits();
        self.0.update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

/// One series that goes up and down. Cheap to clone and to set.
#[derive(Debug, Clone)]
pub struct Gauge(Arc<Number>);

impl Gauge {
    /// Sets the value. Unknown, and NaN, take the series off the page.
    pub fn set(&self, value: Option<f64>) {
        self.0.set(value);
    }

    /// The value; `None` while it is unknown.
    #[must_use]
    pub fn get(&self) -> Option<f64> {
        self.0.get()
    }
}

/// One series that only goes up, from 0.
#[derive(Debug, Clone)]
pub struct Counter(Arc<Number>);

impl Counter {
    /// Adds `amount`; what is negative or not finite changes nothing.
    pub fn add(&self, amount: f64) {
        if amount.is_finite() && amount >= 0.0 {
            self.0.update(|value| value + amount);
        }
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1.0);
    }

    /// Raises the value to a total that is counted elsewhere; a lower total, or NaN, changes nothing.
    pub fn raise_to(&self, total: f64) {
        if total.is_finite() {
            self.0.update(|value| value.max(total));
        }
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> f64 {
        self.0.get().unwrap_or_default()
    }
}

/// One series that is a distribution.
#[derive(Debug, Clone)]
pub struct HistogramHandle(Arc<Mutex<Histogram>>);

impl HistogramHandle {
    /// Counts one value; NaN and infinities change nothing.
    pub fn observe(&self, value: f64) {
        self.lock().observe(value);
    }

    /// Adds all of `other`.
    pub fn merge(&self, other: &Histogram) {
        self.lock().merge(other);
    }

    /// The distribution as it stands.
    #[must_use]
    pub fn get(&self) -> Histogram {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Histogram> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone)]
enum Cell {
    Number(Arc<Number>),
    Histogram(Arc<Mutex<Histogram>>),
}

type Family = BTreeMap<Vec<Box<str>>, Cell>;

/// Every series of every family. Shared; handles stay valid when their series is forgotten, and then lead nowhere.
#[derive(Debug, Default)]
pub struct Registry {
    families: Mutex<BTreeMap<Metric, Family>>,
    refused: AtomicU64,
}

impl Registry {
    /// No series yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The gauge with these labels, which are those of the family, in its order. New ones begin unknown.
    ///
    /// # Panics
    /// In debug builds, when the metric is no gauge or has other labels.
    #[must_use]
    pub fn gauge(&self, metric: Metric, labels: &[(Label, &str)]) -> Gauge {
        Gauge(self.number(metric, Kind::Gauge, labels, f64::NAN))
    }

    /// The counter with these labels, which are those of the family, in its order. New ones begin at 0.
    ///
    /// # Panics
    /// In debug builds, when the metric is no counter or has other labels.
    #[must_use]
    pub fn counter(&self, metric: Metric, labels: &[(Label, &str)]) -> Counter {
        Counter(self.number(metric, Kind::Counter, labels, 0.0))
    }

    /// The distribution with these labels, which are those of the family, in its order.
    ///
    /// # Panics
    /// In debug builds, when the metric is no histogram or has other labels.
    #[must_use]
    pub fn histogram(&self, metric: Metric, labels: &[(Label, &str)]) -> HistogramHandle {
        let make = || Cell::Histogram(Arc::default());
        match self.cell(metric, Kind::Histogram, labels, make) {
            Cell::Histogram(cell) => HistogramHandle(cell),
            Cell::Number(_) => HistogramHandle(Arc::default()),
        }
    }

    fn number(&self, metric: Metric, kind: Kind, labels: &[(Label, &str)], first: f64) -> Arc<Number> {
        let make = || Cell::Number(Arc::new(Number(AtomicU64::new(first.to_bits()))));
        match self.cell(metric, kind, labels, make) {
            Cell::Number(cell) => cell,
            Cell::Histogram(_) => Arc::new(Number::unknown()),
        }
    }

    fn cell(&self, metric: Metric, kind: Kind, labels: &[(Label, &str)], make: impl Fn() -> Cell) -> Cell {
        let family = metric.family();
        debug_assert_eq!(family.kind, kind, "{} is of another kind", family.name);
        debug_assert!(
            labels.iter().map(|(label, _)| label).eq(family.labels),
            "{} has labels {:?}",
            family.name,
            family.labels
        );
        let key: Vec<Box<str>> = labels.iter().map(|(_, value)| Box::from(*value)).collect();
        let mut families = self.lock();
        let series = families.entry(metric).or_default();
        if let Some(cell) = series.get(&key) {
            return cell.clone();
        }
        let cell = make();
        if series.len() < SERIES_MAX {
            series.insert(key, cell.clone());
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        cell
    }

    /// Forgets every series that has this value of this label: the thing it spoke of is gone.
    pub fn forget(&self, label: Label, value: &str) {
        for (metric, series) in self.lock().iter_mut() {
            if let Some(at) = metric.family().labels.iter().position(|of_family| *of_family == label) {
                series.retain(|key, _| key.get(at).is_none_or(|of_series| &**of_series != value));
            }
        }
    }

    /// Counts series that were left off a page.
    pub(super) fn refuse(&self, series: usize) {
        self.refused.fetch_add(series as u64, Ordering::Relaxed);
    }

    /// What a page shows of a family.
    #[expect(clippy::cast_precision_loss, reason = "a count of series is far below 2^53")]
    pub(super) fn points(&self, metric: Metric) -> Points {
        if metric == Metric::SeriesRefused {
            let value = self.refused.load(Ordering::Relaxed) as f64;
            return Points::Numbers(vec![Point { labels: Vec::new(), value }]);
        }
        let families = self.lock();
        let series = families.get(&metric).into_iter().flatten();
        if metric.family().kind == Kind::Histogram {
            return Points::Histograms(series.filter_map(distribution).collect());
        }
        let number = |(labels, cell): (&Vec<Box<str>>, &Cell)| match cell {
            Cell::Number(number) => Some(Point { labels: labels.clone(), value: number.get()? }),
            Cell::Histogram(_) => None,
        };
        Points::Numbers(series.filter_map(number).collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Metric, Family>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn distribution((labels, cell): (&Vec<Box<str>>, &Cell)) -> Option<(Vec<Box<str>>, Histogram)> {
    match cell {
        Cell::Histogram(cell) => Some((labels.clone(), HistogramHandle(Arc::clone(cell)).get())),
        Cell::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_labels_give_the_same_series() {
        let registry = Registry::new();
        let labels = [(Label::Source, "node"), (Label::Cause, "timeout")];
        registry.counter(Metric::SourceErrors, &labels).inc();
        registry.counter(Metric::SourceErrors, &labels).add(2.0);
        assert_eq!(registry.counter(Metric::SourceErrors, &labels).get(), 3.0);
    }

    #[test]
    fn a_counter_never_goes_back() {
        let counter = Registry::new().counter(Metric::ProcessCpuSeconds, &[]);
        for wrong in [-1.0, f64::NAN, f64::INFINITY] {
            counter.add(wrong);
        }
        counter.raise_to(5.0);
        counter.raise_to(3.0);
        assert_eq!(counter.get(), 5.0);
    }

    #[test]
    fn series_beyond_the_bound_are_refused_and_counted() {
        let registry = Registry::new();
        for at in 0..SERIES_MAX + 3 {
            registry.gauge(Metric::SourceUp, &[(Label::Source, &at.to_string())]).set(Some(1.0));
        }
        let Points::Numbers(points) = registry.points(Metric::SourceUp) else { panic!() };
        assert_eq!(points.len(), SERIES_MAX);
        let Points::Numbers(refused) = registry.points(Metric::SeriesRefused) else { panic!() };
        assert_eq!(refused[0].value, 3.0);
    }

    #[test]
    fn what_is_gone_is_forgotten_in_every_family() {
        let registry = Registry::new();
        registry.gauge(Metric::ScrapeTargetUp, &[(Label::Target, "a")]).set(Some(1.0));
        registry.gauge(Metric::ScrapeTargetUp, &[(Label::Target, "b")]).set(Some(1.0));
        registry.counter(Metric::ScrapeErrors, &[(Label::Target, "a"), (Label::Cause, "timeout")]).inc();
        registry.forget(Label::Target, "a");
        let Points::Numbers(up) = registry.points(Metric::ScrapeTargetUp) else { panic!() };
        assert_eq!(up.len(), 1);
        let Points::Numbers(errors) = registry.points(Metric::ScrapeErrors) else { panic!() };
        assert!(errors.is_empty());
    }

    #[test]
    #[should_panic(expected = "has labels")]
    fn other_labels_than_the_familys_are_a_mistake_of_the_program() {
        drop(Registry::new().gauge(Metric::SourceUp, &[(Label::Target, "a")]));
    }
}
