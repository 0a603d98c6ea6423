//! The bytes of an image's header and table. `docs/trajectory-layout.md` says the same in prose.

pub(super) const MAGIC: [u8; 8] = *b"ENVMTRAJ";
pub(super) const VERSION: u32 = 1;

/// Arrays begin at multiples of this: a cache line.
pub const ALIGN: usize = 64;

/// Where an image begins in a record of a log: records lie 16 bytes behind a multiple of 64.
pub const IMAGE_OFFSET: usize = 48;

/// Bytes of the header, which the table follows.
pub(super) const HEADER_BYTES: usize = 64;
/// Bytes of an entry of the table.
pub(super) const ENTRY_BYTES: usize = 128;
/// The most arrays; blobs beyond stay in the message.
pub(super) const ARRAYS_MAX: usize = 1024;
/// The most dimensions of an array.
pub(super) const DIMENSIONS_MAX: usize = 8;
/// The longest name of a blob that is taken out of the message.
pub(super) const NAME_BYTES_MAX: usize = 4096;
/// The longest name of an element type.
pub(super) const DTYPE_BYTES_MAX: usize = 64;

/// What an array holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArrayKind {
    /// The conversation's tokens: `uint32`, shape `[S]`.
    TokenIds,
    /// Their natural logarithms, 0 where not sampled: `float32`, shape `[S]`.
    Logprobs,
    /// 1 where a token was sampled by the policy and is to be trained on: `uint8`, shape `[S]`.
    LossMask,
    /// The reward of each step, NaN where the environment gave none: `float64`, shape `[T]`.
    StepRewards,
    /// 1 where the environment gave a reward: `uint8`, shape `[T]`.
    StepRewardGiven,
    /// The data of the record's blob with this index.
    Blob(u32),
}

impl ArrayKind {
    pub(super) const fn tag(self) -> u32 {
        match self {
            Self::TokenIds => 1,
            Self::Logprobs => 2,
            Self::LossMask => 3,
            Self::StepRewards => 4,
            Self::StepRewardGiven => 5,
            Self::Blob(_) => 16,
        }
    }

    pub(super) const fn index(self) -> u32 {
        match self {
            Self::Blob(index) => index,
            _ => 0,
        }
    }

    /// `None` for a tag that this version does not know.
    pub(super) const fn from_tag(tag: u32, index: u32) -> Option<Self> {
        Some(match tag {
            1 => Self::TokenIds,
            2 => Self::Logprobs,
            3 => Self::LossMask,
            4 => Self::StepRewards,
            5 => Self::StepRewardGiven,
            16 => Self::Blob(index),
            _ => return None,
        })
    }

    /// The name and the element type of an array that every record may have; a blob brings its own.
    pub(super) const fn fixed(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::TokenIds => ("token_ids", "uint32"),
            Self::Logprobs => ("logprobs", "float32"),
            Self::LossMask => ("loss_mask", "uint8"),
            Self::StepRewards => ("step_rewards", "float64"),
            Self::StepRewardGiven => ("step_reward_given", "uint8"),
            Self::Blob(_) => return None,
        })
    }
}

/// Bytes of one element of a type that numpy calls so; `None` for one that is not known here.
#[must_use]
pub fn element_bytes(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "bool" | "uint8" | "int8" => 1,
        "uint16" | "int16" | "float16" => 2,
        "uint32" | "int32" | "float32" => 4,
        "uint64" | "int64" | "float64" | "complex64" => 8,
        "complex128" => 16,
        _ => return None,
    })
}

/// Whether an array of this type and shape has so many bytes; of an unknown type any may.
pub(super) fn fits(dtype: &str, shape: &[u64], bytes: u64) -> bool {
    let elements = shape.iter().try_fold(1_u64, |product, &length| product.checked_mul(length));
    match (element_bytes(dtype), elements) {
        (Some(size), Some(elements)) => elements.checked_mul(size) == Some(bytes),
        (Some(_), None) => false,
        (None, _) => true,
    }
}

pub(super) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut array = [0; 4];
    array.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(array)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut array = [0; 8];
    array.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(array)
}
