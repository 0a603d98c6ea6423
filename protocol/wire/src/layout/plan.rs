//! From an encoded record to its image.

use std::ops::Range;

use bytes::Bytes;

use super::{
    fields::{Field, Fields, Kind, NoMessage, put_key},
    format::{
        ALIGN, ARRAYS_MAX, ArrayKind, DIMENSIONS_MAX, DTYPE_BYTES_MAX, ENTRY_BYTES, HEADER_BYTES,
        MAGIC, NAME_BYTES_MAX, VERSION, fits, put_u32, put_u64,
    },
};

/// The fields of messages that are looked at, by the messages' names.
mod number {
    pub(super) mod trajectory {
        pub(crate) const STEPS: u64 = 15;
        pub(crate) const TOKENS: u64 = 19;
        pub(crate) const BLOBS: u64 = 24;
    }
    pub(super) mod tokens {
        pub(crate) const TOKEN_IDS: u64 = 1;
        pub(crate) const LOSS_MASK: u64 = 3;
        pub(crate) const LOGPROBS: u64 = 4;
    }
    pub(super) mod step {
        pub(crate) const OBSERVED: u64 = 2;
    }
    pub(super) mod observed {
        pub(crate) const REWARD: u64 = 2;
    }
    pub(super) mod blob {
        pub(crate) const NAME: u64 = 1;
        pub(crate) const DTYPE: u64 = 2;
        pub(crate) const SHAPE: u64 = 3;
        pub(crate) const DATA: u64 = 4;
    }
}

/// Where everything of an encoded record goes in its image. Making it reads the record's keys and
/// lengths, and copies nothing but its steps' rewards.
#[derive(Clone, Debug)]
pub struct Plan {
    payload: Bytes,
    arrays: Vec<Planned>,
    rest: Vec<Source>,
    bytes: usize,
}

/// Why a record has no image: send it as it is. The engine's own records all have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The bytes are no message.
    #[error("it is no encoded message")]
    NoMessage,
    /// It is a message, but not encoded as the engine does: a list is in several pieces.
    #[error("a list of it is not in one piece")]
    Pieces,
    /// Its image would be larger than addresses reach.
    #[error("it is too large")]
    TooLarge,
}

impl From<NoMessage> for PlanError {
    fn from(_: NoMessage) -> Self {
        Self::NoMessage
    }
}

/// Bytes that go into the image.
#[derive(Clone, Debug)]
enum Source {
    Payload(Range<usize>),
    Own(Vec<u8>),
}

impl Source {
    fn bytes<'a>(&'a self, payload: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Payload(range) => &payload[range.clone()],
            Self::Own(bytes) => bytes,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Payload(range) => range.len(),
            Self::Own(bytes) => bytes.len(),
        }
    }
}

#[derive(Clone, Debug)]
struct Planned {
    kind: ArrayKind,
    name: Source,
    dtype: Source,
    shape: Vec<u64>,
    data: Source,
    /// Where its data begins in the image.
    at: usize,
}

impl Plan {
    /// The plan for an encoded [`Trajectory`](crate::Trajectory), which it keeps.
    ///
    /// # Errors
    ///
    /// It is none, or not encoded as the engine does.
    pub fn of(payload: Bytes) -> Result<Self, PlanError> {
        let mut making = Making { payload: &payload, arrays: Vec::new(), rest: Rest::default() };
        making.trajectory()?;
        let Making { mut arrays, rest: Rest { pieces: rest, .. }, .. } = making;
        let bytes = place(&mut arrays, &rest).ok_or(PlanError::TooLarge)?;
        Ok(Self { payload, arrays, rest, bytes })
    }

    /// Bytes of the image.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes the image, each byte of it once, to the beginning of `to`.
    ///
    /// # Panics
    ///
    /// If `to` has fewer than [`bytes`](Self::bytes).
    pub fn write(&self, to: &mut [u8]) {
        let to = &mut to[..self.bytes];
        let rest_bytes: usize = self.rest.iter().map(Source::len).sum();
        let rest_at = self.bytes - rest_bytes;
        let header = &mut to[..HEADER_BYTES];
        header.fill(0);
        header[..8].copy_from_slice(&MAGIC);
        put_u32(header, 8, VERSION);
        put_u32(header, 12, self.arrays.len() as u32);
        put_u64(header, 16, self.bytes as u64);
        put_u64(header, 24, rest_at as u64);
        put_u64(header, 32, rest_bytes as u64);
        let mut text = HEADER_BYTES + self.arrays.len() * ENTRY_BYTES;
        for (index, array) in self.arrays.iter().enumerate() {
            let at = HEADER_BYTES + index * ENTRY_BYTES;
            let (name, dtype) = (text, text + array.name.len());
            array.write_entry(&mut to[at..at + ENTRY_BYTES], name, dtype);
            text = self.put(to, &array.name, name);
            text = self.put(to, &array.dtype, text);
        }
        let mut end = text;
        for array in &self.arrays {
            to[end..array.at].fill(0);
            end = self.put(to, &array.data, array.at);
        }
        to[end..rest_at].fill(0);
        end = rest_at;
        for piece in &self.rest {
            end = self.put(to, piece, end);
        }
    }

