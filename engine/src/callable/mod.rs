//! Functions of the user's, asked a batch at a time: scorers, and agents in code.
//!
//! Start at [`Caller`]. [`PythonCaller`] is one in a process of its own, which is killed where it does not
//! answer in time and started again; what the process runs is `runner.py` with a second part that says what
//! is in a batch and in its answer.

mod caller;
mod python;

pub(crate) use caller::{Caller, Fault, Remedy, shortened};
pub(crate) use python::{Launch, PythonCaller};
