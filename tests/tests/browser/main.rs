//! The page of `tidegate up` in headless Chromium, with a reader's pointer: what moves, what answers, what is said when things fail.
//!
//! One program for all of it. The demo is started once and looked at step by step. What the API answers is for the other suites.

mod charts;
mod decisions;
mod demo;
mod faults;
mod hand;
mod machine;
mod page;
mod panels;
mod report;
mod sizes;
