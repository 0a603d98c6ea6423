//! How players reach the hub, and how much of what they say may wait there.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::{
    Played,
    hub::{Address, Word},
};

/// A player waits while so many records of it wait for the hub, which takes a few microseconds for each.
const RECORDS_MAX: usize = 8192;

/// Where the player of one environment tells what it has to tell.
#[derive(Clone, Debug)]
pub struct Ear {
    address: Address,
    environment: usize,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    inside: Mutex<usize>,
    left: Condvar,
}

/// Some records on their way; dropped when they have been taken.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    records: usize,
}

impl Ear {
    pub(crate) fn new(address: Address, environment: usize) -> Self {
        Self { address, environment, gate: Arc::default() }
    }

    /// Tells something. Blocks for a moment while much waits.
    pub fn tell(&self, played: Played) {
        let records = match &played {
            Played::Records(records) => records.len(),
            Played::Groups(groups) => groups.len(),
            _ => 0,
        };
        let mut inside = self.gate.lock();
        while *inside > 0 && *inside + records > RECORDS_MAX {
            inside = self.gate.left.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
        *inside += records;
        drop(inside);
        let permit = Permit { gate: Arc::clone(&self.gate), records };
        self.address.tell(Word::Played(self.environment, played, permit));
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.gate.lock() -= self.records;
        self.gate.left.notify_one();
    }
}
