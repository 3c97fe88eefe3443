//! What a source gives at one moment, and the closed sets of names that go with it. No I/O.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidegate_core::{Label, Sample, Signal, Spread, Subject, Timestamp, WorkloadId};

use super::gpu::{GpuCause, Gpus};
use crate::clock::Moment;

/// The sources of signals. Each runs on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceName {
    /// `/proc` and `/sys` of the machine.
    Node,
    /// Room on the machine's filesystems.
    Filesystem,
    /// Process groups of the workloads.
    Process,
    /// Metrics that the workloads expose.
    Scrape,
    /// Metrics that the workloads push.
    Otlp,
    /// Containers of the node's pods.
    Container,
    /// Volumes of the node's pods.
    Volume,
    /// The table of the node's pods.
    Pods,
    /// Devices that the kubelet gave to containers.
    Devices,
    /// GPUs.
    Gpu,
    /// The kernel log.
    KernelLog,
}

impl SourceName {
    /// Every source.
    pub const ALL: [Self; 11] = [
        Self::Node,
        Self::Filesystem,
        Self::Process,
        Self::Scrape,
        Self::Otlp,
        Self::Container,
        Self::Volume,
        Self::Pods,
        Self::Devices,
        Self::Gpu,
        Self::KernelLog,
    ];

    /// The value of the `source` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Filesystem => "filesystem",
            Self::Process => "process",
            Self::Scrape => "scrape",
            Self::Otlp => "otlp",
            Self::Container => "container",
            Self::Volume => "volume",
            Self::Pods => "pods",
            Self::Devices => "devices",
            Self::Gpu => "gpu",
            Self::KernelLog => "kernel_log",
        }
    }
}

/// Why a reading failed, whole or in part: the closed set behind the `cause` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A file that every machine has could not be read.
    Unreadable,
    /// It did not end within its deadline.
    Timeout,
    /// The source's code panicked.
    Panicked,
    /// No connection to the target.
    Unreachable,
    /// The connection broke in the middle of the answer.
    BrokenOff,
    /// The target's address cannot be used: not `http://`.
    BadAddress,
    /// The target answered with a status other than 200.
    HttpStatus,
    /// The body is larger than allowed; the rest was left.
    TooLarge,
    /// More series than allowed; the rest was left.
    TooManySeries,
    /// A line, or a label in it, is longer than allowed.
    TooLong,
    /// A line is not UTF-8.
    NotUtf8,
    /// A metric or label name has characters that none may have, or is absent.
    BadName,
    /// Braces, quotes or commas of the labels do not add up.
    BadLabels,
    /// A value is not a number.
    BadValue,
    /// A time stamp is not a number.
    BadTimestamp,
    /// What follows the value is neither a time stamp nor an exemplar.
    BadTrailer,
    /// A comment line of OpenMetrics is none of its kinds.
    BadComment,
    /// An OpenMetrics page without its `# EOF`: it may have been cut.
    NoEof,
    /// Lines after `# EOF`.
    AfterEof,
    /// The page has none of the metrics that the target's rules ask for.
    NothingKnown,
    /// The GPU driver could not say.
    Gpu(GpuCause),
}

impl Cause {
    /// Every cause that is not of one source alone.
    pub const ALL: [Self; 20] = [
        Self::Unreadable,
        Self::Timeout,
        Self::Panicked,
        Self::Unreachable,
        Self::BrokenOff,
        Self::BadAddress,
        Self::HttpStatus,
        Self::TooLarge,
        Self::TooManySeries,
        Self::TooLong,
        Self::NotUtf8,
        Self::BadName,
        Self::BadLabels,
        Self::BadValue,
        Self::BadTimestamp,
        Self::BadTrailer,
        Self::BadComment,
        Self::NoEof,
        Self::AfterEof,
        Self::NothingKnown,
    ];

    /// The value of the `cause` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Timeout => "timeout",
            Self::Panicked => "panicked",
            Self::Unreachable => "unreachable",
            Self::BrokenOff => "broken_off",
            Self::BadAddress => "bad_address",
            Self::HttpStatus => "http_status",
            Self::TooLarge => "too_large",
            Self::TooManySeries => "too_many_series",
            Self::TooLong => "too_long",
            Self::NotUtf8 => "not_utf8",
            Self::BadName => "bad_name",
            Self::BadLabels => "bad_labels",
            Self::BadValue => "bad_value",
            Self::BadTimestamp => "bad_timestamp",
            Self::BadTrailer => "bad_trailer",
            Self::BadComment => "bad_comment",
            Self::NoEof => "no_eof",
            Self::AfterEof => "after_eof",
            Self::NothingKnown => "nothing_known",
            Self::Gpu(cause) => cause.as_str(),
        }
    }
}

