//! What goes wrong, one small enum for each operation.

use std::{io, ops::RangeInclusive};

use crate::{element::DType, header};

/// Why a layout cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A batch must have between one row and the maximum.
    #[error("{0} rows: there must be 1 to {max}", max = header::ROWS_MAX)]
    Rows(u32),
    /// There must be between one slot and the maximum.
    #[error("{0} slots: there must be 1 to {max}", max = header::SLOTS_MAX)]
    Slots(u32),
    /// The header has descriptors for a limited number of columns.
    #[error("{0} columns: there may be {max}", max = header::COLUMNS_MAX)]
    Columns(usize),
    /// Something is wrong with one column.
    #[error("column {column}: {problem}")]
    Column {
        /// Its index.
        column: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The segment would be larger than any may be.
    #[error("the segment would have more than {max} bytes", max = header::SEGMENT_BYTES_MAX)]
    TooLarge,
    /// The ring of a log has a size that cannot be.
    #[error("a log's ring of {0} bytes: it must be a multiple of 64, at least 4096")]
    RingBytes(u64),
    /// The window of a log has a size that cannot be.
    #[error("a window of {0} records: there must be 1 to {max}", max = header::WINDOW_MAX)]
    Window(u32),
}

/// Why a segment of the peer cannot be opened. The peer is another program, or not to be trusted:
/// there is nothing to try again.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel refused to say something about the descriptor, or to map it.
    #[error("cannot map the segment")]
    Io(#[from] io::Error),
    /// The descriptor is no memfd of ordinary pages.
    #[error("the descriptor is no memfd")]
    NoMemfd,
    /// The peer could still shrink, grow, or share writable mappings of the segment.
    #[error("the segment is not sealed: {missing} missing")]
    Seals {
        /// The names of the missing seals.
        missing: String,
    },
    /// The segment is larger than allowed here.
    #[error("the segment has {bytes} bytes, and {bytes_max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit: [`Limits::segment_bytes_max`](crate::Limits).
        bytes_max: u64,
    },
    /// The segment is smaller than a header, or not of the size that its header says.
    #[error("the segment has {bytes} bytes, and its header says {header}")]
    Size {
        /// Its size.
        bytes: u64,
        /// What the header says, or the size of a header.
        header: u64,
    },
    /// It does not start with `ENVMRING`.
    #[error("the segment does not start with ENVMRING")]
    Magic,
    /// It is of another version of the format.
    #[error("the segment is of version {0}, and version 1 is understood")]
    Version(u32),
    /// It has another kind of layout than was asked for.
    #[error("the segment's layout is of kind {found}, not {expected}")]
    Kind {
        /// The kind's code in the header.
        found: u32,
        /// The one that was asked for.
        expected: u32,
    },
    /// A field of the header is impossible.
    #[error("the segment's header: {0}")]
    Header(&'static str),
    /// The descriptor of a column is impossible.
    #[error("the segment's column {column}: {problem}")]
    Column {
        /// Its index.
        column: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// This side is connected to a peer already.
    #[error("there is a peer already")]
    Connected,
}

/// A counter of the peer has a value that it cannot have. The peer is broken: give it up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer's `{word}` is {found}, and can only be {possible:?}")]
pub struct CounterError {
    /// The word's name.
    pub word: &'static str,
    /// What it was.
    pub found: u64,
    /// What it can be.
    pub possible: RangeInclusive<u64>,
}

/// A column was asked for that is not there or is another: a mistake of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColumnError {
    /// There is no column with this index.
    #[error("there is no column {0}")]
    Absent(usize),
    /// The column is ragged, or of other elements.
    #[error("column {column} does not have fixed elements of {asked:?}")]
    NotFixed {
        /// Its index.
        column: usize,
        /// What it was accessed as.
        asked: DType,
    },
    /// The column is fixed.
    #[error("column {0} is not ragged")]
    NotRagged(usize),
    /// The column has no such row, or a row of another length.
    #[error("column {column} has no row {row} of that length")]
    Row {
        /// Its index.
        column: usize,
        /// The row.
        row: usize,
    },
}

