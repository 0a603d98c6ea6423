//! Records in memory that is shared with the engine.

use std::{
    fmt,
    ops::Range,
    os::fd::AsFd as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use envmill_ring::{
    Channel, Doorbell, Element, Lease, Limits, LogReader, LogStart, Message, Received, View,
};
use envmill_wire::{
    self as wire,
    layout::{Array, ArrayKind, IMAGE_OFFSET, Table},
    meeting::{READY, RELEASES, Welcome, greeting},
};

use crate::Error;

/// How long the engine may take to hand memory out.
const PATIENCE: Duration = Duration::from_secs(5);

/// The ring of one connection. The engine takes it back when this is dropped; records that are held stay.
#[derive(Debug)]
pub(crate) struct Memory {
    reader: LogReader,
    bell: Arc<Doorbell>,
    /// Open for as long as the ring is used.
    _channel: Channel,
}

impl Memory {
    /// Fetches a ring at the engine's door. Blocks, for a few seconds at most.
    pub(crate) fn fetch(socket: &Path, token: &[u8], ring_bytes: u64) -> Result<Self, String> {
        let wrong = |error: &dyn std::error::Error| error.to_string();
        let channel = Channel::connect(socket).map_err(|error| wrong(&error))?;
        if !channel.is_of_same_user().map_err(|error| wrong(&error))? {
            return Err("the socket is another user's".into());
        }
        let until = Instant::now() + PATIENCE;
        let mut message = Message::new();
        say(&channel, &greeting(token), &[])?;
        hear(&channel, &mut message, until)?;
        let welcome = Welcome::decode(message.bytes()).ok_or("the engine passes no log")?;
        let (Some(bell), Some(log), None) =
            (message.descriptors().pop(), message.descriptors().pop(), message.descriptors().pop())
        else {
            return Err("the engine passes no log".into());
        };
        let segment_bytes_max = ring_bytes.saturating_add(1 << 20);
        let limits = Limits { segment_bytes_max, ..Limits::default() };
        let start = LogStart { position: welcome.position, sequence: welcome.sequence };
        let reader = LogReader::open(log.as_fd(), start, &limits).map_err(|error| wrong(&error))?;
        say(&channel, RELEASES, &[reader.as_fd()])?;
        hear(&channel, &mut message, until)?;
        if message.bytes() != READY {
            return Err("the engine does not take the ring".into());
        }
        Ok(Self { reader, bell: Arc::new(Doorbell::from(bell)), _channel: channel })
    }

    /// The next record, which has this number.
    pub(crate) fn take(&mut self, sequence: u64) -> Result<InPlace, String> {
        let lease = self.reader.next_record().map_err(|error| error.to_string())?;
        let lease = lease.ok_or("it is not in the ring")?;
        if lease.sequence() != sequence {
            return Err(format!("{} lies in the ring in its place", lease.sequence()));
        }
        let held = Held { lease: Some(lease), bell: Arc::clone(&self.bell) };
        InPlace::new(held).map_err(|error| error.to_string())
    }
}

fn say(
    channel: &Channel,
    bytes: &[u8],
    descriptors: &[std::os::fd::BorrowedFd<'_>],
) -> Result<(), String> {
    match channel.send(bytes, descriptors) {
        Ok(true) => Ok(()),
        Ok(false) => Err("the engine does not listen".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn hear(channel: &Channel, message: &mut Message, until: Instant) -> Result<(), String> {
    match channel.receive_until(message, until).map_err(|error| error.to_string())? {
        Received::Message => Ok(()),
        Received::Closed => Err("the engine sends us away".into()),
        Received::Nothing => Err("the engine does not answer at its door".into()),
    }
}

/// A record of the ring. The engine is told when it is dropped, after it was given back.
struct Held {
    lease: Option<Lease>,
    bell: Arc<Doorbell>,
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.lease.take());
        // An engine that has gone needs no rings.
        let _ = self.bell.ring();
    }
}

/// The record of an episode in memory that is shared with the engine: its arrays are looked at where they
/// lie. It is given back when the last clone is dropped. While a ring is full nothing more comes through it, so
/// do not keep many for long: what comes then comes late, and on the connection. None of them needs the
/// connection that it came by.
#[derive(Clone)]
pub struct InPlace {
    held: Arc<Held>,
    table: Arc<Table>,
}

impl InPlace {
    fn new(held: Held) -> Result<Self, wire::layout::TableError> {
        let length = held.lease().map_or(0, |lease| lease.len().saturating_sub(IMAGE_OFFSET));
        let table = Table::read(length, |at, to| {
            // What cannot be copied stays as it is, and is no image.
            let _ = held.lease().map(|lease| lease.copy_to(IMAGE_OFFSET + at, to));
        })?;
        Ok(Self { held: Arc::new(held), table: Arc::new(table) })
    }

    /// The arrays that the record has: what the table of its image says.
    #[must_use]
    pub fn arrays(&self) -> &[Array] {
        self.table.arrays()
    }

    /// The elements of an array of this kind. `None` if the record has none, or they are no `T`.
    #[must_use]
    pub fn array<T: Element>(&self, kind: ArrayKind) -> Option<View<'_, T>> {
        let array = self.table.array(kind)?;
        if array.dtype != dtype::<T>() {
            return None;
        }
        let elements = array.range.len() / size_of::<T>();
        self.held.lease()?.view(IMAGE_OFFSET + array.range.start, elements).ok()
    }

    /// The address of the data of one of its [arrays](Self::arrays), for what is not Rust. It may be read
    /// for as long as this or a clone of it is there, by this process, and not be written.
    #[must_use]
    pub fn address(&self, array: &Array) -> Option<usize> {
        let Range { start, end } = array.range;
        self.held.lease()?.address(IMAGE_OFFSET + start, end.checked_sub(start)?).ok()
    }

    /// A copy of the data of one of its [arrays](Self::arrays).
    #[must_use]
    pub fn bytes(&self, array: &Array) -> Option<Bytes> {
        let Range { start, end } = array.range;
        self.held.lease()?.copy_range(IMAGE_OFFSET + start, end.checked_sub(start)?).ok()
    }

    /// The conversation's tokens, shape `[S]`; `None` where there are none.
    #[must_use]
    pub fn token_ids(&self) -> Option<View<'_, u32>> {
        self.array(ArrayKind::TokenIds)
    }

    /// Their natural logarithms, 0 where not sampled, shape `[S]`.
    #[must_use]
    pub fn logprobs(&self) -> Option<View<'_, f32>> {
        self.array(ArrayKind::Logprobs)
    }

    /// 1 where a token is to be trained on, shape `[S]`.
    #[must_use]
    pub fn loss_mask(&self) -> Option<View<'_, u8>> {
        self.array(ArrayKind::LossMask)
    }

    /// The reward of each step, NaN where there is none, shape `[T]`.
    #[must_use]
    pub fn step_rewards(&self) -> Option<View<'_, f64>> {
        self.array(ArrayKind::StepRewards)
    }

    /// 1 where a step has a reward, shape `[T]`.
    #[must_use]
    pub fn step_reward_given(&self) -> Option<View<'_, u8>> {
        self.array(ArrayKind::StepRewardGiven)
    }

    /// The whole record, copied.
    ///
    /// # Errors
    ///
    /// The engine has written something else there meanwhile.
    pub fn whole(&self) -> Result<wire::Trajectory, Error> {
        let whole = self.table.trajectory(|range| self.copy(range));
        whole.map_err(|error| Error::Nonsense(error.to_string()))
    }

    /// The record without its arrays, copied.
    pub(crate) fn rest(&self) -> Result<wire::Trajectory, Error> {
        let rest = self.table.rest(|range| self.copy(range));
        rest.map_err(|error| Error::Nonsense(error.to_string()))
    }

    fn copy(&self, range: Range<usize>) -> Bytes {
        let lease = self.held.lease();
        let copied = lease.map(|it| it.copy_range(IMAGE_OFFSET + range.start, range.len()));
        copied.and_then(Result::ok).unwrap_or_default()
    }
}

impl Held {
    fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }
}

/// Numpy's name of an element type.
fn dtype<T: Element>() -> &'static str {
    use envmill_ring::DType;
    match T::DTYPE {
        DType::U8 => "uint8",
        DType::I8 => "int8",
        DType::U16 => "uint16",
        DType::I16 => "int16",
        DType::U32 => "uint32",
        DType::I32 => "int32",
        DType::U64 => "uint64",
        DType::I64 => "int64",
        DType::F32 => "float32",
        DType::F64 => "float64",
        DType::Bool => "bool",
    }
}

/// Whether it is the same record in the same memory.
impl PartialEq for InPlace {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.held, &other.held)
    }
}

impl fmt::Debug for InPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sequence = self.held.lease().map(Lease::sequence);
        f.debug_struct("InPlace").field("sequence", &sequence).finish_non_exhaustive()
    }
}
