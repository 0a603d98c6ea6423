//! The part of Envmill that delivers: what a trainer is owed, what has been sent, what was
//! acknowledged, and what has to be on disk before anything else may happen.
//!
//! Start at [`Delivery`]. Finished work goes in through [`Delivery::record`], the journal's progress
//! through [`Delivery::committed`], the trainer's words through [`Delivery::attach`],
//! [`Delivery::credit`], [`Delivery::acknowledge`] and the rest; [`Output`]s and [`Batch`]es of changes
//! come out. What it promises:
//!
//! - every recorded item is delivered until it is acknowledged, and never again after its
//!   acknowledgement was confirmed, unless the trainer rewinds;
//! - an item is in the journal before its first byte is sent, and a number denotes the same bytes for
//!   ever, over crashes of either side;
//! - whether an item is stale is judged once, before it is sent for the first time.
//!
//! Deliberately absent: sockets, files, threads, clocks. The journal is whoever applies batches of
//! changes in order, each as a whole or not at all; after a crash [`Delivery::restore`] takes what it
//! holds. The same calls give the same outputs, so that ten thousand power losses are a test of seconds.

mod api;
mod batches;
mod checkpoints;
mod consumer;
mod delivery;
mod ids;
mod item;
mod job;
mod journal;
mod memory;
mod sending;

pub use api::{
    AcknowledgeError, AttachError, BatchError, CheckpointError, ConsumerId, Content, Finished,
    JobKey, Kind, Number, Order, Output, Pace, RecordError, Retention, Sent, Standing, Terms,
    UnknownJob, Version, VersionError,
};
pub use delivery::{Delivery, Options};
pub use ids::Ids;
pub use item::{Issue, ItemRow, Stage, Verdict};
pub use journal::{Batch, Change, JobRow, RestoredJob, StoredJob, Ticket};
pub use memory::MemoryJournal;
