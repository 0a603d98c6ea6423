//! Arrays of numbers, and their JSON.

use std::{io::Write as _, sync::Arc};

use bytes::Bytes;

/// The type of an array's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// Unsigned, 1 byte.
    U8,
    /// Signed, 1 byte.
    I8,
    /// Unsigned, 2 bytes.
    U16,
    /// Signed, 2 bytes.
    I16,
    /// Unsigned, 4 bytes.
    U32,
    /// Signed, 4 bytes.
    I32,
    /// Unsigned, 8 bytes.
    U64,
    /// Signed, 8 bytes.
    I64,
    /// IEEE 754 single precision, 4 bytes.
    F32,
    /// IEEE 754 double precision, 8 bytes.
    F64,
    /// 0 for false and anything else for true, 1 byte.
    Bool,
}

/// An array of numbers, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// What its elements are.
    pub dtype: DType,
    /// Its extents; none for a single number.
    pub shape: Arc<[u32]>,
    /// The elements, little-endian; as many as `shape` says, or the array prints as what there is.
    pub data: Bytes,
}

impl Numbers {
    /// Appends it as JSON: nested arrays, or one number. What is no number (NaN, infinity) is `null`, as on
    /// OpenEnv's wire.
    pub fn print(&self, out: &mut Vec<u8>) {
        macro_rules! print {
            ($element:ty) => {
                print_array::<$element>(&self.data, &self.shape, out)
            };
        }
        match self.dtype {
            DType::U8 => print!(u8),
            DType::I8 => print!(i8),
            DType::U16 => print!(u16),
            DType::I16 => print!(i16),
            DType::U32 => print!(u32),
            DType::I32 => print!(i32),
            DType::U64 => print!(u64),
            DType::I64 => print!(i64),
            DType::F32 => print!(f32),
            DType::F64 => print!(f64),
            DType::Bool => print!(bool),
        }
    }
}

fn print_array<T: Print>(data: &[u8], shape: &[u32], out: &mut Vec<u8>) {
    let Some((&extent, rest)) = shape.split_first() else {
        return T::print_list(data.get(..T::BYTES).unwrap_or_default(), out);
    };
    out.push(b'[');
    if rest.is_empty() {
        T::print_list(data, out);
    } else {
        let part = data.len() / (extent as usize).max(1);
        for (index, part) in data.chunks(part.max(1)).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            print_array::<T>(part, rest, out);
        }
    }
    out.push(b']');
}

trait Print {
    const BYTES: usize;

    /// Elements, with commas between them.
    fn print_list(data: &[u8], out: &mut Vec<u8>);
}

/// Each byte's number with a comma behind it, and how long that is.
const BYTES: [([u8; 4], u8); 256] = {
    let mut all = [([0; 4], 0); 256];
    let mut number = 0;
    while number < 256 {
        let digits = [number / 100, number / 10 % 10, number % 10];
        let skipped = if number < 10 { 2 } else { (number < 100) as usize };
        let mut text = [b','; 4];
        let mut at = skipped;
        while at < 3 {
            text[at - skipped] = b'0' + digits[at] as u8;
            at += 1;
        }
        all[number] = (text, 4 - skipped as u8);
        number += 1;
    }
    all
};

impl Print for u8 {
    const BYTES: usize = 1;

    /// Pixels, mostly, and many of them: four bytes are written for each, and the next is put where its
    /// text ends.
    fn print_list(data: &[u8], out: &mut Vec<u8>) {
        let mut at = out.len();
        out.resize(at + 4 * data.len(), 0);
        for number in data {
            let (text, length) = &BYTES[usize::from(*number)];
            if let Some(place) = out.get_mut(at..at + 4) {
                place.copy_from_slice(text);
            }
            at += usize::from(*length);
        }
        // Without the last comma.
        out.truncate(at - usize::from(!data.is_empty()));
    }
}

impl Print for bool {
    const BYTES: usize = 1;

    fn print_list(data: &[u8], out: &mut Vec<u8>) {
        for (index, byte) in data.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(if *byte == 0 { b"false" } else { b"true" });
        }
    }
}

macro_rules! print {
    ($($element:ty: $put:expr;)*) => { $(impl Print for $element {
        const BYTES: usize = size_of::<Self>();

        fn print_list(data: &[u8], out: &mut Vec<u8>) {
            for (index, bytes) in data.as_chunks().0.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                let put: fn(&mut Vec<u8>, Self) = $put;
                put(out, Self::from_le_bytes(*bytes));
            }
        }
    })* };
}

// A vector takes all that is written. Of fractions the shortest text that reads as the same number.
print! {
    i8: |out, it| drop(write!(out, "{it}"));
    u16: |out, it| drop(write!(out, "{it}"));
    i16: |out, it| drop(write!(out, "{it}"));
    u32: |out, it| drop(write!(out, "{it}"));
    i32: |out, it| drop(write!(out, "{it}"));
    u64: |out, it| drop(write!(out, "{it}"));
    i64: |out, it| drop(write!(out, "{it}"));
    f32: |out, it| crate::json_text::put(out, &it);
    f64: |out, it| crate::json_text::put(out, &it);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(dtype: DType, shape: &[u32], data: impl Into<Bytes>) -> String {
        let mut out = Vec::new();
        Numbers { dtype, shape: shape.into(), data: data.into() }.print(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn bytes<const N: usize, T>(numbers: &[T], bytes_of: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
        numbers.iter().flat_map(bytes_of).collect()
    }

    #[test]
    fn arrays_are_nested_like_their_shape() {
        let data = bytes(&[0.1_f32, 2.0, f32::NAN, -1e-9], |it| it.to_le_bytes());
        assert_eq!(printed(DType::F32, &[2, 2], data.clone()), "[[0.1,2.0],[null,-1e-9]]");
        assert_eq!(printed(DType::F32, &[1, 4, 1], data), "[[[0.1],[2.0],[null],[-1e-9]]]");
        assert_eq!(printed(DType::Bool, &[], vec![2]), "true");
        assert_eq!(printed(DType::Bool, &[2], vec![0, 1]), "[false,true]");
        let data = bytes(&[i64::MIN, 0, 7], |it| it.to_le_bytes());
        assert_eq!(printed(DType::I64, &[3], data), format!("[{},0,7]", i64::MIN));
        assert_eq!(printed(DType::I8, &[2], vec![255, 1]), "[-1,1]");
        let data = bytes(&[u16::MAX, 3], |it| it.to_le_bytes());
        assert_eq!(printed(DType::U16, &[2], data), "[65535,3]");
    }

    #[test]
    fn pixels_are_printed_one_and_all() {
        let all: Vec<u8> = (0..=255).collect();
        let rows: Vec<&[u8]> = all.chunks(128).collect();
        let expected = serde_json::json!(rows).to_string();
        assert_eq!(printed(DType::U8, &[2, 128], all.clone()), expected);
        assert_eq!(printed(DType::U8, &[], vec![7]), "7");
    }

    #[test]
    fn what_does_not_fit_its_shape_is_printed_all_the_same() {
        assert_eq!(printed(DType::U8, &[0], vec![]), "[]");
        assert_eq!(printed(DType::U8, &[2, 2], vec![1]), "[[1]]");
        assert_eq!(printed(DType::F64, &[2], vec![1, 2, 3]), "[]");
        assert_eq!(printed(DType::F64, &[], vec![]), "");
    }
}
