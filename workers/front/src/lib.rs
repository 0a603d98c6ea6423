//! The OpenEnv protocol in front of any worker: tens of thousands of sessions in one process.
//!
//! Start at [`Front`]. A connection is a small future of its own (`session`); what it asks goes as a
//! command into the hub, the pump hands all commands queued since its last turn to the worker as one
//! batch, and the answers find their sessions through the hub again.
//!
//! Deliberately absent: environments (that is the worker's business), TLS and authentication (bind
//! to loopback, or put a proxy in front), the routes `/mcp` and `/harness`, attaching to sessions
//! made over HTTP, and permessage-deflate (an offer of it is not taken up).

mod front;
mod http;
mod hub;
mod listen;
mod options;
mod pump;
mod session;

pub use front::{Front, runtime};
pub use listen::{BACKLOG, listen};
pub use options::{Description, Options, Placement};
