//! Whole turns of agents, with a model's tokenizer and template and an engine that says what it is told to.
#![allow(clippy::unwrap_used, reason = "what is not there fails the test")]

mod puppet;
mod records;
