//! Sessions with a name, which several connections may ask: those made over HTTP by
//! `openenv/session/create`, and those of WebSockets whose client has asked for the name.
//!
//! Each is kept by a task of its own ([`keep`](keeper::keep)), which asks the worker one thing at a
//! time; what others ask meanwhile waits in its queue. A WebSocket that takes part in such a session
//! has a [`Member`] where it otherwise has a hold of its own.

mod directory;
mod id;
mod keeper;
mod member;

pub(crate) use directory::{Closing, Directory, NotMade, Refused};
pub(crate) use member::Member;
