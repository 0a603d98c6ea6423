//! Reading in place.

/// What was read is not what was expected there, or ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expected} expected, {left} bytes before the end")]
pub(crate) struct Malformed {
    expected: &'static str,
    left: usize,
}

/// What is left of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    pub(crate) const fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed { expected, left: self.rest.len() }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn take(&mut self, len: usize, expected: &'static str) -> Result<&'a [u8], Malformed> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.malformed(expected));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], Malformed> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.malformed(expected));
        };
        self.rest = rest;
        Ok(*taken)
    }

    /// A big-endian number of `N` bytes, behind a marker.
    fn number<const N: usize>(&mut self, expected: &'static str) -> Result<u64, Malformed> {
        let mut wide = [0; 8];
        wide[8 - N..].copy_from_slice(&self.fixed::<N>(expected)?);
        Ok(u64::from_be_bytes(wide))
    }

    /// `true` if the next value was nil, which is then behind us.
    pub(crate) fn nil(&mut self) -> bool {
        let nil = self.peek() == Some(0xc0);
        if nil {
            self.rest = &self.rest[1..];
        }
        nil
    }

    /// Something countable. A count that cannot be true, as every element takes a byte, is no count.
    fn count(&self, count: u64, expected: &'static str) -> Result<usize, Malformed> {
        usize::try_from(count)
            .ok()
            .filter(|it| *it <= self.rest.len())
            .ok_or_else(|| self.malformed(expected))
    }

    pub(crate) fn array(&mut self) -> Result<usize, Malformed> {
        const EXPECTED: &str = "an array";
        let mut ahead = *self;
        let count = match ahead.fixed::<1>(EXPECTED)?[0] {
            marker @ 0x90..=0x9f => u64::from(marker & 0x0f),
            0xdc => ahead.number::<2>(EXPECTED)?,
            0xdd => ahead.number::<4>(EXPECTED)?,
            _ => return Err(self.malformed(EXPECTED)),
        };
        let count = ahead.count(count, EXPECTED)?;
        *self = ahead;
        Ok(count)
    }

    pub(crate) fn map(&mut self) -> Result<usize, Malformed> {
        const EXPECTED: &str = "a map";
        let mut ahead = *self;
        let count = match ahead.fixed::<1>(EXPECTED)?[0] {
            marker @ 0x80..=0x8f => u64::from(marker & 0x0f),
            0xde => ahead.number::<2>(EXPECTED)?,
            0xdf => ahead.number::<4>(EXPECTED)?,
            _ => return Err(self.malformed(EXPECTED)),
        };
        let count = ahead.count(count, EXPECTED)?;
        *self = ahead;
        Ok(count)
    }

    /// The bytes of a string. They are not looked at: most are only compared.
    pub(crate) fn str(&mut self) -> Result<&'a [u8], Malformed> {
        const EXPECTED: &str = "a string";
        let mut ahead = *self;
        let len = match ahead.fixed::<1>(EXPECTED)?[0] {
            marker @ 0xa0..=0xbf => u64::from(marker & 0x1f),
            0xd9 => ahead.number::<1>(EXPECTED)?,
            0xda => ahead.number::<2>(EXPECTED)?,
            0xdb => ahead.number::<4>(EXPECTED)?,
            _ => return Err(self.malformed(EXPECTED)),
        };
        let len = ahead.count(len, EXPECTED)?;
        let taken = ahead.take(len, EXPECTED)?;
        *self = ahead;
        Ok(taken)
    }

    /// True if the next value is a string.
    pub(crate) fn is_str(&self) -> bool {
        matches!(self.peek(), Some(0xa0..=0xbf | 0xd9..=0xdb))
    }

    /// A number that is not negative.
    pub(crate) fn uint(&mut self) -> Result<u64, Malformed> {
        const EXPECTED: &str = "a whole number";
        let mut ahead = *self;
        let number = match ahead.fixed::<1>(EXPECTED)?[0] {
            small @ 0..=0x7f => u64::from(small),
            0xcc => ahead.number::<1>(EXPECTED)?,
            0xcd => ahead.number::<2>(EXPECTED)?,
            0xce => ahead.number::<4>(EXPECTED)?,
            0xcf => ahead.number::<8>(EXPECTED)?,
            // Signed ones are taken too, where they are not negative.
            0xd0 => u64::from(ahead.fixed::<1>(EXPECTED)?[0]).min(0x80),
            0xd1 => ahead.number::<2>(EXPECTED)?,
            0xd2 => ahead.number::<4>(EXPECTED)?,
            0xd3 => ahead.number::<8>(EXPECTED)?,
            _ => return Err(self.malformed(EXPECTED)),
        };
        let negative = match self.peek() {
            Some(0xd0) => number > 0x7f,
            Some(0xd1) => number > 0x7fff,
            Some(0xd2) => number > 0x7fff_ffff,
            Some(0xd3) => i64::try_from(number).is_err(),
            _ => false,
        };
        if negative {
            return Err(self.malformed(EXPECTED));
        }
        *self = ahead;
        Ok(number)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        let before = *self;
        u32::try_from(self.uint()?).map_err(|_| before.malformed("a number of 32 bits"))
    }

    /// A number, whole or not.
    pub(crate) fn float(&mut self) -> Result<f64, Malformed> {
        const EXPECTED: &str = "a number";
        match self.peek() {
            Some(0xca) => {
                let mut ahead = *self;
                ahead.take(1, EXPECTED)?;
                let number = f32::from_be_bytes(ahead.fixed(EXPECTED)?);
                *self = ahead;
                Ok(f64::from(number))
            }
            Some(0xcb) => {
                let mut ahead = *self;
                ahead.take(1, EXPECTED)?;
                let number = f64::from_be_bytes(ahead.fixed(EXPECTED)?);
                *self = ahead;
                Ok(number)
            }
            // Counters are far below 2^53.
            _ => self.uint().map(|it| it as f64),
        }
    }

    /// An extension value: its type and its bytes.
    pub(crate) fn ext(&mut self) -> Result<(u8, &'a [u8]), Malformed> {
        const EXPECTED: &str = "an extension value";
        let mut ahead = *self;
        let len = match ahead.fixed::<1>(EXPECTED)?[0] {
            0xd4 => 1,
            0xd5 => 2,
            0xd6 => 4,
            0xd7 => 8,
            0xd8 => 16,
            0xc7 => ahead.number::<1>(EXPECTED)?,
            0xc8 => ahead.number::<2>(EXPECTED)?,
            0xc9 => ahead.number::<4>(EXPECTED)?,
            _ => return Err(self.malformed(EXPECTED)),
        };
        let len = ahead.count(len, EXPECTED)?;
        let kind = ahead.fixed::<1>(EXPECTED)?[0];
        let taken = ahead.take(len, EXPECTED)?;
        *self = ahead;
        Ok((kind, taken))
    }

    /// Goes behind the next value, whatever it is. Nesting is counted, not recursed into, so that no
    /// message is too deep.
    pub(crate) fn skip(&mut self) -> Result<(), Malformed> {
        const EXPECTED: &str = "a value";
        let mut values = 1_u64;
        while values > 0 {
            values -= 1;
            let len = match self.fixed::<1>(EXPECTED)?[0] {
                0..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => 0,
                0xcc | 0xd0 => 1,
                0xcd | 0xd1 | 0xd4 => 2,
                0xd5 => 3,
                0xca | 0xce | 0xd2 => 4,
                0xd6 => 5,
                0xcb | 0xcf | 0xd3 => 8,
                0xd7 => 9,
                0xd8 => 17,
                marker @ 0xa0..=0xbf => u64::from(marker & 0x1f),
                0xc4 | 0xd9 => self.number::<1>(EXPECTED)?,
                0xc5 | 0xda => self.number::<2>(EXPECTED)?,
                0xc6 | 0xdb => self.number::<4>(EXPECTED)?,
                0xc7 => self.number::<1>(EXPECTED)? + 1,
                0xc8 => self.number::<2>(EXPECTED)? + 1,
                0xc9 => self.number::<4>(EXPECTED)? + 1,
                marker @ 0x90..=0x9f => {
                    values += u64::from(marker & 0x0f);
                    0
                }
                marker @ 0x80..=0x8f => {
                    values += 2 * u64::from(marker & 0x0f);
                    0
                }
                // Every value takes a byte, and 32-bit counts of at most all bytes do not overflow.
                0xdc => {
                    values += self.number::<2>(EXPECTED)?;
                    0
                }
                0xdd => {
                    values += self.number::<4>(EXPECTED)?;
                    0
                }
                0xde => {
                    values += 2 * self.number::<2>(EXPECTED)?;
                    0
                }
                0xdf => {
                    values += 2 * self.number::<4>(EXPECTED)?;
                    0
                }
                // Never used.
                0xc1 => return Err(self.malformed(EXPECTED)),
            };
            let len = self.count(len, EXPECTED)?;
            self.take(len, EXPECTED)?;
            self.count(values, EXPECTED)?;
        }
        Ok(())
    }

    /// Goes behind so many values.
    pub(crate) fn skip_all(&mut self, values: usize) -> Result<(), Malformed> {
        for _ in 0..values {
            self.skip()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_of_all_widths_are_read_and_negative_ones_are_not() {
        let cases: &[(&[u8], u64)] = &[
            (&[7], 7),
            (&[0xcc, 200], 200),
            (&[0xcd, 1, 0], 256),
            (&[0xce, 0, 1, 0, 0], 65536),
            (&[0xcf, 0, 0, 0, 1, 0, 0, 0, 0], 1 << 32),
            (&[0xd0, 5], 5),
            (&[0xd1, 0x7f, 0xff], 32767),
        ];
        for (bytes, number) in cases {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.uint(), Ok(*number));
            assert!(reader.is_empty());
        }
        let negative: &[&[u8]] = &[&[0xff], &[0xd0, 0x80], &[0xd0, 0xff], &[0xd1, 0x80, 0]];
        for bytes in negative {
            assert!(Reader::new(bytes).uint().is_err());
        }
    }

    #[test]
    fn a_count_that_cannot_be_true_is_refused_before_anything_is_made_for_it() {
        assert!(Reader::new(&[0xdd, 0xff, 0xff, 0xff, 0xff, 0]).array().is_err());
        assert!(Reader::new(&[0xdf, 0xff, 0xff, 0xff, 0xff, 0]).map().is_err());
        assert!(Reader::new(&[0xdb, 0xff, 0xff, 0xff, 0xff, 0]).str().is_err());
        assert!(Reader::new(&[0xdd, 0xff, 0xff, 0xff, 0xff, 0]).skip().is_err());
    }

    #[test]
    fn what_cannot_be_read_stays_where_it_is() {
        let mut reader = Reader::new(&[0xa2, b'h', b'i']);
        assert!(reader.array().is_err());
        assert!(reader.uint().is_err());
        assert!(reader.ext().is_err());
        assert!(!reader.nil());
        assert_eq!(reader.str(), Ok(&b"hi"[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let reader = Reader::new(&bytes);
            let _ = { reader }.array();
            let _ = { reader }.map();
            let _ = { reader }.str();
            let _ = { reader }.uint();
            let _ = { reader }.float();
            let _ = { reader }.ext();
            let mut all = reader;
            while !all.is_empty() && all.skip().is_ok() {}
        }
    }
}
