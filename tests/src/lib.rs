//! What the suites of this crate share: real servers started for a test, bounded waits, rules of tidiness. No test is in here but those of itself.

pub mod dashboards;
pub mod fake_nvml;
pub mod images;
pub mod repository;
pub mod servers;
pub mod tidy;
pub mod waiting;
