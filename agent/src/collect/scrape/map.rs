//! From the series of one page to what the rules ask of it. Keeps only that; the rest of the page is never stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidegate_core::policy::{How, SignalRule};

use super::rules::{Runtime, value_holds};
use super::text::{Line, SeriesLine};
use crate::clock::Moment;

/// Which part of a family a series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartOf {
    Value,
    /// Of the family that a ratio divides by.
    Per,
    /// Of a family that bears the rule's name without its `_total`: another one.
    Other,
    Bucket,
    Sum,
    Count,
}

/// Rules made ready for reading pages: in order, and found by the name of a series.
#[derive(Debug, Default)]
pub struct Rules {
    pub(super) rules: Vec<SignalRule>,
    /// Name of the runtime of each rule; none for the user's own.
    pub(super) runtimes: Vec<Option<String>>,
    /// Labels that a series must bear with these values, if it bears them at all: which of a page's models the workload is.
    select: BTreeMap<String, String>,
    by_name: HashMap<String, Vec<(usize, PartOf)>>,
    /// By the name that `# TYPE` gives a family: OpenMetrics leaves `_total` off there.
    by_family: HashMap<String, Vec<usize>>,
}

impl Rules {
    /// The user's own rules first, then those of `runtimes`; with `select`, series that bear one of its labels with another value
    /// do not count. Rules that cannot hold are left out: whoever reads the configuration checks them.
    #[must_use]
    pub fn new(own: &[SignalRule], select: &BTreeMap<String, String>, runtimes: &[Runtime]) -> Arc<Self> {
        let mut all = Self { select: select.clone(), ..Self::default() };
        for rule in own {
            all.add(rule, None);
        }
        for runtime in runtimes {
            for rule in runtime.rules() {
                all.add(&rule, Some(&runtime.name));
            }
        }
        Arc::new(all)
    }

    fn add(&mut self, rule: &SignalRule, runtime: Option<&str>) {
        if rule.check().is_err() {
            return;
        }
        let at = self.rules.len();
        let family = &rule.family;
        let names = match rule.how {
            How::Histogram => vec![
                (format!("{family}_bucket"), PartOf::Bucket),
                (format!("{family}_sum"), PartOf::Sum),
                (format!("{family}_count"), PartOf::Count),
            ],
            _ => {
                let per = rule.per.iter().map(|per| (per.clone(), PartOf::Per));
                std::iter::once((family.clone(), PartOf::Value)).chain(per).collect()
            }
        };
        let bare = family.strip_suffix("_total").filter(|_| !is_gauge(rule.how));
        let other = bare.map(|bare| (bare.to_owned(), PartOf::Other));
        for (name, part) in names.into_iter().chain(other) {
            self.by_name.entry(name).or_default().push((at, part));
        }
        for name in bare.into_iter().chain([family.as_str()]) {
            self.by_family.entry(name.to_owned()).or_default().push(at);
        }
        self.rules.push(rule.clone());
        self.runtimes.push(runtime.map(str::to_owned));
    }
}

/// What a page says to one rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    /// The family is not there, or not to be trusted.
    Nothing,
    /// Sum and number of a gauge's series.
    Gauge { sum: f64, count: u32 },
    /// A counter's series by their labels. Empty when the family is there but none of its series counts: a true zero so far.
    Counter(HashMap<Box<str>, f64>),
    /// A histogram's series by their labels.
    Histogram(Box<Buckets>),
    /// Two counters' series by their labels.
    Ratio(Box<Ratio>),
}

/// Series of a counter, and of the one that it is divided by.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ratio {
    /// Of the family itself.
    pub(super) over: HashMap<Box<str>, f64>,
    /// Of the other one.
    pub(super) per: HashMap<Box<str>, f64>,
}

/// Series of a classic histogram by their labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Buckets {
    /// Upper bound and count.
    pub(super) buckets: HashMap<Box<str>, (f64, f64)>,
    /// Sums of the values.
    pub(super) sums: HashMap<Box<str>, f64>,
    /// Counts.
    pub(super) counts: HashMap<Box<str>, f64>,
}

/// What one page said to all rules, and when.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// When the page was asked for.
    pub(super) at: Moment,
    /// By rule.
    pub(super) seen: Vec<Seen>,
    /// Whether the page came whole: only then is a series that it lacks truly not there.
    pub(super) whole: bool,
}

impl Snapshot {
    /// Whether any rule found its family.
    pub(super) fn is_known(&self) -> bool {
        self.seen.iter().any(|seen| *seen != Seen::Nothing)
    }
}

/// Takes in one page.
#[derive(Debug)]
pub(super) struct Intake {
    rules: Arc<Rules>,
    seen: Vec<Seen>,
    /// A value was not a number that can be used: the rule's sum would be wrong without it.
    spoilt: Vec<bool>,
    /// The family that was announced without `_total` is one without: what it says is not for the rule.
    other: Vec<bool>,
    /// Rules of the last series: if the page is cut there, more of their series may have been to come.
    last: Vec<usize>,
}

