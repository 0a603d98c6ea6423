//! The policies of a run, as a load asks them.

use bytes::Bytes;
use envmill_bench::Actions;
use envmill_protocol::Observed;
use serde_json::Value;

use crate::policy::Sampler;

/// How many actions the peer is given, which takes them in turn.
const PEER_ACTIONS: u32 = 256;

/// Who acts.
#[derive(Debug)]
pub(super) enum Actor {
    /// The same action always.
    Constant(Bytes),
    /// Valid actions at random.
    Random(Box<Sampler>),
}

impl Actions for Actor {
    fn next(&mut self, seed: u64, step: u32, observed: &Observed) -> Result<Bytes, String> {
        match self {
            Self::Constant(action) => Ok(action.clone()),
            Self::Random(sampler) => {
                // Numbers list no legal actions, and need not be printed to be looked through.
                let observation = &observed.observation;
                let text = if observation.numbers().is_some() { &[] } else { &observation[..] };
                sampler.draw(seed, step, text).map_err(|error| error.message)
            }
        }
    }
}

impl Actor {
    /// Actions for a client that draws none.
    pub(super) fn some(&mut self, seed: u64) -> Vec<Value> {
        let count = if matches!(self, Self::Constant(_)) { 1 } else { PEER_ACTIONS };
        let texts = (0..count).filter_map(|step| self.next(seed, step, &Observed::default()).ok());
        texts.filter_map(|text| serde_json::from_slice(&text).ok()).collect()
    }
}
