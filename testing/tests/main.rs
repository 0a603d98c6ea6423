//! The tests of what other tests stand on.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "main/command.rs"]
mod command;
#[path = "main/echo.rs"]
mod echo;
#[path = "main/faults.rs"]
mod faults;
#[path = "main/servers.rs"]
mod servers;
