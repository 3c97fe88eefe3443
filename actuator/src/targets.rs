//! What can be resized, one module per kind. Deciding sizes is not done here.

pub mod local;
