//! What the channel needs to know.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use tokio::runtime::Handle;

use crate::ModelFacts;

/// How to reach an engine, and what to hold for it at most.
#[derive(Clone, Debug)]
pub struct EngineCoreOptions {
    /// Where the engine says that it has started: an address of this machine only, as nobody is asked for
    /// a password. Port 0 takes a free one, told by
    /// [`handshake_address`](crate::EngineCore::handshake_address).
    pub handshake: SocketAddr,
    /// The folder of the sockets over which requests go and tokens come. It is made if it is not there,
    /// readable by nobody else, and it belongs to one channel at a time.
    pub folder: PathBuf,
    /// The model that the engine serves.
    pub facts: ModelFacts,
    /// Where the tasks that read and write run. It has its I/O and its time enabled.
    pub runtime: Handle,
    /// So many generations are under way at most.
    pub in_flight: usize,
    /// So many bytes wait for the engine to take them before requests are refused as too many.
    pub unsent_bytes: usize,
    /// No message of the engine is larger.
    pub message_bytes: usize,
}

impl EngineCoreOptions {
    /// The usual ones, on a free port.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, facts: ModelFacts, runtime: Handle) -> Self {
        Self {
            handshake: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            folder: folder.into(),
            facts,
            runtime,
            in_flight: 4096,
            unsent_bytes: 64 << 20,
            message_bytes: 64 << 20,
        }
    }
}
