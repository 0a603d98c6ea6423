//! A flight recorder: everything that a core was told, in a bounded file, so that every decision it
//! took can be taken again, offline and bit for bit. A bug report is that file.
//!
//! Start at [`Recorder`], which stands between a driver and its core while a run goes on, and at
//! [`Replay`], which plays a file and compares. [`Reader`] gives the entries of a file one by one;
//! `docs/flight-recorder.md` describes its form.
//!
//! The core is sans-I/O and deterministic, so its options, inputs and the times of its calls are all
//! there is to record. Beside them the file holds a running hash over what came out, by which a replay
//! proves itself, and tells at which call it left the recorded way.
//!
//! Deliberately absent: what workers, policies and sinks did beyond what the core was told of it.

mod codec;
mod digest;
mod entry;
mod file;
mod recorder;
mod replay;

pub use entry::Entry;
pub use file::{FRAME_BYTES_MAX, ReadError, Reader, VERSION};
pub use recorder::{BYTES_MAX_DEFAULT, Recorded, Recorder};
pub use replay::{Divergence, Ending, Replay, ReplayError, Tally};
