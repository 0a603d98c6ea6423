//! The journal of deliveries on disk.
//!
//! [`Store`] keeps what [`envmill_delivery::Delivery`] wants kept: it applies batches of changes, each
//! as a whole or not at all, in a file that survives the loss of power at any moment, and gives
//! everything back when it is opened again. A batch that [`Store::apply`] has taken is on disk: it is
//! synced once for each batch, which is why batches are worth gathering.
//!
//! [`Scribe`] does so on a thread of its own, and goes on trying while the disk is full.
//!
//! A file is one process's at a time, and every opening has a larger incarnation number than the one
//! before. Deliberately absent: any decision about what is kept and for how long.

mod error;
mod medium;
mod rows;
mod scribe;
mod store;

pub use error::{ApplyError, OpenError, ReadError};
pub use medium::Medium;
pub use scribe::{News, Scribe};
pub use store::{SCHEMA, Store};
