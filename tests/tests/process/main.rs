//! The built binary as a process: what a shell sees of it, what `up` does on wrong input and faults, and what is left when it ends.
//!
//! One program for all of it, so that its tests run beside each other. Elsewhere: the page in a browser, logs in Elasticsearch.

mod alerts;
mod asking;
mod backtests;
mod command_line;
mod configuration;
mod demo;
mod demo_faults;
mod endings;
mod forecasts;
mod gpus;
mod history;
mod language_models;
mod replicas;
mod scraping;
mod start;
mod written;
