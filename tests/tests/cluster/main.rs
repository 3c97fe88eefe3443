//! A real control plane, with simulated nodes where pods are to run.
//!
//! One program for all of it: linking several of them takes longer than running them. Elsewhere: pods that really run.

mod access;
mod admission;
mod adoption;
mod autoscaler;
mod certificate;
mod chart;
mod check;
mod control_plane;
mod controller;
mod custom_resources;
mod helm;
mod keda;
mod keda_operator;
mod manifests;
mod many;
mod objects;
mod others;
mod pod_logs;
mod pools;
mod prometheus;
mod published;
mod race;
mod rights;
mod simulated_nodes;
mod targets;
mod training;
mod unready;
mod variants;
mod way_back;