/// Why something cannot be written to a batch. The batch is as it was before, and can be filled
/// further, published or given up.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The caller took the wrong column.
    #[error(transparent)]
    Column(#[from] ColumnError),
    /// The batch or the column has as many rows as fit.
    #[error("there is room for {rows_max} rows")]
    RowsFull {
        /// How many fit: the layout's rows.
        rows_max: u32,
    },
    /// A ragged column would have more bytes than may be passed beside the batch. Publish what there
    /// is and go on in the next batch; a single row of this size has to be refused.
    #[error("column {column} would have more than {bytes_max} bytes")]
    BytesFull {
        /// Its index.
        column: usize,
        /// The limit: [`Limits::overflow_bytes_max`](crate::Limits).
        bytes_max: u32,
    },
    /// A ragged column has not as many rows as the batch, or a row that was not ended.
    #[error("column {column} has {pushed} rows, and the batch {rows}")]
    RowsMissing {
        /// Its index.
        column: usize,
        /// How many rows the column has.
        pushed: u32,
        /// How many rows were to be published.
        rows: u32,
    },
    /// The memory for a column that did not fit could not be had.
    #[error("no memory for a column beside the batch")]
    Overflow(#[source] io::Error),
}

/// Why a batch cannot be read. All but [`ReadError::Column`] mean that the peer is broken, hostile or
/// of another opinion about the format: give it up.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The caller took the wrong column.
    #[error(transparent)]
    Column(#[from] ColumnError),
    /// A counter has an impossible value.
    #[error(transparent)]
    Counter(#[from] CounterError),
    /// Another batch than the next one lies in its slot.
    #[error("batch {found} lies where batch {expected} should be")]
    Sequence {
        /// The next batch's number.
        expected: u64,
        /// What the slot says.
        found: u64,
    },
    /// The batch has more rows than fit.
    #[error("the batch has {found} rows, and {rows_max} fit")]
    Rows {
        /// What the slot says.
        found: u32,
        /// The layout's rows.
        rows_max: u32,
    },
    /// Columns are said to be passed beside the batch that are not ragged or not there.
    #[error("columns {0:#b} cannot all lie beside the batch")]
    OverflowColumns(u32),
    /// The offsets of a ragged column do not rise from 0 to at most the arena's end.
    #[error("column {column} has impossible offsets")]
    Offsets {
        /// Its index.
        column: usize,
    },
    /// The memory passed beside the batch could not be read.
    #[error("column {column} cannot be read from beside the batch")]
    Overflow {
        /// Its index.
        column: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something does not lie within the segment. The layout was checked when the segment was
    /// opened, so that this is a mistake of this crate rather than of the peer.
    #[error("an access outside of the segment was refused")]
    OutOfBounds,
}

/// Why memory passed beside a batch is not taken. The descriptor is closed. The peer is broken: give
/// it up.
#[derive(Debug, thiserror::Error)]
pub enum OverflowError {
    /// The kernel refused to say something about the descriptor.
    #[error("cannot look at what was passed")]
    Io(#[from] io::Error),
    /// The descriptor is no memfd of ordinary pages, or not sealed against every change.
    #[error("what was passed is not a memfd sealed against every change")]
    NotSealed,
    /// It has more bytes than allowed.
    #[error("what was passed has {bytes} bytes, and {bytes_max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit: [`Limits::overflow_bytes_max`](crate::Limits).
        bytes_max: u32,
    },
    /// It belongs to a batch that is not one of the next, to a column that is not ragged, or has come
    /// before.
    #[error("nothing is to be passed for column {column} of batch {sequence}")]
    Unexpected {
        /// The batch.
        sequence: u64,
        /// The column's index.
        column: usize,
    },
}

/// Why a record cannot be written to a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A record may take half of the ring, so that there is always a place where it fits in one piece.
    #[error("a record of {bytes} bytes: there may be {bytes_max}")]
    TooLong {
        /// Its size.
        bytes: usize,
        /// The limit: [`LogLayout::record_bytes_max`](crate::LogLayout::record_bytes_max).
        bytes_max: usize,
    },
}

/// Why a log cannot be read on. The peer is broken, hostile or of another opinion about the format:
/// give it up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The counter has an impossible value.
    #[error(transparent)]
    Counter(#[from] CounterError),
    /// A record reaches beyond what is published, or beyond the ring's end.
    #[error("the record at {position} has {bytes} bytes, and at most {available} are there")]
    Length {
        /// Where it begins.
        position: u64,
        /// What it says of itself.
        bytes: u32,
        /// How many there can be, with the record's header.
        available: u64,
    },
    /// Padding does not reach to the ring's end.
    #[error("the padding at {position} does not end with the ring")]
    Padding {
        /// Where it begins.
        position: u64,
    },
    /// Another record than the next one lies in its place.
    #[error("record {found} lies where record {expected} should be")]
    Sequence {
        /// The next record's number.
        expected: u64,
        /// What the record says.
        found: u64,
    },
    /// Something does not lie within the segment: a mistake of this crate rather than of the peer.
    #[error("an access outside of the segment was refused")]
    OutOfBounds,
}
