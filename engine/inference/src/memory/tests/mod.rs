//! The channel against a plug-in that is played here, and the rows against nonsense.

mod faults;
pub(crate) mod mock;
mod requests;
mod results;
