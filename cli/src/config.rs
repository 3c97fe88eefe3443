//! `tidegate.yaml`: what `tidegate up` manages and watches. Reading it is here; acting on it is not.

mod check;
mod file;
mod find;
pub(crate) mod yaml;

pub(crate) use check::{ConfigError, Loaded, load};
pub(crate) use file::{
    CheckpointHook, Config, Elasticsearch, Gateway, Gpu, GpuCompat, GpuEnabled, Metrics, Otlp, Pool, Process,
    Push, PushProtocol, Sink, Workload,
};
pub(crate) use find::{find, usual_places};
