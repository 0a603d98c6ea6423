//! Records as images, through the public interface.

#![expect(clippy::unwrap_used, reason = "tests")]

mod golden;
mod hostile;
mod python;
mod records;
mod round_trips;
