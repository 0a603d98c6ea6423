//! What Envmill's tests and benches share, so that they run against real processes and real sockets.
//!
//! Start at [`PythonServer`] (a stock OpenEnv server under uvicorn, to be killed, stopped and
//! restarted at will), [`FaultProxy`] (what a bad network does to a connection, on purpose) and
//! [`EnvmillCommand`] (the built command, its exit status, its summary and its trajectories). A page
//! is looked at with [`Chromium`]. Every test that waits does so under a [`Watchdog`].
//!
//! Errors are `anyhow`'s, with what was tried and the tail of the log of the process concerned:
//! they are read by people whose test has just failed.
//!
//! Deliberately absent: an OpenEnv server or client of our own making. What is tested here is tested
//! against the real ones; simulated worlds belong to the crates that they test.

mod chromium;
mod envmill;
mod flow;
mod http;
mod port;
mod process;
mod proxy;
mod python;
mod server;
mod watchdog;

pub use chromium::{Behaviour, Chromium, Tab, View};
pub use envmill::{EnvmillCommand, Finished, Running, trajectories};
pub use flow::stock_client_flow;
pub use http::{get, post};
pub use port::free_port;
pub use process::Processes;
pub use proxy::{Counts, Effect, Fault, FaultProxy, FrameEffect, Frames, HttpAnswer, Plan, Point};
pub use python::{NEWEST, OLDEST, VERSIONS, python, python_of, script, versions_under_test};
pub use server::{PythonServer, PythonServerOptions};
pub use watchdog::{Watchdog, wait_until};
