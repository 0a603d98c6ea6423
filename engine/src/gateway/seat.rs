//! A client's session, as the front knows it.

use envmill_protocol::{Generation, Slot};

use super::session::Asking;

/// A slot of the front's.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Of its last command.
    pub(super) generation: Generation,
    pub(super) place: Place,
}

/// Where it is with the pool.
#[derive(Debug, Default)]
pub(super) enum Place {
    /// It is not open.
    #[default]
    None,
    /// It has asked for nothing yet.
    Open,
    /// Its first request waits for a session.
    Waiting(Asking),
    /// It has this session of the pool.
    At(Slot),
}
