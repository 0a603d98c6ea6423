//! A deliberately small, blocking client that can do what a proper one must not: raw frames, half
//! requests, cuts, slow reads. Every wait has a deadline, and ends when the check is told to stop.

mod frames;
mod http;
mod link;
mod peer;
mod reply;
mod socket;
mod stop;
mod trouble;

pub(crate) use self::{
    frames::{Opcode, frame},
    http::Http,
    reply::{Answer, Reply},
    socket::{Cut, Socket, Told},
    trouble::{Trouble, excerpt},
};
pub use self::{
    peer::{Peer, PeerError, PeerOptions},
    stop::Stop,
};
