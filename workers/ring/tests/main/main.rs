//! Tests over real memfds, sockets and processes.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod round_trips;