    /// Puts bytes where they belong, and says where they end.
    fn put(&self, to: &mut [u8], source: &Source, at: usize) -> usize {
        let bytes = source.bytes(&self.payload);
        to[at..at + bytes.len()].copy_from_slice(bytes);
        at + bytes.len()
    }
}

impl Planned {
    fn write_entry(&self, to: &mut [u8], name: usize, dtype: usize) {
        to.fill(0);
        put_u32(to, 0, self.kind.tag());
        put_u32(to, 4, self.shape.len() as u32);
        put_u64(to, 8, self.at as u64);
        put_u64(to, 16, self.data.len() as u64);
        put_u32(to, 24, name as u32);
        put_u32(to, 28, self.name.len() as u32);
        put_u32(to, 32, dtype as u32);
        put_u32(to, 36, self.dtype.len() as u32);
        put_u32(to, 40, self.kind.index());
        for (dimension, &length) in self.shape.iter().enumerate() {
            put_u64(to, 64 + 8 * dimension, length);
        }
    }
}

/// Gives each array its place, and says how many bytes the image has.
fn place(arrays: &mut [Planned], rest: &[Source]) -> Option<usize> {
    let texts: usize = arrays.iter().map(|it| it.name.len() + it.dtype.len()).sum();
    let mut end = HEADER_BYTES + arrays.len() * ENTRY_BYTES + texts;
    for array in arrays {
        array.at = end.checked_next_multiple_of(ALIGN)?;
        end = array.at.checked_add(array.data.len())?;
    }
    let rest: usize = rest.iter().map(Source::len).sum();
    end.checked_next_multiple_of(ALIGN)?.checked_add(rest)
}

/// The message without its arrays, in pieces.
#[derive(Debug, Default)]
struct Rest {
    pieces: Vec<Source>,
}

impl Rest {
    /// Keeps a part of the payload; what follows on the piece before goes with it.
    fn keep(&mut self, part: Range<usize>) {
        match self.pieces.last_mut() {
            Some(Source::Payload(last)) if last.end == part.start => last.end = part.end,
            _ => self.pieces.push(Source::Payload(part)),
        }
    }

    /// Puts a message in place of one of which only some fields are kept.
    fn message(&mut self, number: u64, kept: Vec<Range<usize>>) {
        let mut key = Vec::with_capacity(16);
        put_key(&mut key, number, kept.iter().map(Range::len).sum());
        self.pieces.push(Source::Own(key));
        for part in kept {
            self.keep(part);
        }
    }
}

#[derive(Debug)]
struct Making<'a> {
    payload: &'a [u8],
    arrays: Vec<Planned>,
    rest: Rest,
}

