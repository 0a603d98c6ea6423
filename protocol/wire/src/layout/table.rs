//! From an image to its arrays and its record.

use std::ops::Range;

use bytes::Bytes;
use prost::{DecodeError, Message as _};

use super::format::{
    ALIGN, ARRAYS_MAX, ArrayKind, DIMENSIONS_MAX, DTYPE_BYTES_MAX, ENTRY_BYTES, HEADER_BYTES,
    MAGIC, NAME_BYTES_MAX, VERSION, fits, u32_at, u64_at,
};
use crate::Trajectory;

/// Where an image's arrays are: its header and table, checked and kept apart from it, so that nothing of
/// what another process may be writing is looked at twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    arrays: Vec<Array>,
    rest: Range<usize>,
}

/// An array of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// What it holds.
    pub kind: ArrayKind,
    /// Its name: that of the field, or the blob's own.
    pub name: String,
    /// Element type, in numpy's spelling (`uint32`, `float32`); a blob's may be anything.
    pub dtype: String,
    /// Its shape, row-major.
    pub shape: Vec<u64>,
    /// Where its bytes are in the image, little-endian; begins at a multiple of 64.
    pub range: Range<usize>,
}

/// Why bytes are no image that this version understands. Whoever wrote them is broken.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// They do not begin as one does.
    #[error("it is no trajectory's image")]
    Magic,
    /// A version that is not known here.
    #[error("the image's version is {0}; this is for version {VERSION}")]
    Version(u32),
    /// A part does not lie within the image, or two parts contradict each other.
    #[error("the image is broken: {0}")]
    Broken(&'static str),
    /// The rest is no message.
    #[error("the rest of the record cannot be decoded")]
    Rest(#[from] DecodeError),
}

impl Table {
    /// Reads the header and the table of an image of `length` bytes through `copy`, which fills a buffer
    /// from an offset of the image on. Tags that this version does not know are left out.
    ///
    /// # Errors
    ///
    /// It is none, or something of it does not lie within it.
    pub fn read(length: usize, mut copy: impl FnMut(usize, &mut [u8])) -> Result<Self, TableError> {
        if length < HEADER_BYTES {
            return Err(TableError::Magic);
        }
        let mut header = [0; HEADER_BYTES];
        copy(0, &mut header);
        if header[..8] != MAGIC {
            return Err(TableError::Magic);
        }
        let version = u32_at(&header, 8);
        if version != VERSION {
            return Err(TableError::Version(version));
        }
        let entries = u32_at(&header, 12) as usize;
        if entries > ARRAYS_MAX {
            return Err(TableError::Broken("it has too many arrays"));
        }
        if u64_at(&header, 16) != length as u64 {
            return Err(TableError::Broken("it has another length than it says"));
        }
        let within = |offset: u64, bytes: u64| {
            let start = usize::try_from(offset).ok()?;
            let end = start.checked_add(usize::try_from(bytes).ok()?)?;
            (end <= length).then_some(start..end)
        };
        let rest = within(u64_at(&header, 24), u64_at(&header, 32))
            .ok_or(TableError::Broken("its rest lies outside"))?;
        within(HEADER_BYTES as u64, (entries * ENTRY_BYTES) as u64)
            .ok_or(TableError::Broken("its table lies outside"))?;
        let mut table = vec![0; entries * ENTRY_BYTES];
        copy(HEADER_BYTES, &mut table);
        let mut arrays = Vec::with_capacity(entries);
        let mut text = |offset: u32, bytes: u32, most: usize| {
            let range = within(offset.into(), bytes.into()).filter(|range| range.len() <= most)?;
            let mut text = vec![0; range.len()];
            copy(range.start, &mut text);
            String::from_utf8(text).ok()
        };
        for entry in table.chunks_exact(ENTRY_BYTES) {
            let Some(kind) = ArrayKind::from_tag(u32_at(entry, 0), u32_at(entry, 40)) else {
                continue;
            };
            let dimensions = u32_at(entry, 4) as usize;
            if dimensions > DIMENSIONS_MAX {
                return Err(TableError::Broken("an array has too many dimensions"));
            }
            let range = within(u64_at(entry, 8), u64_at(entry, 16))
                .filter(|range| range.start.is_multiple_of(ALIGN))
                .ok_or(TableError::Broken("an array lies outside, or is not aligned"))?;
            let name = text(u32_at(entry, 24), u32_at(entry, 28), NAME_BYTES_MAX);
            let dtype = text(u32_at(entry, 32), u32_at(entry, 36), DTYPE_BYTES_MAX);
            let (Some(name), Some(dtype)) = (name, dtype) else {
                return Err(TableError::Broken("an array has no name"));
            };
            let shape: Vec<u64> =
                (0..dimensions).map(|dimension| u64_at(entry, 64 + 8 * dimension)).collect();
            let is_its = kind.fixed().is_none_or(|(_, its)| its == dtype && dimensions == 1);
            if !is_its || !fits(&dtype, &shape, range.len() as u64) {
                return Err(TableError::Broken("an array has another size than its shape"));
            }
            arrays.push(Array { kind, name, dtype, shape, range });
        }
        Ok(Self { arrays, rest })
    }

    /// The arrays, in the order of the table.
    #[must_use]
    pub fn arrays(&self) -> &[Array] {
        &self.arrays
    }

    /// The array of this kind, if the record has it.
    #[must_use]
    pub fn array(&self, kind: ArrayKind) -> Option<&Array> {
        self.arrays.iter().find(|array| array.kind == kind)
    }

    /// The record without its arrays; `copy` gives the bytes of a range of the image.
    ///
    /// # Errors
    ///
    /// The rest is no message.
    pub fn rest(&self, copy: impl FnOnce(Range<usize>) -> Bytes) -> Result<Trajectory, TableError> {
        Ok(Trajectory::decode(copy(self.rest.clone()))?)
    }

    /// The whole record, with its arrays where they belong; `copy` gives the bytes of a range of the
    /// image.
    ///
    /// # Errors
    ///
    /// The rest is no message, or has no place for an array.
    pub fn trajectory(
        &self,
        mut copy: impl FnMut(Range<usize>) -> Bytes,
    ) -> Result<Trajectory, TableError> {
        let mut record = self.rest(&mut copy)?;
        for array in &self.arrays {
            if matches!(array.kind, ArrayKind::StepRewards | ArrayKind::StepRewardGiven) {
                // The steps have them.
                continue;
            }
            let data = copy(array.range.clone());
            let tokens = &mut record.tokens;
            match array.kind {
                ArrayKind::TokenIds => {
                    tokens.get_or_insert_default().token_ids = words(&data, u32::from_le_bytes);
                }
                ArrayKind::Logprobs => {
                    tokens.get_or_insert_default().logprobs = words(&data, f32::from_le_bytes);
                }
                ArrayKind::LossMask => tokens.get_or_insert_default().loss_mask = data,
                ArrayKind::Blob(index) => {
                    let blob = record.blobs.get_mut(index as usize);
                    blob.ok_or(TableError::Broken("it has no blob for an array"))?.data = data;
                }
                ArrayKind::StepRewards | ArrayKind::StepRewardGiven => {}
            }
        }
        Ok(record)
    }
}

fn words<T>(data: &[u8], word: impl Fn([u8; 4]) -> T) -> Vec<T> {
    data.as_chunks().0.iter().map(|bytes| word(*bytes)).collect()
}
