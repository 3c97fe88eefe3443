//! The GPU collector through the library that it loads: every branch, on GPUs that are not there.

mod failures;
mod fake;
mod healthy;
mod pages;
mod xids;
