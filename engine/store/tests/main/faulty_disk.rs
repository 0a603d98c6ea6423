//! A disk that loses its power, or its room.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use envmill_store::Medium;
use envmill_world::Random;
use redb::StorageBackend;

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub(crate) struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What survives for certain.
    synced: Vec<u8>,
    /// What reads give.
    seen: Vec<u8>,
    /// What was written since the last sync.
    pending: Vec<Write>,
    /// Writes and syncs so far.
    operations: u64,
    /// The power goes with this operation.
    power_until: Option<u64>,
    /// There is no room beyond.
    room: Option<u64>,
}

#[derive(Debug)]
enum Write {
    Bytes { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl FaultyDisk {
    pub(crate) fn medium(&self) -> Medium {
        let disk = self.clone();
        Medium::Backend(Box::new(move || Box::new(disk.clone())))
    }

    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(crate) fn power_until(&self, operation: u64) {
        self.state().power_until = Some(operation);
    }

    pub(crate) fn room(&self, bytes: Option<u64>) {
        self.state().room = bytes;
    }

    /// A disk with what is left after the power went: what was synced, and of the rest any part, in any
    /// order, down to sectors.
    pub(crate) fn after_the_loss(&self, random: &mut Random) -> Self {
        let state = self.state();
        let mut left = state.synced.clone();
        for write in &state.pending {
            match (write, random.below(4)) {
                (_, 0) => (),
                (Write::Bytes { at, bytes }, 1) => {
                    for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                        if random.chance(500) {
                            put(&mut left, at + index * SECTOR, sector);
                        }
                    }
                }
                (Write::Bytes { at, bytes }, _) => put(&mut left, *at, bytes),
                (Write::Length(length), _) => left.resize(*length, 0),
            }
        }
        let state = State { seen: left.clone(), synced: left, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Takes what is to be done, unless the power is gone.
    fn operate(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.power_until.is_some_and(|until| state.operations >= until) {
            return Err(io::Error::other("the power is gone"));
        }
        state.operations += 1;
        Ok(state)
    }
}

fn put(into: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if into.len() < end {
        into.resize(end, 0);
    }
    into[at..end].copy_from_slice(bytes);
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        let state = self.state();
        let found = state.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.operate()?;
        if state.room.is_some_and(|room| len > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let length = usize::try_from(len).unwrap();
        state.seen.resize(length, 0);
        state.pending.push(Write::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.operate()?;
        for write in std::mem::take(&mut state.pending) {
            match write {
                Write::Bytes { at, bytes } => put(&mut state.synced, at, &bytes),
                Write::Length(length) => state.synced.resize(length, 0),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.operate()?;
        let at = usize::try_from(offset).unwrap();
        put(&mut state.seen, at, data);
        state.pending.push(Write::Bytes { at, bytes: data.to_vec() });
        Ok(())
    }
}
