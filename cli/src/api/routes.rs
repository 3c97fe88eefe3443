//! The routes by subject. Each reads its parameters, asks the backend, and gives a shape of `views`.

pub(super) mod about;
pub(super) mod actions;
pub(super) mod logs;
pub(super) mod workloads;
