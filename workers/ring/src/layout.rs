//! Columns and where they lie in a slot.

use crate::{
    element::{DType, Element},
    error::{ColumnError, LayoutError, OpenError},
    header::{ALIGN, COLUMNS_MAX, Geometry, Kind, ROWS_MAX, SLOTS_MAX},
};

/// The longest name of a column, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// The most dimensions of one row's element.
pub(crate) const DIMENSIONS_MAX: usize = 4;

/// Bytes of a slot before its columns: the batch's number, its rows, and what lies beside it.
pub(crate) const SLOT_HEADER_BYTES: u64 = 64;

/// A column as it is asked for: its name and what its rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSpec {
    name: String,
    kind: ColumnKind,
}

/// What the rows of a column are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Each row is an array of this type and shape, in row-major order; a scalar without dimensions.
    Fixed {
        /// The elements' type.
        dtype: DType,
        /// The shape of one row: at most 4 dimensions, each at least 1.
        shape: Vec<u32>,
    },
    /// Each row is a number of bytes of its own.
    Ragged {
        /// Room for the rows of one batch, in bytes. What does not fit is passed beside the batch,
        /// which costs several system calls: choose it so that this is rare. It takes address space
        /// for every slot, and memory only once it is used.
        arena_bytes: u64,
    },
}

impl ColumnSpec {
    /// A column whose rows are arrays of the same type and shape; a `shape` of `[]` is a scalar.
    #[must_use]
    pub fn fixed(name: &str, dtype: DType, shape: &[u32]) -> Self {
        let kind = ColumnKind::Fixed { dtype, shape: shape.to_vec() };
        Self { name: name.to_owned(), kind }
    }

    /// A column whose rows are bytes, with an arena of `arena_bytes` for the rows of one batch.
    #[must_use]
    pub fn ragged(name: &str, arena_bytes: u64) -> Self {
        Self { name: name.to_owned(), kind: ColumnKind::Ragged { arena_bytes } }
    }

    /// Its name, unique in its layout: 1 to 64 bytes of UTF-8 without NUL.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its rows are.
    #[must_use]
    pub const fn kind(&self) -> &ColumnKind {
        &self.kind
    }

    /// A column as the header of a segment describes it; to be checked.
    pub(crate) const fn from_header(name: String, kind: ColumnKind) -> Self {
        Self { name, kind }
    }

    /// Checks all but the name's uniqueness.
    fn check(&self) -> Result<(), &'static str> {
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || self.name.contains('\0') {
            return Err("a name has 1 to 64 bytes, and none is NUL");
        }
        match &self.kind {
            ColumnKind::Fixed { shape, .. } if shape.len() > DIMENSIONS_MAX => {
                Err("there may be 4 dimensions")
            }
            ColumnKind::Fixed { shape, .. } if shape.contains(&0) => Err("a dimension is 0"),
            ColumnKind::Ragged { arena_bytes } if *arena_bytes > u64::from(u32::MAX) => {
                Err("an arena may have 4 GiB - 1")
            }
            _ => Ok(()),
        }
    }

    /// Bytes of the data of `rows` rows; `None` if that is beyond counting.
    fn data_bytes(&self, rows: u32) -> Option<u64> {
        match &self.kind {
            ColumnKind::Fixed { dtype, shape } => {
                let row = dtype.bytes() as u64;
                let row = shape.iter().try_fold(row, |bytes, n| bytes.checked_mul((*n).into()))?;
                row.checked_mul(rows.into())
            }
            ColumnKind::Ragged { .. } => Some((u64::from(rows) + 1) * 4),
        }
    }
}

/// A column at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) spec: ColumnSpec,
    /// Where its data lies within a slot: elements, or offsets.
    pub(crate) data_offset: u64,
    /// Where its arena lies within a slot; 0 for a fixed column.
    pub(crate) arena_offset: u64,
    /// Elements of one row of a fixed column; 0 for a ragged one.
    pub(crate) row_elements: usize,
}

impl Column {
    /// Puts a column where its header says.
    pub(crate) fn place(
        spec: ColumnSpec,
        data_offset: u64,
        arena_offset: u64,
    ) -> Result<Self, &'static str> {
        spec.check()?;
        let row_elements = match &spec.kind {
            ColumnKind::Fixed { dtype, .. } => {
                let bytes = spec.data_bytes(1).ok_or("a row is too large")?;
                bytes as usize / dtype.bytes()
            }
            ColumnKind::Ragged { .. } => 0,
        };
        Ok(Self { spec, data_offset, arena_offset, row_elements })
    }

    pub(crate) const fn arena_bytes(&self) -> Option<u64> {
        match self.spec.kind {
            ColumnKind::Ragged { arena_bytes } => Some(arena_bytes),
            ColumnKind::Fixed { .. } => None,
        }
    }

    /// The parts of a slot that it takes: begin and length of its data and of its arena.
    fn parts(&self, rows: u32) -> Result<[(u64, u64); 2], &'static str> {
        let data = self.spec.data_bytes(rows).ok_or("the data is too large")?;
        Ok([(self.data_offset, data), (self.arena_offset, self.arena_bytes().unwrap_or(0))])
    }
}

