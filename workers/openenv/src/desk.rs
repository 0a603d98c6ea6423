//! What all sessions of a worker share, so that none of them owns it.

use envmill_protocol::openenv::Decoder;

use crate::{Options, websocket::Masks};

/// The most memory that the outgoing buffer keeps between requests, in bytes.
const OUT_BYTES_KEPT: usize = 64 * 1024;

/// Buffers and settings, one set for each worker.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Where sockets are read into.
    pub(crate) incoming: Box<[u8]>,
    /// Where frames are made; empty between uses.
    pub(crate) out: Vec<u8>,
    pub(crate) masks: Masks,
    pub(crate) decoder: Decoder,
    pub(crate) message_bytes_max: usize,
}

impl Desk {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            incoming: vec![0; options.read_buffer_bytes].into(),
            out: Vec::new(),
            masks: Masks::new(),
            decoder: Decoder::new(options.truncated_from.clone()),
            message_bytes_max: options.message_bytes_max,
        }
    }

    /// Empties the outgoing buffer, and gives back what a large request made it grow to.
    pub(crate) fn clear_out(&mut self) {
        self.out.clear();
        self.out.shrink_to(OUT_BYTES_KEPT);
    }
}
