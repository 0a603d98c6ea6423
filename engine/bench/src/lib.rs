//! Measures how fast an environment is.
//!
//! Start at [`report::Report`], which is everything that a benchmark has found.

pub mod report;
