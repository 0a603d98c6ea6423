//! The OpenEnv protocol in front of any worker: tens of thousands of sessions in one process.
//!
//! Start at [`Front`]. A connection is a small future of its own (`session`); what it asks goes as a
//! command into the hub, the pump hands all commands queued since its last turn to the worker as one
//! batch, and the answers find their sessions through the hub again.
//!
//! A session is a WebSocket's own, until its client asks for its name (`openenv/session/create`);
//! then, as those made over HTTP, it can be asked by several connections (`named`). HTTP requests
//! without a session get an environment of their own for the one request.
//!
//! Deliberately absent: environments (that is the worker's business), TLS and authentication (bind
//! to loopback, or put a proxy in front), `/harness` (an agent of the server's own needs a harness in
//! the environment's process), the web pages (`/web`, `/docs`, `/redoc`), and permessage-deflate (an
//! offer of it is not taken up).

mod description;
mod front;
mod http;
mod hub;
mod listen;
mod named;
mod options;
mod pace;
mod pump;
mod rpc;
mod session;

pub use description::Description;
pub use front::{Front, runtime};
pub use listen::{BACKLOG, listen};
pub use options::{CALLS_MAX, Mode, Options, Placement};
