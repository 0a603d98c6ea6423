//! Tests over real memfds, sockets and processes.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod channel;
mod doorbell;
mod golden;
mod hostile;
mod image;
mod listener;
mod log;
mod properties;
mod python;
mod round_trips;
mod scribble;
mod sides;