/// The layout of a segment of batches: how many rows and slots, which columns, and where they lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(crate) geometry: Geometry,
    pub(crate) columns: Vec<Column>,
}

impl Layout {
    /// Lays out `columns` for batches of up to `rows` rows in `slots` slots.
    ///
    /// Two slots let one side fill a batch while the other still reads the one before. Without
    /// columns a segment only acknowledges what its peer publishes.
    ///
    /// # Errors
    ///
    /// When a limit is exceeded, or a column is impossible.
    pub fn new(
        rows: u32,
        slots: u32,
        columns: impl IntoIterator<Item = ColumnSpec>,
    ) -> Result<Self, LayoutError> {
        if !(1..=ROWS_MAX).contains(&rows) {
            return Err(LayoutError::Rows(rows));
        }
        if !(1..=SLOTS_MAX).contains(&slots) {
            return Err(LayoutError::Slots(slots));
        }
        let specs: Vec<ColumnSpec> = columns.into_iter().take(COLUMNS_MAX + 1).collect();
        if specs.len() > COLUMNS_MAX {
            return Err(LayoutError::Columns(specs.len()));
        }
        let mut placed = Vec::with_capacity(specs.len());
        let mut end = SLOT_HEADER_BYTES;
        for (column, spec) in specs.into_iter().enumerate() {
            let data_bytes = spec.data_bytes(rows).ok_or(LayoutError::TooLarge)?;
            let data_offset = end;
            end = next_aligned(end, data_bytes).ok_or(LayoutError::TooLarge)?;
            let mut arena_offset = 0;
            if let ColumnKind::Ragged { arena_bytes } = spec.kind {
                arena_offset = end;
                end = next_aligned(end, arena_bytes).ok_or(LayoutError::TooLarge)?;
            }
            placed.push(
                Column::place(spec, data_offset, arena_offset)
                    .map_err(|problem| LayoutError::Column { column, problem })?,
            );
        }
        let mut geometry =
            Geometry::new(Kind::Columns, rows, slots, end).ok_or(LayoutError::TooLarge)?;
        geometry.columns = placed.len() as u32;
        let layout = Self { geometry, columns: placed };
        layout.check().map_err(|(column, problem)| LayoutError::Column { column, problem })?;
        Ok(layout)
    }

    /// A layout as the header of a segment has it. All parts of all columns lie within a slot, each
    /// at a place of its own.
    pub(crate) fn from_header(geometry: Geometry, columns: Vec<Column>) -> Result<Self, OpenError> {
        let layout = Self { geometry, columns };
        layout.check().map_err(|(column, problem)| OpenError::Column { column, problem })?;
        Ok(layout)
    }

    fn check(&self) -> Result<(), (usize, &'static str)> {
        let mut parts = vec![];
        for (index, column) in self.columns.iter().enumerate() {
            let same = |other: &Column| other.spec.name == column.spec.name;
            if self.columns[..index].iter().any(same) {
                return Err((index, "its name is taken"));
            }
            for (begin, bytes) in column.parts(self.rows()).map_err(|problem| (index, problem))? {
                if bytes == 0 && begin == 0 {
                    continue;
                }
                if begin < SLOT_HEADER_BYTES || !begin.is_multiple_of(ALIGN) {
                    return Err((index, "it lies in the slot's header, or is not aligned"));
                }
                let end = begin.checked_add(bytes);
                let Some(end) = end.filter(|end| *end <= self.geometry.slot_bytes) else {
                    return Err((index, "it lies beyond the slot's end"));
                };
                parts.push((begin, end, index));
            }
        }
        parts.sort_unstable();
        for pair in parts.windows(2) {
            if pair[0].1 > pair[1].0 {
                return Err((pair[1].2, "it overlaps another column"));
            }
        }
        Ok(())
    }

    /// How many rows a batch can have.
    #[must_use]
    pub const fn rows(&self) -> u32 {
        self.geometry.rows
    }

