//! The fields of an encoded message, one after another, without decoding what is in them.

use std::ops::Range;

/// A field of a message, by its place in the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) kind: Kind,
    /// From its key to its end.
    pub(super) whole: Range<usize>,
    /// Its value, without key and length.
    pub(super) value: Range<usize>,
}

/// How a field is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Varint,
    Fixed64,
    Bytes,
    Fixed32,
}

/// Goes through the fields of the message that lies at a range of some bytes.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

/// It is no message, or one with groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoMessage;

impl<'a> Fields<'a> {
    /// The fields of the message at `range`, which lies within `bytes`.
    pub(super) fn new(bytes: &'a [u8], range: Range<usize>) -> Self {
        let end = range.end.min(bytes.len());
        Self { bytes: &bytes[..end], at: range.start.min(end), end }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn field(&mut self) -> Option<Field> {
        let from = self.at;
        let key = self.varint()?;
        let (kind, start, length) = match key & 7 {
            0 => {
                let start = self.at;
                self.varint()?;
                (Kind::Varint, start, self.at - start)
            }
            1 => (Kind::Fixed64, self.at, 8),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                (Kind::Bytes, self.at, length)
            }
            5 => (Kind::Fixed32, self.at, 4),
            _ => return None,
        };
        let end = start.checked_add(length).filter(|&end| end <= self.end)?;
        self.at = end;
        Some(Field { number: key >> 3, kind, whole: from..end, value: start..end })
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<Field, NoMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.at = self.end;
        }
        Some(field.ok_or(NoMessage))
    }
}

/// Puts the key of a field of bytes, and their number, behind `to`.
pub(super) fn put_key(to: &mut Vec<u8>, number: u64, bytes: usize) {
    put_varint(to, number << 3 | 2);
    put_varint(to, bytes as u64);
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_where_they_are() {
        let mut bytes = vec![0x08, 0x96, 0x01];
        put_key(&mut bytes, 19, 300);
        bytes.extend(vec![7; 300]);
        bytes.extend([0x0d, 1, 2, 3, 4, 0x11, 1, 2, 3, 4, 5, 6, 7, 8]);
        let found: Vec<_> = Fields::new(&bytes, 0..bytes.len()).map(Result::unwrap).collect();
        let shown: Vec<_> =
            found.iter().map(|it| (it.number, it.kind, it.whole.clone(), it.value.len())).collect();
        assert_eq!(
            shown,
            [
                (1, Kind::Varint, 0..3, 2),
                (19, Kind::Bytes, 3..307, 300),
                (1, Kind::Fixed32, 307..312, 4),
                (2, Kind::Fixed64, 312..321, 8),
            ]
        );
    }

    #[test]
    fn what_is_cut_or_no_message_is_told_once() {
        for bytes in [&[0x0a][..], &[0x0a, 5, 1], &[0x0b], &[0x80; 11], &[0x0d, 1], &[0x08]] {
            let found: Vec<_> = Fields::new(bytes, 0..bytes.len()).collect();
            assert_eq!(found, [Err(NoMessage)], "{bytes:?}");
        }
    }
}
