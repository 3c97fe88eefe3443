//! What a brain is told. Everything carries its own time; nothing is asked for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::{ReplicaCounts, Timestamp};

/// Requests counted over a window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Length of the window.
    pub window: Duration,
    /// How long before the look it ended.
    #[serde(default)]
    pub age: Duration,
    /// Requests that arrived in it.
    pub arrivals: f64,
    /// Requests answered in it.
    pub completed: f64,
    /// Requests that ended in it, answered or dropped; `None` where latency is not known.
    pub ended: Option<f64>,
    /// Of these, outside the objective.
    pub missed: Option<f64>,
    /// Tokens in and out; `None` where requests have none, or nobody counts them.
    pub tokens: Option<Tokens>,
}

/// Tokens of a language model, over the same window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    /// Of the prompts that arrived.
    pub prompt: f64,
    /// Made for the requests that were answered.
    pub output: f64,
    /// Mean seconds per output token after the first, of the requests that were answered.
    pub per_output_token_s: Option<f64>,
}

/// One look at a serving workload. What is unknown is `None`, never zero.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// When.
    pub at: Timestamp,
    /// Replicas by state.
    pub replicas: ReplicaCounts,
    /// Requests counted since the last look.
    pub flow: Option<Flow>,
    /// Requests being served.
    pub in_flight: Option<f64>,
    /// Requests waiting.
    pub queued: Option<f64>,
    /// Share of the replicas' memory for attention keys and values that is taken, 0 to 1; for language models.
    pub kv_utilisation: Option<f64>,
    /// Replicas that ended by themselves since the last look.
    pub lost: u32,
    /// Replicas end again and again soon after their start.
    pub crash_loop: bool,
}

/// One look at a training workload.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// When.
    pub at: Timestamp,
    /// Workers by state.
    pub workers: ReplicaCounts,
    /// Samples worked through per second.
    pub samples_per_second: Option<f64>,
    /// Steps per second.
    pub steps_per_second: Option<f64>,
    /// Whether a resize is under way.
    pub resizing: bool,
}

/// How a training resize ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeOutcome {
    /// Steps advance at the new size.
    Done,
    /// Steps advance at the new size, but the job could not write a checkpoint before.
    DoneWithoutCheckpoint,
    /// The job could not write a checkpoint; nothing was changed.
    CheckpointFailed,
    /// Steps did not advance; the former size was restored.
    Restored,
    /// The new size was not reached in time, or steps do not advance at it; it stays wanted.
    TimedOut,
}

impl ResizeOutcome {
    /// Value of the `outcome` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::DoneWithoutCheckpoint => "done_without_checkpoint",
            Self::CheckpointFailed => "checkpoint_failed",
            Self::Restored => "restored",
            Self::TimedOut => "timed_out",
        }
    }
}

/// What a brain is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A look at a serving workload.
    Seen(Seen),
    /// A look at a training workload.
    Progress(Progress),
    /// A replica became ready, this long after it was ordered.
    Started {
        /// When it became ready.
        at: Timestamp,
        /// Order to ready.
        start_up: Duration,
    },
    /// A training resize ended.
    Resized {
        /// When.
        at: Timestamp,
        /// How long it took, checkpoint included.
        took: Duration,
        /// How it ended.
        outcome: ResizeOutcome,
    },
    /// Most replicas are of this variant now: the version that they run, and the type of GPU that they run on.
    Runs {
        /// Its name; only whether it is another matters.
        variant: String,
    },
    /// The size was changed for a reason of the target's own; it is not somebody else's wish.
    Reset,
}
