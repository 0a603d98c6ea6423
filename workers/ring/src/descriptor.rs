//! The descriptors of columns in a segment's header.

use crate::{
    element::DType,
    error::OpenError,
    header::{Geometry, put_u32, put_u64, u32_at, u64_at},
    layout::{Column, ColumnKind, ColumnSpec, DIMENSIONS_MAX, Layout, NAME_BYTES_MAX},
    memory::HEADER_BYTES,
};

/// Where the first descriptor lies.
const DESCRIPTORS: usize = 256;

/// Bytes of one.
const DESCRIPTOR_BYTES: usize = 128;

const FIXED: u8 = 1;
const RAGGED: u8 = 2;

impl Layout {
    /// The header of a segment with this layout, its counters at 0.
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        self.geometry.encode(&mut header);
        for (index, column) in self.columns.iter().enumerate() {
            let at = DESCRIPTORS + index * DESCRIPTOR_BYTES;
            encode(column, &mut header[at..at + DESCRIPTOR_BYTES]);
        }
        header
    }

    /// Reads the columns that a header describes, and checks that each lies within a slot.
    pub(crate) fn decode(
        header: &[u8; HEADER_BYTES],
        geometry: Geometry,
    ) -> Result<Self, OpenError> {
        let mut columns = Vec::with_capacity(geometry.columns as usize);
        for index in 0..geometry.columns as usize {
            let at = DESCRIPTORS + index * DESCRIPTOR_BYTES;
            let column = decode(&header[at..at + DESCRIPTOR_BYTES])
                .map_err(|problem| OpenError::Column { column: index, problem })?;
            columns.push(column);
        }
        Self::from_header(geometry, columns)
    }
}

fn encode(column: &Column, to: &mut [u8]) {
    let name = column.spec.name().as_bytes();
    to[..name.len()].copy_from_slice(name);
    put_u64(to, 88, column.data_offset);
    match column.spec.kind() {
        ColumnKind::Fixed { dtype, shape } => {
            to[64] = dtype.code();
            to[65] = FIXED;
            to[66] = shape.len() as u8;
            for (dimension, length) in shape.iter().enumerate() {
                put_u32(to, 68 + 4 * dimension, *length);
            }
        }
        ColumnKind::Ragged { arena_bytes } => {
            to[64] = DType::U8.code();
            to[65] = RAGGED;
            put_u64(to, 96, column.arena_offset);
            put_u64(to, 104, *arena_bytes);
        }
    }
}

fn decode(from: &[u8]) -> Result<Column, &'static str> {
    let name = &from[..NAME_BYTES_MAX];
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES_MAX);
    if name[end..].iter().any(|byte| *byte != 0) {
        return Err("its name goes on after its end");
    }
    let name = std::str::from_utf8(&name[..end]).map_err(|_| "its name is no UTF-8")?;
    let dtype = DType::from_code(from[64]).ok_or("its type is unknown")?;
    let dimensions = from[66] as usize;
    if dimensions > DIMENSIONS_MAX {
        return Err("it has too many dimensions");
    }
    let shape = (0..dimensions).map(|dimension| u32_at(from, 68 + 4 * dimension)).collect();
    let (kind, arena_offset) = match from[65] {
        FIXED => (ColumnKind::Fixed { dtype, shape }, 0),
        RAGGED if dtype == DType::U8 && dimensions == 0 => {
            (ColumnKind::Ragged { arena_bytes: u64_at(from, 104) }, u64_at(from, 96))
        }
        RAGGED => return Err("a ragged column has plain bytes"),
        _ => return Err("it is neither fixed nor ragged"),
    };
    let spec = ColumnSpec::from_header(name.to_owned(), kind);
    Column::place(spec, u64_at(from, 88), arena_offset)
}
