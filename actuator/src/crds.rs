//! The custom resources of group `tidegate.io`: what users ask for in a cluster, and what they are told.
//!
//! The intent itself is [`tidegate_core::ServingPolicy`] and [`tidegate_core::TrainingPolicy`], the same types as in
//! `tidegate.yaml`; here they are given a target and a status. [`definitions`] makes the objects that teach an API server
//! these kinds. Nothing here talks to one.

mod conditions;
mod installed;
mod pool;
mod schema;
mod serving;
mod status;
mod target;
mod training;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

pub use conditions::{ConditionReason, ConditionType, set_condition};
pub use installed::{Lacks, lacks};
pub use pool::{GpuPool, GpuPoolSpec, GpuPoolStatus, PoolShare, PoolSlots};
pub use serving::{
    Act, Demand, PrometheusDemand, RateUnit, ServingPolicy, ServingPolicySpec, ServingPolicyStatus, Via,
};
pub(crate) use status::time as status_time;
pub use status::{
    DecisionStatus, DemandSource, DemandStatus, FloorStatus, ForecastStatus, ReasonStatus, ReplicaStatus,
    SloStatus,
};
pub use target::Target;
pub use training::{
    CheckpointHook, CheckpointSignal, ExecHook, HttpHook, ResizeStatus, TrainingPolicy, TrainingPolicySpec,
    TrainingPolicyStatus,
};

/// API group of the resources.
pub const GROUP: &str = "tidegate.io";
/// Their version.
pub const VERSION: &str = "v1alpha1";

/// The definitions of all resources, ready to be applied.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![serving::definition(), training::definition(), pool::definition()]
}

#[cfg(test)]
mod tests;
