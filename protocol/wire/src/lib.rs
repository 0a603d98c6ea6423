//! The rollout service on the wire.
//!
//! The messages and the service are generated from `protocol/proto`, where each field has its
//! documentation. [`Delivery`] is written by hand, so that records stay encoded on their way;
//! [`trajectory`] and [`group`] make messages of records, [`read_trajectory`] a record of a message, and
//! [`layout`] lays a trajectory out in memory so that its arrays can be looked at in place; [`meeting`] is
//! what is said where such memory is handed out.
//!
//! Deliberately absent: sockets, and everything that the service does.

mod convert;
mod delivery;
pub mod layout;
pub mod meeting;
mod read;

#[expect(missing_docs, reason = "enums' conversions and the service's plumbing have none")]
#[allow(
    clippy::all,
    clippy::map_unwrap_or,
    clippy::uninlined_format_args,
    clippy::semicolon_if_nothing_returned,
    unreachable_pub,
    reason = "generated"
)]
mod generated {
    tonic::include_proto!("envmill.v1");
}

pub use convert::{decision, group, member, policy_version, trajectory, version};
pub use delivery::{Content, Delivery, Record};
pub use generated::*;
pub use read::read_trajectory;

/// The descriptors of the service's files, for reflection: an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
