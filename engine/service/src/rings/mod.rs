//! Memory that is shared with trainers on this host: how it is handed out, and when it ends.
//!
//! The [`Lobby`] knows which tokens are expected, the [`Door`] is the socket where they are said. A
//! trainer that has said its token gets a log of its own, and a thread that watches its end of the socket
//! and its doorbell, for as long as the hub keeps the [`OpenRing`].

mod door;
mod guest;
mod lobby;

pub(crate) use door::Door;
pub(crate) use guest::OpenRing;
pub(crate) use lobby::{Expected, Lobby};

/// A ring; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingId(pub(crate) u64);

/// What becomes of a ring, for the hub.
#[derive(Debug)]
pub(crate) enum RingNews {
    /// Its trainer has come for it.
    Open(OpenRing),
    /// Its trainer has given something back since that was [wished](OpenRing::wish) for.
    Freed,
    /// Its trainer has closed its end, or died.
    Gone,
}
