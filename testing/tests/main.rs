//! The tests of what other tests stand on.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "main/command.rs"]
mod command;
#[path = "main/echo.rs"]
mod echo;
#[path = "main/faults.rs"]
mod faults;
#[path = "main/servers.rs"]
mod servers;
