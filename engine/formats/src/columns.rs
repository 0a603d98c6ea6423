//! Columns while they are put together, and while they are taken apart.

use std::{borrow::Cow, ops::Range, sync::Arc};

use arrow_array::{
    Array, ArrayRef, LargeStringArray, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, Field, Schema};
use bytes::Bytes;

use crate::FormatError;

/// Named columns of one length.
#[derive(Default)]
pub(crate) struct Columns {
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    /// Adds a column that has a value in every row.
    pub(crate) fn with(self, name: &str, array: impl Array + 'static) -> Self {
        self.add(name, Arc::new(array), false)
    }

    /// Adds a column that may lack values.
    pub(crate) fn with_optional(self, name: &str, array: impl Array + 'static) -> Self {
        self.add(name, Arc::new(array), true)
    }

    fn add(mut self, name: &str, array: ArrayRef, nullable: bool) -> Self {
        self.fields.push(Field::new(name, array.data_type().clone(), nullable));
        self.arrays.push(array);
        self
    }

    /// One column of structs.
    pub(crate) fn structs(self, nulls: Option<NullBuffer>) -> Result<StructArray, ArrowError> {
        StructArray::try_new(self.fields.into(), self.arrays, nulls)
    }

    /// The columns as a batch.
    pub(crate) fn batch(
        self,
        metadata: impl IntoIterator<Item = (String, String)>,
    ) -> Result<RecordBatch, ArrowError> {
        let schema = Schema::new(self.fields)
            .with_metadata(metadata.into_iter().collect::<std::collections::HashMap<_, _>>());
        RecordBatch::try_new(Arc::new(schema), self.arrays)
    }
}

/// A column of lists: `lengths` says how many of `items` belong to each row.
pub(crate) fn lists(
    lengths: impl IntoIterator<Item = usize>,
    items: impl Array + 'static,
) -> Result<ListArray, ArrowError> {
    let field = Field::new_list_field(items.data_type().clone(), false);
    ListArray::try_new(Arc::new(field), OffsetBuffer::from_lengths(lengths), Arc::new(items), None)
}

/// A column of short texts.
pub(crate) fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> StringArray {
    StringArray::from_iter_values(texts)
}

/// A column of raw JSON: null where there is none. What is no UTF-8 is mended, since nothing could
/// read it.
pub(crate) fn raws<'a>(raws: impl IntoIterator<Item = &'a Bytes>) -> LargeStringArray {
    raws.into_iter()
        .map(|raw| (!raw.is_empty()).then(|| String::from_utf8_lossy(raw)))
        .collect::<Vec<Option<Cow<'_, str>>>>()
        .into_iter()
        .collect()
}

/// The columns of a table that is read.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a>(pub(crate) &'a StructArray);

impl<'a> Table<'a> {
    /// A column of this type.
    pub(crate) fn column<A: Array + 'static>(
        self,
        column: &'static str,
    ) -> Result<&'a A, FormatError> {
        self.0
            .column_by_name(column)
            .ok_or(FormatError::Column { column, problem: "missing" })?
            .as_any()
            .downcast_ref()
            .ok_or(FormatError::Column { column, problem: "of another type" })
    }

    /// A column of this type, if there is one: files of earlier versions lack it.
    pub(crate) fn later<A: Array + 'static>(
        self,
        column: &'static str,
    ) -> Result<Option<&'a A>, FormatError> {
        if self.0.column_by_name(column).is_none() {
            return Ok(None);
        }
        self.column(column).map(Some)
    }

    /// A column of structs, as a table.
    pub(crate) fn table(self, column: &'static str) -> Result<Self, FormatError> {
        self.column(column).map(Table)
    }

    /// A column of lists with items of this type.
    pub(crate) fn lists<A: Array + 'static>(
        self,
        column: &'static str,
    ) -> Result<Lists<'a, A>, FormatError> {
        let lists: &ListArray = self.column(column)?;
        let items = lists
            .values()
            .as_any()
            .downcast_ref()
            .ok_or(FormatError::Column { column, problem: "a list of something else" })?;
        Ok(Lists { lists, items })
    }
}

/// A column of lists that is read.
pub(crate) struct Lists<'a, A> {
    lists: &'a ListArray,
    pub(crate) items: &'a A,
}

impl<A> Lists<'_, A> {
    /// Which items belong to `row`.
    pub(crate) fn rows(&self, row: usize) -> Range<usize> {
        let offsets = self.lists.value_offsets();
        let at =
            |index: usize| offsets.get(index).map_or(0, |&at| usize::try_from(at).unwrap_or(0));
        at(row)..at(row + 1)
    }
}

/// A text of a row.
pub(crate) fn text(column: &StringArray, row: usize) -> String {
    column.value(row).to_owned()
}

/// Raw JSON of a row; empty where there is none.
pub(crate) fn raw(column: &LargeStringArray, row: usize) -> Bytes {
    if column.is_null(row) {
        Bytes::new()
    } else {
        Bytes::copy_from_slice(column.value(row).as_bytes())
    }
}
