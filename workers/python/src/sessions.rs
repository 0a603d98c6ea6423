//! Which session is in which slot.

use std::collections::HashMap;

use envmill_protocol::{Generation, Slot, openenv::Expect};

/// A session that its slot has not given up.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its number, which no other session ever has.
    pub(crate) number: u32,
    /// The process that holds it.
    pub(crate) process: usize,
    /// The slot's last command.
    pub(crate) generation: Generation,
    /// What the outstanding command is, if any.
    pub(crate) outstanding: Option<Outstanding>,
    /// Steps since the last reset.
    pub(crate) steps: u64,
}

/// The command that a session has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outstanding {
    Reset,
    Step,
    State,
    ToolCall,
}

impl Outstanding {
    pub(crate) const fn expect(self) -> Expect {
        match self {
            Self::Reset | Self::Step => Expect::Observation,
            Self::State => Expect::State,
            Self::ToolCall => Expect::Mcp,
        }
    }
}

/// All sessions, by slot and by number.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    slots: Vec<Option<Session>>,
    numbers: HashMap<u32, Slot>,
    next: u32,
}

impl Sessions {
    pub(crate) fn at(&mut self, slot: Slot) -> Option<&mut Session> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }

    /// The slot of a session that was not given up.
    pub(crate) fn slot_of(&self, number: u32) -> Option<Slot> {
        self.numbers.get(&number).copied()
    }

    /// A new session in a free slot; its number.
    pub(crate) fn open(&mut self, slot: Slot, process: usize, generation: Generation) -> u32 {
        let index = slot.0 as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        // After four thousand million sessions numbers come again; those in use are passed over.
        while self.numbers.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = number.wrapping_add(1);
        self.slots[index] =
            Some(Session { number, process, generation, outstanding: None, steps: 0 });
        self.numbers.insert(number, slot);
        number
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Session> {
        let session = self.slots.get_mut(slot.0 as usize)?.take()?;
        self.numbers.remove(&session.number);
        Some(session)
    }

    /// The slots of a process's sessions.
    pub(crate) fn of_process(&self, process: usize) -> Vec<Slot> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, session)| session.as_ref().is_some_and(|it| it.process == process))
            .map(|(index, _)| Slot(index as u32))
            .collect()
    }
}
