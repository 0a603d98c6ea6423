//! The trait.

use envmill_protocol::Trajectory;

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
