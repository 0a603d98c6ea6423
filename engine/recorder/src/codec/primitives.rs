//! Numbers, texts, bytes, lists and options.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use envmill_protocol::Observation;

use super::{Decode, Encode, Malformed, Source};

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Encode for $number {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }

        impl Decode for $number {
            const BYTES_MIN: usize = size_of::<Self>();

            fn decode(from: &mut Source) -> Result<Self, Malformed> {
                Ok(Self::from_le_bytes(from.array()?))
            }
        }
    )*};
}

// Floats travel by their bits: what was a NaN stays the same one.
numbers!(u8 u16 u32 u64 i32 f32 f64);

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Decode for bool {
    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        match u8::decode(from)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Malformed::Tag(other)),
        }
    }
}

/// A length: a frame is smaller than 4 GiB, and what could not be written is never read back.
fn encode_length(length: usize, out: &mut Vec<u8>) {
    u32::try_from(length).unwrap_or(u32::MAX).encode(out);
}

fn decode_length(bytes_min: usize, from: &mut Source) -> Result<usize, Malformed> {
    let length = usize::try_from(u32::decode(from)?).map_err(|_| Malformed::Length)?;
    if length > from.left() / bytes_min.max(1) {
        return Err(Malformed::Length);
    }
    Ok(length)
}

impl Encode for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        out.extend_from_slice(self);
    }
}

impl Decode for Bytes {
    const BYTES_MIN: usize = 4;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        let length = decode_length(1, from)?;
        from.take(length)
    }
}

/// As text: what the numbers of one become is decided by them.
impl Encode for Observation {
    fn encode(&self, out: &mut Vec<u8>) {
        self.text().encode(out);
    }
}

impl Decode for Observation {
    const BYTES_MIN: usize = Bytes::BYTES_MIN;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        Bytes::decode(from).map(Self::from)
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }
}

impl Decode for String {
    const BYTES_MIN: usize = 4;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        let text = Bytes::decode(from)?;
        str::from_utf8(&text).map(str::to_owned).map_err(|_| Malformed::Utf8)
    }
}

impl<T: Encode> Encode for [T] {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        for item in self {
            item.encode(out);
        }
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

/// Items are allocated as they come: one in memory may be many times as large as in the file.
impl<T: Decode> Decode for Vec<T> {
    const BYTES_MIN: usize = 4;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        let length = decode_length(T::BYTES_MIN, from)?;
        let mut items = Self::new();
        for _ in 0..length {
            items.push(T::decode(from)?);
        }
        Ok(items)
    }
}

impl<K: Encode, V: Encode> Encode for BTreeMap<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_length(self.len(), out);
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }
}

impl<K: Decode + Ord, V: Decode> Decode for BTreeMap<K, V> {
    const BYTES_MIN: usize = 4;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        Vec::<(K, V)>::decode(from).map(|entries| entries.into_iter().collect())
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        bool::decode(from)?.then(|| T::decode(from)).transpose()
    }
}

impl<T: Encode, E: Encode> Encode for Result<T, E> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_ok().encode(out);
        match self {
            Ok(value) => value.encode(out),
            Err(error) => error.encode(out),
        }
    }
}

impl<T: Decode, E: Decode> Decode for Result<T, E> {
    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        if bool::decode(from)? { T::decode(from).map(Ok) } else { E::decode(from).map(Err) }
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<T: Decode> Decode for Box<T> {
    const BYTES_MIN: usize = T::BYTES_MIN;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        T::decode(from).map(Self::new)
    }
}

impl<T: Encode> Encode for Arc<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<T: Decode> Decode for Arc<T> {
    const BYTES_MIN: usize = T::BYTES_MIN;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        T::decode(from).map(Self::new)
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

impl<A: Decode, B: Decode> Decode for (A, B) {
    const BYTES_MIN: usize = A::BYTES_MIN + B::BYTES_MIN;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        Ok((A::decode(from)?, B::decode(from)?))
    }
}

impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<const N: usize> Decode for [u8; N] {
    const BYTES_MIN: usize = N;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        from.array()
    }
}

impl Encode for Duration {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_secs().encode(out);
        self.subsec_nanos().encode(out);
    }
}

impl Decode for Duration {
    const BYTES_MIN: usize = 12;

    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        let (seconds, nanos) = (u64::decode(from)?, u32::decode(from)?);
        // More would carry over into the seconds, which may overflow.
        if nanos >= 1_000_000_000 {
            return Err(Malformed::Length);
        }
        Ok(Self::new(seconds, nanos))
    }
}
