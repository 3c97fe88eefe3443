//! Decision tables from the documented cases of other autoscalers: numbers are theirs, words are ours.

mod hpa;
mod keda;
mod kpa;
