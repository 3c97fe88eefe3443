//! What a scaler would have done to a load, and what it would have cost: a discrete-event simulation of requests, replicas and the
//! metric pipelines between them and whoever scales.
//!
//! A [`World`] holds the [`Load`], the [`Service`] of one replica, start-up times, bounds and faults. [`simulate`] lets a [`Scaler`]
//! size it and gives a [`Run`]: totals, minutes, latencies. [`scalers`] has Tidegate itself and what people run today. Everything
//! is pure and follows from the seed; requests, their service times and the start-up times of replicas are the same for all scalers.
//!
//! ```
//! use std::time::Duration;
//! use tidegate_core::{Bounds, Timestamp};
//! use tidegate_sim::{Generic, Load, Service, Sizes, StartUp, World, scalers::Static, simulate};
//!
//! let world = World {
//!     load: Load::constant(20.0, Sizes::default()),
//!     service: Service::Generic(Generic::default()),
//!     drop_after: Duration::from_secs(30),
//!     retries: None,
//!     start_up: StartUp::MODEL,
//!     bounds: Bounds { min: 1, max: 64 },
//!     replicas: 4,
//!     start: Timestamp::EPOCH,
//!     warm_up: Duration::from_secs(60),
//!     end: Timestamp::from_secs(660),
//!     faults: Vec::new(),
//!     seed: 1,
//! };
//! let run = simulate(&world, &mut Static(4));
//! assert_eq!(run.totals.arrived, run.totals.completed + run.totals.dropped);
//! assert_eq!(run.totals.replica_seconds, 4.0 * 600.0);
//! ```
//!
//! What it leaves out: the way of a request through a network, unequal replicas, nodes that must come first, and chance that is not
//! independent from second to second. [`fluid`] is a rougher model for use beside a running service.

mod book;
mod engine;
pub mod fluid;
mod load;
mod pool;
mod run;
mod scaler;
pub mod scalers;
mod service;
mod simulate;
pub mod theory;
mod time;
mod world;

pub use load::{Load, Request, Sizes};
pub use run::{Minute, Run, Totals};
pub use scaler::{Figures, Look, Pipeline, Scaler};
pub use service::{Generic, Llm, Service, ServiceTime};
pub use simulate::simulate;
pub use world::{Fault, FaultKind, Retries, StartUp, World};
