//! The sample workloads of Tidegate: `digits-serve`, an HTTP service that tells handwritten-like digits apart, and `digits-train`, the
//! elastic group of workers that learns to. Both really compute; what an accelerator would do is a documented wait.
//!
//! A sample knows nothing of Tidegate: it depends on no other member, and shows itself as any workload would, by metrics, logs and signals.

mod bounded;
mod clock;
mod exposition;
pub mod faults;
pub mod glyphs;
mod http;
pub mod learn;
mod log;
pub mod model;
pub mod names;
pub mod pattern;
mod seeds;
pub mod serve;
mod span;
mod stop;
#[cfg(test)]
mod testing;
pub mod train;

pub use faults::Fault;
pub use log::Log;
pub use pattern::Pattern;
pub use serve::ServeArgs;
pub use train::TrainArgs;
