//! What a workload should look like next, and why.

use serde::{Deserialize, Serialize};

use crate::named::Named;
use crate::time::Timestamp;

/// What shaped a plan: one code per step of the decision, each with the same words everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "`help` says it, once")]
pub enum ReasonCode {
    DemandSeen,
    DemandFromConcurrency,
    DemandStale,
    DemandUnknown,
    SloUnmeasurable,
    ForeignWrite,
    ReplicaLost,
    CapacityUnknown,
    Headroom,
    Reactive,
    Backlog,
    StillMissing,
    ForecastOff,
    NoForecast,
    ForecastStale,
    ForecastNotTrusted,
    ForecastDoesNotPay,
    Predicted,
    ShortPast,
    NodeAhead,
    RiskLevel,
    Held,
    Consolidation,
    RolledBack,
    AlertBoost,
    ScheduleFloor,
    CrashLoop,
    MinReplicas,
    MaxReplicas,
    StepLimit,
    RateLimit,
    FlapGuard,
    SmallStep,
    PoolLimit,
    Shadow,
    PoolGrant,
    PoolRecall,
    PoolShort,
    ResizeLimit,
    GrowNotWorthIt,
    StepsStalled,
    CheckpointFailed,
}

impl ReasonCode {
    /// What the code means.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::DemandSeen => "demand is fresh and was used",
            Self::DemandFromConcurrency => {
                "demand is unknown; requests in flight and waiting were used instead"
            }
            Self::DemandStale => "nothing fresh is known; the size is held",
            Self::DemandUnknown => {
                "nothing has been known for long; the size is held at the fallback or above"
            }
            Self::SloUnmeasurable => {
                "requests are counted, but not how long each takes: whether they are in time is unknown"
            }
            Self::ForeignWrite => "somebody else set the size; it is respected for a while",
            Self::ReplicaLost => "a replica ended by itself lately and is being replaced",
            Self::CapacityUnknown => "what one replica carries is not known yet; the size is held",
            Self::Headroom => "standing headroom, as rehearsed on the workload's own past",
            Self::Reactive => "replicas that the demand seen needs",
            Self::Backlog => "requests wait; replicas to work them off were added",
            Self::StillMissing => "requests are late although the size should do; one more replica",
            Self::ForecastOff => "forecasting is switched off",
            Self::NoForecast => "no model has enough history for an opinion",
            Self::ForecastStale => "the last forecast no longer covers now",
            Self::ForecastNotTrusted => "the forecast did worse than the last value lately and was left out",
            Self::ForecastDoesNotPay => {
                "on the workload's own past, headroom did better than forecasts of the peak"
            }
            Self::Predicted => "replicas that the forecast needs until a new replica could be ready",
            Self::ShortPast => "the past is too short to bet on less",
            Self::NodeAhead => {
                "replicas beyond what the pool has at present, asked for as early as a node for them takes"
            }
            Self::RiskLevel => "quantile of the demand that the misses seen so far ask for",
            Self::Held => "a smaller size has not been enough for long enough yet",
            Self::Consolidation => "one replica fewer would not hold at the upper quantile",
            Self::RolledBack => "the last scale-down made requests late; it was taken back",
            Self::AlertBoost => "an alert raised the floor",
            Self::ScheduleFloor => "the schedule raised the floor",
            Self::CrashLoop => "replicas end soon after their start; more of them would not help",
            Self::MinReplicas => "the policy's lower bound",
            Self::MaxReplicas => "the policy's upper bound",
            Self::StepLimit => "the policy's limit on one step",
            Self::RateLimit => "the policy's limit on scale-downs in an hour",
            Self::FlapGuard => "a scale-up was too recent for a scale-down",
            Self::SmallStep => "a small step soon after another; it waits for others",
            Self::PoolLimit => "the pool has no more free slots at present",
            Self::Shadow => "the policy is in shadow: nothing is changed",
            Self::PoolGrant => "slots that serving does not need",
            Self::PoolRecall => "serving will need the slots; they are called back in time",
            Self::PoolShort => "the pool is too small for all; those of lower priority are cut",
            Self::ResizeLimit => "the policy's limit on resizes in an hour",
            Self::GrowNotWorthIt => "the slots will not be free for long enough to pay for a resize",
            Self::StepsStalled => "training steps did not advance after the last resize",
            Self::CheckpointFailed => "the job could not write a checkpoint before the last resize",
        }
    }
}

/// One step of a decision, in words and numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Which step.
    pub code: ReasonCode,
    /// For people.
    pub text: String,
    /// For programs: names with units, as in `demand_rps`.
    pub values: Named<f64>,
}

impl Reason {
    /// A reason with these values.
    #[must_use]
    pub fn new(code: ReasonCode, text: impl Into<String>, values: &[(&'static str, f64)]) -> Self {
        let values = Named::new(values.iter().copied().filter(|(_, value)| value.is_finite()));
        Self { code, text: text.into(), values }
    }
}

/// What one workload should look like next, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The size.
    pub replicas: u32,
    /// The size if the pool had room for all: what the pool's plan starts from.
    pub unpooled: u32,
    /// What shaped it, in the order it was applied.
    pub reasons: Vec<Reason>,
    /// What the Kubernetes HPA would ask for at this moment, where that can be said.
    pub hpa: Option<u32>,
}

impl Plan {
    /// Whether a step of this code took part.
    #[must_use]
    pub fn has(&self, code: ReasonCode) -> bool {
        self.reasons.iter().any(|reason| reason.code == code)
    }
}

/// One record per decision: what was seen, what was decided, and why. The same words in the API, the log and the page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// The size before.
    pub from: u32,
    /// The size decided.
    pub to: u32,
    /// Whether it was put into effect; false in shadow.
    pub applied: bool,
    /// What shaped it, in order.
    pub reasons: Vec<Reason>,
    /// What the Kubernetes HPA would ask for; `None` where that cannot be said.
    pub hpa: Option<u32>,
    /// What was seen: names with units; `None`: unknown.
    pub inputs: Named<Option<f64>>,
}
