//! Batches over shared memory between two processes on one Linux host.
//!
//! Each process makes a segment of its own, which it alone can write to, and maps the other's
//! read-only. Start at [`Layout`] (what a batch holds) and [`ColumnsWriter`], which publishes batches
//! and whose [`connect`](ColumnsWriter::connect) gives the [`ColumnsReader`] of the other's. A
//! [`Channel`] passes the segments' descriptors (a [`Listener`] gives one to each stranger), a
//! [`Doorbell`] says that there is something to look at. The format, byte by byte, and the protocol are
//! in `docs/ring.md`: the peer is often a Python program that has nothing but its standard library.
//!
//! Where single records go one way and are given back in any order there is a log: [`LogWriter`] and
//! [`LogReader`].
//!
//! The peer is not trusted: whatever it writes to its segment or sends, it gets an error here, never
//! a panic, and never reads or writes outside of what was mapped.
//!
//! Deliberately absent: threads, an event loop (descriptors are waited for by whoever has one), other
//! systems than Linux, and more than one consumer of a segment.

#[cfg(not(all(target_os = "linux", target_endian = "little", target_pointer_width = "64")))]
compile_error!("shared memory is laid out for 64-bit, little-endian Linux");

mod channel;
mod columns;
mod descriptor;
mod doorbell;
mod element;
mod error;
mod header;
mod layout;
mod limits;
mod listener;
mod log;
#[cfg(all(test, loom))]
mod loom_words;
mod memory;
mod protocol;
mod segment;

pub use channel::{
    Channel, DESCRIPTORS_MAX, MESSAGE_BYTES_MAX, Message, ReceiveError, Received, SendError,
    inheritable,
};
pub use columns::{
    Batch, BatchMut, ColumnsReader, ColumnsWriter, OverflowColumn, OverflowMessage, Published,
    RaggedRows,
};
pub use doorbell::{Doorbell, wait};
pub use element::{DType, Element};
pub use error::{
    ColumnError, CounterError, LayoutError, LogError, OpenError, OverflowError, ReadError,
    RecordError, WriteError,
};
pub use layout::{ColumnKind, ColumnSpec, Layout};
pub use limits::Limits;
pub use listener::Listener;
pub use log::{Lease, LogLayout, LogReader, LogStart, LogWriter, RecordMut, View};
