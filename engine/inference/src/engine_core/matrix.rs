//! An array of the engine's.

use super::{decode::Nonsense, msgpack::Reader, zmtp::Message};

/// The extension type of an array's bytes.
const RAW: u8 = 3;

/// `[numpy dtype, shape, bytes]`, of two dimensions.
pub(super) struct Matrix<'a> {
    kind: &'a [u8],
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Of a row, in bytes.
    stride: usize,
    bytes: &'a [u8],
}

impl<'a> Matrix<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, message: Message<'a>) -> Result<Self, Nonsense> {
        const ODD: Nonsense =
            Nonsense::Odd("an array that is no matrix, or not as large as it says");
        if reader.array()? != 3 {
            return Err(ODD);
        }
        let kind = reader.str()?;
        let width = match kind {
            b"<i4" | b"<f4" => 4,
            b"<i8" | b"<f8" => 8,
            _ => return Err(Nonsense::Odd("an array of a type that is not expected")),
        };
        if reader.array()? != 2 {
            return Err(ODD);
        }
        let (rows, columns) = (reader.u32()? as usize, reader.u32()? as usize);
        // Small ones are within the message; others are one of its frames, behind the first.
        let bytes = match reader.ext() {
            Ok((RAW, bytes)) => bytes,
            Ok(_) => return Err(ODD),
            Err(_) => match reader.u32()? as usize {
                0 => return Err(ODD),
                frame => message.frame(frame).ok_or(ODD)?,
            },
        };
        let stride = columns.checked_mul(width).filter(|it| *it > 0).ok_or(ODD)?;
        if rows.checked_mul(stride) != Some(bytes.len()) {
            return Err(ODD);
        }
        Ok(Self { kind, rows, columns, stride, bytes })
    }

    /// A value of `N` bytes.
    fn at<const N: usize>(&self, row: usize, column: usize) -> Option<[u8; N]> {
        self.bytes.get(row * self.stride + column * N..)?.first_chunk().copied()
    }

    pub(super) fn int(&self, row: usize, column: usize) -> Option<i64> {
        match self.kind {
            b"<i4" => self.at(row, column).map(|it| i64::from(i32::from_le_bytes(it))),
            b"<i8" => self.at(row, column).map(i64::from_le_bytes),
            _ => None,
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "log-probabilities are kept as f32 everywhere"
    )]
    pub(super) fn float(&self, row: usize, column: usize) -> Option<f32> {
        match self.kind {
            b"<f4" => self.at(row, column).map(f32::from_le_bytes),
            b"<f8" => self.at(row, column).map(|it| f64::from_le_bytes(it) as f32),
            _ => None,
        }
    }
}
