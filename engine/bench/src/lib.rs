//! Measures how fast an environment is.
//!
//! Start at [`report::Report`], which is everything that a benchmark has found; [`page::render`] makes a
//! page of it.

pub mod page;
pub mod report;
