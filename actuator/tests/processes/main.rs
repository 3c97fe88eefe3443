//! The local target, its gateway and training with real processes: what no pure test can show.
//!
//! Replicas are this very test program, started again to play a part (see [`parts`]); nothing else needs to be installed.

mod parts;
mod survivors;
mod support;
mod target;
mod training;
