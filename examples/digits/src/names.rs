//! What the samples call their metrics and log fields. One list, so that the page, the tests and the documents can be held against it.
//!
//! These are the samples' own names, as any user's workload has its own; they are no part of Tidegate's catalogue.

/// Metrics of `digits-serve`.
pub mod serve {
    /// Histogram: seconds from a request's arrival to its answer, waiting included.
    pub const REQUEST_DURATION: &str = "digits_request_duration_seconds";
    /// Counter: answered requests, by status code.
    pub const REQUESTS: &str = "digits_requests_total";
    /// Gauge: requests being served.
    pub const IN_FLIGHT: &str = "digits_in_flight";
    /// Gauge: requests waiting for a free place.
    pub const QUEUE_DEPTH: &str = "digits_queue_depth";
    /// Gauge: 1 when the model is loaded and requests are taken.
    pub const READY: &str = "digits_ready";
}

/// Metrics of `digits-train`.
pub mod train {
    /// Counter: steps that this worker has taken part in.
    pub const STEPS: &str = "digits_train_steps_total";
    /// Counter: samples that this worker has worked through.
    pub const SAMPLES: &str = "digits_train_samples_total";
    /// Gauge: the job's step number; goes back when a job resumes from an older checkpoint.
    pub const STEP: &str = "digits_train_step";
    /// Gauge: mean loss of the last step, all workers together.
    pub const LOSS: &str = "digits_train_loss";
    /// Histogram: seconds of a step as this worker saw it.
    pub const STEP_SECONDS: &str = "digits_train_step_seconds";
    /// Gauge: workers that took part in the last step.
    pub const WORKERS: &str = "digits_train_workers";
    /// Counter: checkpoints, by result (`saved`, `failed`).
    pub const CHECKPOINTS: &str = "digits_train_checkpoints_total";
    /// Gauge: 1 on the worker that leads.
    pub const LEADER: &str = "digits_train_leader";
}

/// Labels.
pub mod label {
    /// Status code of an answer.
    pub const CODE: &str = "code";
    /// Outcome of a checkpoint.
    pub const RESULT: &str = "result";
    /// Upper bound of a histogram's bucket.
    pub const LE: &str = "le";
}

/// Fields of a log line.
pub mod field {
    /// When the line was written, RFC 3339.
    pub const TS: &str = "ts";
    /// `info`, `warn` or `error`.
    pub const LEVEL: &str = "level";
    /// What happened: constant text.
    pub const MSG: &str = "msg";
    /// Method of a request.
    pub const METHOD: &str = "method";
    /// Path of a request.
    pub const PATH: &str = "path";
    /// Status of the answer.
    pub const STATUS: &str = "status";
    /// Milliseconds from arrival to answer.
    pub const DURATION_MS: &str = "duration_ms";
    /// Id of a request: the caller's `x-request-id`, or one made here.
    pub const REQUEST_ID: &str = "request_id";
    /// Why something failed.
    pub const ERROR: &str = "error";
    /// Address that is listened on.
    pub const ADDRESS: &str = "address";
    /// Version of the loaded model.
    pub const MODEL_VERSION: &str = "model_version";
    /// Seconds that loading took.
    pub const LOAD_SECONDS: &str = "load_seconds";
    /// Requests that were still unanswered when the time for draining ran out.
    pub const UNFINISHED: &str = "unfinished";
    /// Training step.
    pub const STEP: &str = "step";
    /// Mean loss of the step.
    pub const LOSS: &str = "loss";
    /// Duration of the step.
    pub const STEP_SECONDS: &str = "step_seconds";
    /// Samples per second, all workers together.
    pub const SAMPLES_PER_SECOND: &str = "samples_per_second";
    /// Workers that took part.
    pub const WORKERS: &str = "workers";
    /// Share of held-out images that the model tells right.
    pub const ACCURACY: &str = "accuracy";
    /// File that was read or written.
    pub const FILE: &str = "file";
    /// Worker that a line is about, by the leader's number for it.
    pub const WORKER: &str = "worker";
}
