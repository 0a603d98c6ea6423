//! The traits.

use envmill_protocol::{Trajectory, record::GroupRecord};

use crate::sink::SinkError;

/// Something that keeps records: a file, a trainer's connection, a database.
///
/// # Contract
///
/// * A record is kept whole or not at all, and in the order of submission.
/// * [`submit`](Self::submit) may block while the sink's own queue is full (its bound is documented
///   by each sink); nothing is dropped because a buffer was full.
/// * After a failure nothing more is kept: `submit` takes records and forgets them, `written` stays,
///   and [`failure`](Self::failure) says why. The engine then stops the run.
pub trait Sink: Send {
    /// Takes all records, leaving the list empty.
    fn submit(&mut self, records: &mut Vec<Trajectory>);

    /// How many records are known to be kept whole.
    fn written(&self) -> u64;

    /// Why nothing more is kept, if so. Cheap; asked after each batch.
    fn failure(&self) -> Option<SinkError>;

    /// Keeps everything submitted so far, and waits until that is done. To be called once, at the
    /// end.
    ///
    /// # Errors
    ///
    /// The failure that kept some records from being kept; [`written`](Self::written) tells how
    /// many were.
    fn finish(&mut self) -> Result<(), SinkError>;
}

/// Something that keeps records of groups, beside a [`Sink`].
///
/// # Contract
///
/// * A group is kept after its members: not before the sink has kept as many records as it had been
///   given when the group was submitted.
/// * Groups are kept in the order of submission. After a failure nothing more is, as with [`Sink`].
pub trait GroupSink: Send {
    /// Takes all records, leaving the list empty. The last record of any of their members was number
    /// `submitted` of those that the sink has been given.
    fn submit(&mut self, groups: &mut Vec<GroupRecord>, submitted: u64);

    /// Keeps the groups whose members are among the first `kept` records.
    fn advance(&mut self, kept: u64);

    /// How many groups are kept.
    fn written(&self) -> u64;

    /// Why nothing more is kept, if so. Cheap; asked after each batch.
    fn failure(&self) -> Option<SinkError>;

    /// Keeps what may be kept now that the sink has kept `kept` records, and waits until that is done.
    fn finish(&mut self, kept: u64);
}
