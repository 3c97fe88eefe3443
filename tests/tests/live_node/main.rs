//! Pods that really run: a control plane, and this machine as its node. What the node leaves on the machine is gone afterwards.

mod chart;
mod gpus;
mod node;
mod serving;
mod training;
