//! What an autoscaler asks for by Kubernetes' External Metrics API, or KEDA for it: the size that a policy has in force.

use crate::signals::Signal;

/// The metric, under the name that `/metrics` shows it by.
pub const REPLICAS: &str = Signal::ReplicasWanted.metric_name();
/// Label: name of the policy.
pub const POLICY: &str = "policy";
/// Label: kind of its target, such as `Deployment`.
pub const KIND: &str = "kind";
/// Label: name of its target.
pub const NAME: &str = "name";
