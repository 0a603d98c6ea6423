//! The client's half of RFC 6455, on buffers that the worker shares between all of its sockets.
//!
//! `tungstenite` reads and writes frame headers and the upgrade's answer; what it is not used for is
//! its message layer, which keeps a read buffer for each socket, hands out slices that pin it, and
//! does not give it back after a large message.

mod read;
mod upgrade;
mod write;

pub(crate) use read::{Reader, Received, Violation};
pub(crate) use upgrade::{Upgrade, Verdict};
pub(crate) use write::{Masks, append_frame};
