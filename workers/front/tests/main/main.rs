//! The front as its clients see it: the stock Python client, OpenEnv's own validator, and a real
//! OpenEnv server beside it that is asked the same.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests fail loudly")]

mod attaching;
mod capacity;
mod client;
mod flood;
mod garbage;
mod idle;
mod mcp;
mod modes;
mod queue;
mod script;
mod served;
mod sockets;
mod stateless;
mod stock;
mod tasks;
mod twin;
mod validate;
