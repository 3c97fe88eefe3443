//! Words and decisions of Tidegate: units, ids, the catalogues of signals, metrics and log fields, series, forecasts, policies, plans.
//!
//! Pure: no clock, file, socket, thread, environment, log call or unseeded randomness, and no dependency on another
//! member of the workspace. `now` is always an argument.

pub mod alerts;
pub mod block;
pub mod decide;
pub mod fields;
pub mod forecast;
pub mod histogram;
pub mod hpa;
pub mod ids;
pub mod metrics;
mod named;
pub mod observed;
pub mod plan;
pub mod policy;
pub mod pool;
pub mod sample;
pub mod series;
pub mod signals;
pub mod spread;
pub mod stance;
pub mod time;
pub mod units;

pub use alerts::{Alert, AlertOutcome};
pub use block::{BLOCK, Block};
pub use decide::{Inputs, Room, State, decide};
pub use fields::{Field, Mapping};
pub use forecast::{Forecast, LEVELS, Quantiles, Score, Standing};
pub use histogram::Histogram;
pub use ids::{Role, WorkloadId};
pub use metrics::dcgm::Dcgm;
pub use metrics::{Family, Kind, Label, Metric};
pub use named::Named;
pub use observed::{Capacity, CapacitySource, Lead, Misses, Observed, Reading, ReplicaCounts};
pub use plan::{Decision, Plan, Reason, ReasonCode};
pub use policy::{Bounds, CapacityHint, Mode, Policy, ServingPolicy, Slo, TrainingPolicy};
pub use pool::{Grant, ServingNeed, TrainingNeed, plan_pool};
pub use sample::{Sample, Subject};
pub use series::Series;
pub use signals::{Across, Scope, Signal};
pub use spread::Spread;
pub use stance::{Rehearsed, Repertoire, Stance};
pub use time::{Span, Timestamp};
pub use units::{Ratio, Unit};
