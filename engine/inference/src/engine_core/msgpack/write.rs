//! Appending to a buffer, each value in its shortest form.

pub(crate) fn nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

pub(crate) fn bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

pub(crate) fn float(out: &mut Vec<u8>, value: f64) {
    out.push(0xcb);
    out.extend_from_slice(&value.to_be_bytes());
}

#[allow(clippy::cast_possible_truncation, reason = "every arm is of the width it writes")]
pub(crate) fn uint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            let [high, low] = (value as u16).to_be_bytes();
            out.extend_from_slice(&[0xcd, high, low]);
        }
        0x1_0000..=0xffff_ffff => {
            let [a, b, c, d] = (value as u32).to_be_bytes();
            out.extend_from_slice(&[0xce, a, b, c, d]);
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// A string. Those longer than 4 GiB are not written by anything here.
#[allow(clippy::cast_possible_truncation, reason = "every arm is of the width it writes")]
pub(crate) fn str(out: &mut Vec<u8>, value: &str) {
    let len = value.len();
    match len {
        0..=31 => out.push(0xa0 | len as u8),
        32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdb);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(value.as_bytes());
}

/// The head of an array; its elements follow.
pub(crate) fn array(out: &mut Vec<u8>, len: usize) {
    head(out, len, 0x90, 0xdc);
}

/// The head of a map; its keys and values follow.
pub(crate) fn map(out: &mut Vec<u8>, len: usize) {
    head(out, len, 0x80, 0xde);
}

#[allow(clippy::cast_possible_truncation, reason = "every arm is of the width it writes")]
fn head(out: &mut Vec<u8>, len: usize, short: u8, long: u8) {
    match len {
        0..=15 => out.push(short | len as u8),
        16..=0xffff => {
            out.push(long);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(long + 1);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Reader, *};

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u64, real: f64, text in ".{0,300}", len in 0_usize..70_000) {
            let mut out = Vec::new();
            uint(&mut out, number);
            float(&mut out, real);
            str(&mut out, &text);
            array(&mut out, len);
            out.resize(out.len() + len, 0xc0);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.uint(), Ok(number));
            prop_assert_eq!(reader.float().unwrap().to_bits(), real.to_bits());
            prop_assert_eq!(reader.str(), Ok(text.as_bytes()));
            prop_assert_eq!(reader.array(), Ok(len));
            reader.skip_all(len).unwrap();
            prop_assert!(reader.is_empty());
        }
    }
}