/// How much of a workload a value speaks for: the targets that gave their part, of all that should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    /// Targets whose part is in the value.
    pub answered: u32,
    /// Targets of the workload.
    pub of: u32,
}

impl Coverage {
    /// Whether nothing is missing.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.answered >= self.of
    }

    /// A sum over the targets that answered, as that of all of them: those that are missing are taken to be like the others.
    /// `None` when fewer than half answered: what is known then says little of the rest.
    #[must_use]
    pub fn whole(self, sum: f64) -> Option<f64> {
        let is_half = self.answered > 0 && self.answered.saturating_mul(2) >= self.of;
        is_half.then(|| sum * f64::from(self.of.max(self.answered)) / f64::from(self.answered))
    }
}

/// What a subject is called by those who know more than its id: the labels of its metrics that do not stand in the subject.
pub type Names = HashMap<Subject, Vec<(Label, Box<str>)>>;

/// Distributions by workload, each under the signal that it is kept by.
pub type Spreads = HashMap<WorkloadId, BTreeMap<Signal, Spread>>;

/// What a source gives at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// The readings. What is not among them is unknown now, whatever it was before.
    pub samples: Vec<Sample>,
    /// For values put together from several targets: from how many.
    pub coverage: HashMap<(WorkloadId, Signal), Coverage>,
    /// The distributions of which some of the readings are quantiles and means.
    pub spreads: Spreads,
    /// Names of the subjects, where the source knows them.
    pub names: Names,
    /// Why nothing could be read, if so.
    pub failure: Option<Cause>,
    /// What could not be read while the rest could, and how often.
    pub causes: BTreeMap<Cause, u64>,
    /// Whether what the source reads is not on this machine, and nobody said that it has to be.
    pub absent: bool,
    /// Of the GPU source: all that was read.
    pub gpus: Option<Arc<Gpus>>,
}

impl Reading {
    /// A reading that succeeded.
    #[must_use]
    pub fn of(samples: Vec<Sample>) -> Self {
        Self { samples, ..Self::default() }
    }

    /// Nothing to read here.
    #[must_use]
    pub fn absent() -> Self {
        Self { absent: true, ..Self::default() }
    }

    /// A reading that failed as a whole.
    #[must_use]
    pub fn failed(cause: Cause) -> Self {
        Self { failure: Some(cause), ..Self::default() }
    }
}

/// A reading on its way to whoever subscribed.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Whence.
    pub source: SourceName,
    /// When the reading began.
    pub at: Timestamp,
    /// The readings.
    pub samples: Vec<Sample>,
    /// For values put together from several targets: from how many.
    pub coverage: HashMap<(WorkloadId, Signal), Coverage>,
}

/// A source whose reading blocks its thread.
pub trait BlockingSource: Send + 'static {
    /// Reads once.
    fn read(&mut self, now: Moment) -> Reading;
}

/// Collects samples of one moment; what is unknown or not finite makes none.
#[derive(Debug)]
pub struct Samples {
    at: Timestamp,
    samples: Vec<Sample>,
}

impl Samples {
    /// Of readings made at `at`.
    #[must_use]
    pub const fn at(at: Timestamp) -> Self {
        Self { at, samples: Vec::new() }
    }

    /// Adds a value if there is one.
    pub fn push(&mut self, subject: &Subject, signal: Signal, value: Option<f64>) {
        let sample = value.and_then(|value| Sample::new(subject.clone(), signal, self.at, value));
        self.samples.extend(sample);
    }

    /// All of them.
    #[must_use]
    pub fn into_vec(self) -> Vec<Sample> {
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let all: Vec<_> = Cause::ALL.into_iter().chain(GpuCause::ALL.map(Cause::Gpu)).collect();
        let causes: BTreeSet<_> = all.iter().map(|cause| cause.as_str()).collect();
        assert_eq!(causes.len(), all.len());
        let sources: BTreeSet<_> = SourceName::ALL.iter().map(|name| name.as_str()).collect();
        assert_eq!(sources.len(), SourceName::ALL.len());
    }

    #[test]
    fn what_is_unknown_makes_no_sample() {
        let mut samples = Samples::at(Timestamp::EPOCH);
        samples.push(&Subject::Node, Signal::Load1, None);
        samples.push(&Subject::Node, Signal::Load1, Some(f64::NAN));
        assert!(samples.into_vec().is_empty());
    }
}