impl Making<'_> {
    fn trajectory(&mut self) -> Result<(), PlanError> {
        let (mut rewards, mut given) = (Vec::new(), Vec::new());
        let (mut has_tokens, mut blobs) = (false, 0);
        // Tokens come before blobs in the table, whatever the order in the message.
        let mut blob_arrays = Vec::new();
        for field in Fields::new(self.payload, 0..self.payload.len()) {
            let field = field?;
            match (field.number, field.kind) {
                (number::trajectory::TOKENS, Kind::Bytes) => {
                    if std::mem::replace(&mut has_tokens, true) {
                        return Err(PlanError::Pieces);
                    }
                    self.tokens(&field)?;
                }
                (number::trajectory::BLOBS, Kind::Bytes) => {
                    blob_arrays.extend(self.blob(&field, blobs)?);
                    blobs += 1;
                }
                (number::trajectory::STEPS, Kind::Bytes) => {
                    let reward = self.reward(&field)?;
                    rewards.extend_from_slice(&reward.unwrap_or(f64::NAN).to_le_bytes());
                    given.push(reward.is_some().into());
                    self.rest.keep(field.whole);
                }
                _ => self.rest.keep(field.whole),
            }
        }
        let steps = given.len() as u64;
        if steps > 0 {
            self.fixed(ArrayKind::StepRewards, steps, Source::Own(rewards));
            self.fixed(ArrayKind::StepRewardGiven, steps, Source::Own(given));
        }
        self.arrays.append(&mut blob_arrays);
        Ok(())
    }

    fn fixed(&mut self, kind: ArrayKind, elements: u64, data: Source) {
        let Some((name, dtype)) = kind.fixed() else { return };
        let text = |text: &str| Source::Own(text.as_bytes().to_vec());
        let (name, dtype) = (text(name), text(dtype));
        self.arrays.push(Planned { kind, name, dtype, shape: vec![elements], data, at: 0 });
    }

    /// Takes the lists over tokens out of their message. Packed lists of fixed size are their elements,
    /// little-endian and in a row: what an array is.
    fn tokens(&mut self, message: &Field) -> Result<(), PlanError> {
        const LISTS: [(u64, ArrayKind, usize); 3] = [
            (number::tokens::TOKEN_IDS, ArrayKind::TokenIds, 4),
            (number::tokens::LOGPROBS, ArrayKind::Logprobs, 4),
            (number::tokens::LOSS_MASK, ArrayKind::LossMask, 1),
        ];
        let mut found: [Option<Range<usize>>; 3] = [None, None, None];
        let mut kept = Vec::new();
        for field in Fields::new(self.payload, message.value.clone()) {
            let field = field?;
            let Some(list) = LISTS.iter().position(|(number, ..)| *number == field.number) else {
                kept.push(field.whole);
                continue;
            };
            if field.kind != Kind::Bytes || found[list].replace(field.value).is_some() {
                return Err(PlanError::Pieces);
            }
        }
        for ((_, kind, size), data) in LISTS.into_iter().zip(found) {
            let Some(data) = data.filter(|data| !data.is_empty()) else { continue };
            if !data.len().is_multiple_of(size) {
                return Err(PlanError::NoMessage);
            }
            self.fixed(kind, (data.len() / size) as u64, Source::Payload(data));
        }
        self.rest.message(number::trajectory::TOKENS, kept);
        Ok(())
    }

    /// Takes the data of a blob out of its message, if that describes it well enough.
    fn blob(&mut self, message: &Field, index: u32) -> Result<Option<Planned>, PlanError> {
        let (mut name, mut dtype, mut data) = (0..0, 0..0, None);
        let (mut shape, mut kept) = (Vec::new(), Vec::new());
        for field in Fields::new(self.payload, message.value.clone()) {
            let field = field?;
            match (field.number, field.kind) {
                (number::blob::DATA, Kind::Bytes) => {
                    if data.replace(field.value).is_some() {
                        return Err(PlanError::Pieces);
                    }
                    continue;
                }
                (number::blob::NAME, Kind::Bytes) => name = field.value,
                (number::blob::DTYPE, Kind::Bytes) => dtype = field.value,
                (number::blob::SHAPE, Kind::Bytes | Kind::Varint) => {
                    varints(&self.payload[field.value], &mut shape)?;
                }
                _ => {}
            }
            kept.push(field.whole);
        }
        let data = data.filter(|data| !data.is_empty());
        let well_described = |data: &Range<usize>| {
            let texts = [&name, &dtype].map(|it| std::str::from_utf8(&self.payload[it.clone()]));
            let [Ok(_), Ok(dtype)] = texts else { return false };
            name.len() <= NAME_BYTES_MAX
                && dtype.len() <= DTYPE_BYTES_MAX
                && shape.len() <= DIMENSIONS_MAX
                && (index as usize) < ARRAYS_MAX - 5
                && fits(dtype, &shape, data.len() as u64)
        };
        let Some(data) = data.filter(well_described) else {
            self.rest.keep(message.whole.clone());
            return Ok(None);
        };
        self.rest.message(number::trajectory::BLOBS, kept);
        Ok(Some(Planned {
            kind: ArrayKind::Blob(index),
            name: Source::Payload(name),
            dtype: Source::Payload(dtype),
            shape,
            data: Source::Payload(data),
            at: 0,
        }))
    }

    fn reward(&self, step: &Field) -> Result<Option<f64>, PlanError> {
        let mut reward = None;
        for field in Fields::new(self.payload, step.value.clone()) {
            let field = field?;
            if (field.number, field.kind) != (number::step::OBSERVED, Kind::Bytes) {
                continue;
            }
            for field in Fields::new(self.payload, field.value) {
                let field = field?;
                if (field.number, field.kind) == (number::observed::REWARD, Kind::Fixed64) {
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(&self.payload[field.value]);
                    reward = Some(f64::from_le_bytes(bytes));
                }
            }
        }
        Ok(reward)
    }
}

/// Appends the numbers of a list.
fn varints(bytes: &[u8], to: &mut Vec<u64>) -> Result<(), PlanError> {
    let mut at = 0;
    while at < bytes.len() {
        let mut rest = &bytes[at..];
        let before = rest.len();
        let value = prost::encoding::decode_varint(&mut rest).map_err(|_| PlanError::NoMessage)?;
        at += before - rest.len();
        to.push(value);
    }
    Ok(())
}
