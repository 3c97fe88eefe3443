//! Exposition.
