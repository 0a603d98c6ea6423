//! A delivery, whose record stays encoded.

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::{Group, InMemory, JobEnd, Part, Stale, Trajectory, Version};

/// A record on its way to the trainer: the message `Delivery` of the service.
///
/// What it holds is a message within a message, whose bytes are the same on the wire as those of a field
/// of bytes. Here it is one: the engine sends what its journal has without decoding it, and a consumer
/// decodes what it looks at.
#[derive(Clone, PartialEq, Message)]
pub struct Delivery {
    /// The job.
    #[prost(string, tag = "1")]
    pub job_id: String,
    /// Where it stands in the job's deliveries, from 1 without gaps; what is acknowledged.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// It may have been sent before.
    #[prost(bool, tag = "3")]
    pub redelivered: bool,
    /// Its group; without groups, the episode's own number.
    #[prost(uint64, tag = "4")]
    pub group_id: u64,
    /// The oldest policy version that it was made on.
    #[prost(message, optional, tag = "5")]
    pub version: Option<Version>,
    /// The version that was current when its turn came.
    #[prost(message, optional, tag = "6")]
    pub judged_at: Option<Version>,
    /// The number of the episode or group within its job.
    #[prost(uint64, tag = "7")]
    pub index: u64,
    /// What it holds.
    #[prost(oneof = "Content", tags = "8, 9, 10, 11, 12, 13")]
    pub content: Option<Content>,
}

/// What a delivery holds.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Content {
    /// The encoding of a [`Trajectory`].
    #[prost(bytes = "bytes", tag = "8")]
    Trajectory(Bytes),
    /// The encoding of a [`Group`].
    #[prost(bytes = "bytes", tag = "9")]
    Group(Bytes),
    /// The encoding of a [`JobEnd`].
    #[prost(bytes = "bytes", tag = "10")]
    End(Bytes),
    /// The record of an episode that was too old when its turn came.
    #[prost(message, tag = "11")]
    Stale(Stale),
    /// A part of a record that is too large for one message.
    #[prost(message, tag = "12")]
    Part(Part),
    /// The record of an episode, in memory that the trainer shares with the engine.
    #[prost(message, tag = "13")]
    InMemory(InMemory),
}

impl Content {
    /// Bytes of the record in it, as credit counts them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Trajectory(bytes) | Self::Group(bytes) | Self::End(bytes) => bytes.len(),
            Self::Part(part) => part.data.len(),
            Self::Stale(_) => 0,
            Self::InMemory(it) => return it.bytes,
        };
        bytes as u64
    }
}

/// What a delivery holds, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The record of an episode.
    Trajectory(Box<Trajectory>),
    /// The record of a group.
    Group(Box<Group>),
    /// The job's end.
    End(Box<JobEnd>),
    /// An episode that was too old.
    Stale(Stale),
}

impl Delivery {
    /// What it holds, decoded; `None` for a part, for what lies in shared memory, for nothing, and for
    /// what this version does not know.
    /// Bytes within are slices of it.
    ///
    /// # Errors
    ///
    /// It is no such encoding.
    pub fn record(&self) -> Result<Option<Record>, DecodeError> {
        Ok(match &self.content {
            Some(Content::Trajectory(bytes)) => {
                Some(Record::Trajectory(Box::new(Trajectory::decode(bytes.clone())?)))
            }
            Some(Content::Group(bytes)) => {
                Some(Record::Group(Box::new(Group::decode(bytes.clone())?)))
            }
            Some(Content::End(bytes)) => {
                Some(Record::End(Box::new(JobEnd::decode(bytes.clone())?)))
            }
            Some(Content::Stale(stale)) => Some(Record::Stale(stale.clone())),
            Some(Content::Part(_) | Content::InMemory(_)) | None => None,
        })
    }
}
