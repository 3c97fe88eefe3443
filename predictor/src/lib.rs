//! Forecasts of a workload's demand: clean → fit → predict → calibrate → score, over the types of `tidegate-core`.
//!
//! Pure: no file, clock, thread, environment, log call or unseeded randomness. It knows nothing of replicas or capacity.
//!
//! [`Predictor`] is the unfitted form, [`FittedPredictor`] the fitted one. Inside, a small league of models follows the
//! series; each is judged at origins that it had not seen, and a mix of them speaks where it clearly beats the last value.

mod aggregate;
mod cell;
mod config;
mod conformal;
mod course;
mod curve;
mod empirical;
mod fitted;
mod grid;
mod history;
mod judge;
mod models;
mod peak;
mod prepare;
mod trees;
mod trial;
mod voice;

pub use config::{Predictor, PredictorConfig};
pub use fitted::FittedPredictor;
pub use peak::{PeakConfig, PeakModel, PeakPast};
