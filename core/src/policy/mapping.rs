//! How the metrics page of a runtime that Tidegate does not know is read: which family is which signal.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::signals::{Scope, Signal};

/// One family of a metrics page, as a signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalRule {
    /// Name of the family.
    #[schemars(length(max = 253))]
    pub family: String,
    /// Labels that its samples must bear.
    #[serde(default, rename = "match", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Name of the signal, as in the catalogue.
    #[schemars(schema_with = "of_workload")]
    pub signal: Signal,
    /// How samples become a reading.
    pub how: SignalHow,
}

/// How samples become a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignalHow {
    /// Sum of a gauge over samples and replicas.
    GaugeSum,
    /// Mean of a gauge.
    GaugeMean,
    /// Rate of a counter, summed.
    CounterRate,
}

fn of_workload(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let names =
        Signal::ALL.iter().filter(|signal| signal.scope() == Scope::Workload).map(|signal| signal.name());
    schemars::json_schema!({ "type": "string", "enum": names.collect::<Vec<_>>() })
}
