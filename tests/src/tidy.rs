//! The rules that keep the repository in shape, as functions from text to what is wrong with it. Which files they are held against
//! stands in `tests/tests/tidy.rs`.

pub mod arrows;
pub mod layout;
pub mod links;
pub mod names;
pub mod pins;
pub mod places;
pub mod purity;
pub mod tokens;
