//! Which trainers are expected at the door.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use envmill_delivery::ConsumerId;
use envmill_ring::LogLayout;

use super::RingId;

/// A trainer that was told where to come.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) consumer: ConsumerId,
    pub(crate) ring: RingId,
    pub(crate) layout: LogLayout,
}

/// Who is expected, by what they will say. A clone is the same one. It holds one token at most for each
/// consumer: the hub takes the old one out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lobby(Arc<Mutex<HashMap<Vec<u8>, Expected>>>);

impl Lobby {
    /// Expects someone. False if someone else is expected with the same token.
    pub(crate) fn expect(&self, token: &[u8], expected: Expected) -> bool {
        let mut all = self.lock();
        if all.contains_key(token) {
            return false;
        }
        all.insert(token.to_vec(), expected);
        true
    }

    /// Whoever is expected with this token, once.
    pub(super) fn take(&self, token: &[u8]) -> Option<Expected> {
        self.lock().remove(token)
    }

    /// Does not expect anybody of a consumer any more.
    pub(crate) fn forget(&self, consumer: ConsumerId) {
        self.lock().retain(|_, expected| expected.consumer != consumer);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Expected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