impl Intake {
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        let count = rules.rules.len();
        let no = vec![false; count];
        Self { rules, seen: vec![Seen::Nothing; count], spoilt: no.clone(), other: no, last: Vec::new() }
    }

    /// Takes one line.
    pub(super) fn take(&mut self, line: &Line<'_>) {
        match line {
            Line::Series(series) => self.take_series(series),
            Line::Type { family, kind } => self.take_family(family, kind),
            _ => {}
        }
    }

    /// A family is announced. Should no series follow, nothing has been counted yet: a true zero.
    fn take_family(&mut self, family: &str, kind: &str) {
        let rules = Arc::clone(&self.rules);
        for at in rules.by_family.get(family).into_iter().flatten() {
            let how = rules.rules[*at].how;
            if is_kind(how, kind) {
                self.note_presence(*at, how);
            }
        }
    }

    fn take_series(&mut self, line: &SeriesLine<'_>) {
        self.last.clear();
        let rules = Arc::clone(&self.rules);
        let Some(wanted) = rules.by_name.get(line.name.as_ref()) else {
            return;
        };
        for (at, part) in wanted {
            if *part == PartOf::Other {
                self.other[*at] = true;
                continue;
            }
            self.last.push(*at);
            let rule = &rules.rules[*at];
            if !rules.counts(rule, line) {
                self.note_presence(*at, rule.how);
            } else if line.value.is_finite()
                && (line.value >= 0.0 || *part == PartOf::Sum || is_gauge(rule.how))
            {
                self.keep(*at, *part, rule, line);
            } else {
                self.spoilt[*at] = true;
            }
        }
    }

    /// The family is there, though it has no series that counts. Of a gauge that says nothing; a count is zero so far.
    fn note_presence(&mut self, at: usize, how: How) {
        if !is_gauge(how) && self.seen[at] == Seen::Nothing {
            self.seen[at] = empty(how);
        }
    }

    fn keep(&mut self, at: usize, part: PartOf, rule: &SignalRule, line: &SeriesLine<'_>) {
        if self.seen[at] == Seen::Nothing {
            self.seen[at] = empty(rule.how);
        }
        let value = line.value * rule.scale;
        let key = || Box::from(line.labels.raw());
        match &mut self.seen[at] {
            Seen::Nothing => {}
            Seen::Gauge { sum, count } => {
                *sum += value;
                *count += 1;
            }
            Seen::Counter(series) => {
                series.insert(key(), value);
            }
            Seen::Ratio(ratio) => match part {
                PartOf::Per => drop(ratio.per.insert(key(), line.value)),
                _ => drop(ratio.over.insert(key(), value)),
            },
            Seen::Histogram(buckets) => match part {
                PartOf::Bucket => {
                    let bound = line.labels.get("le").and_then(|le| le.parse::<f64>().ok());
                    match bound.filter(|bound| !bound.is_nan()) {
                        Some(bound) => drop(buckets.buckets.insert(key(), (bound * rule.scale, line.value))),
                        None => self.spoilt[at] = true,
                    }
                }
                PartOf::Sum => drop(buckets.sums.insert(key(), value)),
                PartOf::Count => drop(buckets.counts.insert(key(), line.value)),
                PartOf::Value | PartOf::Per | PartOf::Other => {}
            },
        }
    }

    /// Ends the page.
    pub(super) fn finish(mut self, at: Moment, cut: bool) -> Snapshot {
        if cut {
            for at in &self.last {
                self.spoilt[*at] = true;
            }
        }
        for ((seen, spoilt), other) in self.seen.iter_mut().zip(&self.spoilt).zip(&self.other) {
            // What is divided by says nothing alone.
            let is_half = matches!(seen, Seen::Ratio(ratio) if ratio.over.is_empty());
            let is_another = *other && matches!(seen, Seen::Counter(series) if series.is_empty());
            if *spoilt || is_half || is_another {
                *seen = Seen::Nothing;
            }
        }
        Snapshot { at, seen: self.seen, whole: !cut }
    }
}

const fn is_gauge(how: How) -> bool {
    matches!(how, How::GaugeSum | How::GaugeMean)
}

/// Whether a rule may be of a family that is announced as of this type.
fn is_kind(how: How, kind: &str) -> bool {
    match (how, kind) {
        (_, "unknown" | "untyped") => true,
        (How::GaugeSum | How::GaugeMean, kind) => kind == "gauge",
        (How::CounterRate | How::CounterRateMean | How::CounterRatio, kind) => kind == "counter",
        (How::Histogram, kind) => matches!(kind, "histogram" | "summary"),
    }
}

fn empty(how: How) -> Seen {
    match how {
        How::GaugeSum | How::GaugeMean => Seen::Gauge { sum: 0.0, count: 0 },
        How::CounterRate | How::CounterRateMean => Seen::Counter(HashMap::new()),
        How::CounterRatio => Seen::Ratio(Box::default()),
        How::Histogram => Seen::Histogram(Box::default()),
    }
}

impl Rules {
    /// Whether a series counts, by the rule's labels and by what is selected.
    fn counts(&self, rule: &SignalRule, line: &SeriesLine<'_>) -> bool {
        let holds = |(name, pattern): (&String, &String)| {
            line.labels.get(name).is_some_and(|value| value_holds(pattern, &value))
        };
        let is_other = |(name, pattern): (&String, &String)| {
            line.labels.get(name).is_some_and(|value| !value_holds(pattern, &value))
        };
        rule.labels.iter().all(holds) && !rule.except.iter().any(holds) && !self.select.iter().any(is_other)
    }
}