    /// How many batches can be out at a time.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.geometry.slots
    }

    /// How large the segment is, in bytes.
    #[must_use]
    pub const fn total_bytes(&self) -> u64 {
        self.geometry.total_bytes
    }

    /// The columns, in the order of their indices.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = &ColumnSpec> {
        self.columns.iter().map(|column| &column.spec)
    }

    /// The index of the column with this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.spec.name == name)
    }

    /// Where the slot of batch `sequence` begins, from the segment's start.
    pub(crate) const fn slot(&self, sequence: u64) -> usize {
        let slot = sequence % self.geometry.slots as u64;
        (self.geometry.slot_offset + slot * self.geometry.slot_bytes) as usize
    }

    pub(crate) fn fixed<T: Element>(&self, index: usize) -> Result<&Column, ColumnError> {
        self.fixed_if(index, T::DTYPE, DType::holds::<T>)
    }

    pub(crate) fn fixed_of(&self, index: usize, asked: DType) -> Result<&Column, ColumnError> {
        self.fixed_if(index, asked, |dtype| dtype == asked)
    }

    fn fixed_if(
        &self,
        index: usize,
        asked: DType,
        fits: impl Fn(DType) -> bool,
    ) -> Result<&Column, ColumnError> {
        let column = self.columns.get(index).ok_or(ColumnError::Absent(index))?;
        match &column.spec.kind {
            ColumnKind::Fixed { dtype, .. } if fits(*dtype) => Ok(column),
            _ => Err(ColumnError::NotFixed { column: index, asked }),
        }
    }

    pub(crate) fn ragged(&self, index: usize) -> Result<(&Column, u64), ColumnError> {
        let column = self.columns.get(index).ok_or(ColumnError::Absent(index))?;
        let arena = column.arena_bytes().ok_or(ColumnError::NotRagged(index))?;
        Ok((column, arena))
    }
}

/// Where the next part begins after one of `bytes` bytes at `offset`.
fn next_aligned(offset: u64, bytes: u64) -> Option<u64> {
    offset.checked_add(bytes)?.checked_next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(rows: u32, columns: &[ColumnSpec]) -> Result<Layout, LayoutError> {
        Layout::new(rows, 2, columns.iter().cloned())
    }

    #[test]
    fn parts_lie_one_after_another_on_cache_lines() {
        let layout = layout(
            3,
            &[
                ColumnSpec::fixed("id", DType::U64, &[]),
                ColumnSpec::ragged("text", 100),
                ColumnSpec::fixed("image", DType::F32, &[5, 2]),
            ],
        )
        .unwrap();
        let places: Vec<(u64, u64)> =
            layout.columns.iter().map(|c| (c.data_offset, c.arena_offset)).collect();
        assert_eq!(places, [(64, 0), (128, 192), (320, 0)]);
        assert_eq!(layout.geometry.slot_bytes, 448);
        assert_eq!(layout.total_bytes(), 4096 + 2 * 448);
        assert_eq!(layout.columns[2].row_elements, 10);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let id = ColumnSpec::fixed("id", DType::U64, &[]);
        assert_eq!(layout(0, &[]), Err(LayoutError::Rows(0)));
        assert_eq!(Layout::new(1, 0, []), Err(LayoutError::Slots(0)));
        assert_eq!(Layout::new(1, SLOTS_MAX + 1, []), Err(LayoutError::Slots(65)));
        let many = vec![id.clone(); 1000];
        assert_eq!(layout(1, &many), Err(LayoutError::Columns(25)));
        assert!(matches!(
            layout(1, &[id.clone(), id]),
            Err(LayoutError::Column { column: 1, problem: "its name is taken" })
        ));
        for name in ["", "a\0b", &"x".repeat(65)] {
            let spec = ColumnSpec::ragged(name, 1);
            assert!(matches!(layout(1, &[spec]), Err(LayoutError::Column { .. })), "{name:?}");
        }
        let shapes: [&[u32]; 2] = [&[1, 1, 1, 1, 1], &[2, 0]];
        for shape in shapes {
            let spec = ColumnSpec::fixed("x", DType::U8, shape);
            assert!(matches!(layout(1, &[spec]), Err(LayoutError::Column { .. })), "{shape:?}");
        }
        let huge = ColumnSpec::fixed("x", DType::F64, &[u32::MAX; 4]);
        assert_eq!(layout(1, &[huge]), Err(LayoutError::TooLarge));
        let large = ColumnSpec::fixed("x", DType::F64, &[1 << 16, 1 << 10]);
        assert_eq!(layout(1 << 20, &[large]), Err(LayoutError::TooLarge));
        let arena = ColumnSpec::ragged("x", 1 << 32);
        assert!(matches!(layout(1, &[arena]), Err(LayoutError::Column { .. })));
    }
}
