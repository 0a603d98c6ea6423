//! What a fixed column is made of.

/// The type of a fixed column's elements, as its code in a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DType {
    /// Unsigned, 1 byte.
    U8 = 1,
    /// Signed, 1 byte.
    I8 = 2,
    /// Unsigned, 2 bytes.
    U16 = 3,
    /// Signed, 2 bytes.
    I16 = 4,
    /// Unsigned, 4 bytes.
    U32 = 5,
    /// Signed, 4 bytes.
    I32 = 6,
    /// Unsigned, 8 bytes.
    U64 = 7,
    /// Signed, 8 bytes.
    I64 = 8,
    /// IEEE 754 single precision, 4 bytes.
    F32 = 9,
    /// IEEE 754 double precision, 8 bytes.
    F64 = 10,
    /// 0 for false and 1 for true, 1 byte. Read and written as `u8`: a peer may write other values,
    /// and it is the reader's part to say what they mean.
    Bool = 11,
}

impl DType {
    const ALL: [Self; 11] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::U64,
        Self::I64,
        Self::F32,
        Self::F64,
        Self::Bool,
    ];

    /// How many bytes one element takes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.code() == code)
    }

    /// Whether a column of this type is accessed as a slice of `T`.
    pub(crate) fn holds<T: Element>(self) -> bool {
        self == T::DTYPE || (self == Self::Bool && T::DTYPE == DType::U8)
    }
}

/// A Rust type that a fixed column is accessed as: a number without padding, valid for all bits.
///
/// Sealed: shared memory is read as these types without looking at the values.
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + 'static {
    /// The type's code.
    const DTYPE: DType;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($type:ty => $dtype:ident),* $(,)?) => {$(
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
        }
    )*};
}

elements! {
    u8 => U8,
    i8 => I8,
    u16 => U16,
    i16 => I16,
    u32 => U32,
    i32 => I32,
    u64 => U64,
    i64 => I64,
    f32 => F32,
    f64 => F64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_and_no_other() {
        for code in 0..=u8::MAX {
            match DType::from_code(code) {
                Some(dtype) => assert_eq!(dtype.code(), code),
                None => assert!(code == 0 || code > 11),
            }
        }
    }
}
