//! The local target, its gateway and training with real processes: what no pure test can show.
//!
//! Replicas are this very test program, started again to play a part (see [`parts`]); nothing else needs to be installed.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands, its helpers too")]

mod parts;
mod support;
mod survivors;
mod target;
mod training;
