//! Actions and observations that cross as columns of numbers.

use std::sync::Arc;

use bytes::Bytes;
use envmill_protocol::Observation;
use envmill_ring::{Batch, BatchMut, DType, ReadError, WriteError};
use serde::Deserialize;
use serde_json::Value;

/// Rows from there on are copied out of the ring one by one: a second copy would cost more than that.
const LARGE_BYTES: usize = 4096;

/// What one row of a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<u32>,
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (name, shape) = <(String, Vec<u32>)>::deserialize(deserializer)?;
        let dtype = match name.as_str() {
            "u8" => DType::U8,
            "i8" => DType::I8,
            "u16" => DType::U16,
            "i16" => DType::I16,
            "u32" => DType::U32,
            "i32" => DType::I32,
            "u64" => DType::U64,
            "i64" => DType::I64,
            "f32" => DType::F32,
            "f64" => DType::F64,
            "bool" => DType::Bool,
            _ => return Err(serde::de::Error::custom(format!("an element type `{name}`"))),
        };
        Ok(Self { dtype, shape })
    }
}

/// One row's numbers, ready for their column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Row {
    Unsigned(Vec<u64>),
    Signed(Vec<i64>),
    Float(Vec<f64>),
}

impl Numbers {
    /// Reads `{"action": …}`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for people.
    pub(crate) fn read_action(&self, text: &[u8]) -> Result<Row, String> {
        if let Some(row) = self.read_number(text) {
            return Ok(row);
        }
        let object: serde_json::Map<String, Value> = serde_json::from_slice(text)
            .map_err(|error| format!("the action is no object: {error}"))?;
        let action = object.get("action").ok_or("action: Field required")?;
        if let Some(other) =
            object.keys().find(|key| !matches!(key.as_str(), "action" | "metadata"))
        {
            return Err(format!("{other}: Extra inputs are not permitted"));
        }
        let mut row = match self.dtype {
            DType::F32 | DType::F64 => Row::Float(Vec::new()),
            DType::U8 | DType::U16 | DType::U32 | DType::U64 | DType::Bool => {
                Row::Unsigned(Vec::new())
            }
            DType::I8 | DType::I16 | DType::I32 | DType::I64 => Row::Signed(Vec::new()),
        };
        self.flatten(action, &self.shape, &mut row)?;
        Ok(row)
    }

    /// The most common action by far: one whole number, as policies write it.
    fn read_number(&self, text: &[u8]) -> Option<Row> {
        if !self.shape.is_empty() || self.dtype != DType::I64 {
            return None;
        }
        let number = text.strip_prefix(b"{\"action\":")?.strip_suffix(b"}")?;
        let is_json = match number {
            [b'0'] => true,
            [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        let number = str::from_utf8(number).ok().filter(|_| is_json)?;
        Some(Row::Signed(vec![number.parse().ok()?]))
    }

    fn flatten(&self, value: &Value, shape: &[u32], row: &mut Row) -> Result<(), String> {
        let Some((&extent, rest)) = shape.split_first() else { return self.number(value, row) };
        match value.as_array() {
            Some(values) if values.len() == extent as usize => {
                values.iter().try_for_each(|value| self.flatten(value, rest, row))
            }
            _ => Err(format!("action: Input should be an array of shape {:?}", self.shape)),
        }
    }

    fn number(&self, value: &Value, row: &mut Row) -> Result<(), String> {
        let refused = || format!("action: {value} is no {}", self.name());
        match row {
            Row::Float(row) => row.push(value.as_f64().ok_or_else(refused)?),
            Row::Unsigned(row) => {
                let number = value.as_bool().map(u64::from).or_else(|| value.as_u64());
                row.push(number.filter(|&it| it <= self.unsigned_max()).ok_or_else(refused)?);
            }
            Row::Signed(row) => {
                let fits = |number: &i64| self.signed_range().contains(number);
                row.push(value.as_i64().filter(fits).ok_or_else(refused)?);
            }
        }
        Ok(())
    }

    const fn unsigned_max(&self) -> u64 {
        match self.dtype {
            DType::U8 => u8::MAX as u64,
            DType::U16 => u16::MAX as u64,
            DType::U32 => u32::MAX as u64,
            DType::Bool => 1,
            _ => u64::MAX,
        }
    }

    const fn signed_range(&self) -> std::ops::RangeInclusive<i64> {
        match self.dtype {
            DType::I8 => i8::MIN as i64..=i8::MAX as i64,
            DType::I16 => i16::MIN as i64..=i16::MAX as i64,
            DType::I32 => i32::MIN as i64..=i32::MAX as i64,
            _ => i64::MIN..=i64::MAX,
        }
    }

    const fn name(&self) -> &'static str {
        match self.dtype {
            DType::U8 => "number from 0 to 255",
            DType::I8 => "number from -128 to 127",
            DType::U16 | DType::U32 | DType::U64 => "unsigned number of its size",
            DType::I16 | DType::I32 | DType::I64 => "whole number of its size",
            DType::F32 | DType::F64 => "number",
            DType::Bool => "0, 1, true or false",
        }
    }

    /// Puts a row where the batch has it.
    pub(crate) fn write(
        &self,
        batch: &mut BatchMut<'_>,
        column: usize,
        at: usize,
        row: &Row,
    ) -> Result<(), WriteError> {
        macro_rules! put {
            ($numbers:expr, $element:ty) => {{
                let numbers: Vec<$element> = $numbers.iter().map(|&it| it as $element).collect();
                batch.set_row(column, at, &numbers)?;
            }};
        }
        match (row, self.dtype) {
            (Row::Float(row), DType::F32) => put!(row, f32),
            (Row::Float(row), _) => put!(row, f64),
            (Row::Unsigned(row), DType::U16) => put!(row, u16),
            (Row::Unsigned(row), DType::U32) => put!(row, u32),
            (Row::Unsigned(row), DType::U64) => put!(row, u64),
            (Row::Unsigned(row), _) => put!(row, u8),
            (Row::Signed(row), DType::I8) => put!(row, i8),
            (Row::Signed(row), DType::I16) => put!(row, i16),
            (Row::Signed(row), DType::I32) => put!(row, i32),
            (Row::Signed(row), _) => put!(row, i64),
        }
        Ok(())
    }

    /// The rows of a column, as observations. `all` is used again for each batch.
    pub(crate) fn read(
        &self,
        batch: &Batch<'_>,
        column: usize,
        all: &mut Vec<u8>,
        to: &mut Vec<Observation>,
    ) -> Result<(), ReadError> {
        let rows = batch.rows();
        let shape: Arc<[u32]> = self.shape.as_slice().into();
        let mut put = |data| {
            let shape = Arc::clone(&shape);
            let numbers = envmill_protocol::Numbers { dtype: dtype(self.dtype), shape, data };
            to.push(Observation::of_numbers(numbers));
        };
        // Each row's bytes are of its own: an episode that goes on must not keep the others'.
        let extents = self.shape.iter().map(|&it| it as usize);
        if extents.fold(self.dtype.bytes(), usize::saturating_mul) >= LARGE_BYTES {
            for row in 0..rows {
                let mut data = Vec::new();
                batch.fixed_row_bytes(column, self.dtype, row, &mut data)?;
                put(data.into());
            }
            return Ok(());
        }
        batch.fixed_bytes(column, self.dtype, all)?;
        let bytes = all.len() / rows.max(1);
        for row in 0..rows {
            put(Bytes::copy_from_slice(&all[row * bytes..(row + 1) * bytes]));
        }
        Ok(())
    }
}

/// What the rest of Envmill calls it.
const fn dtype(dtype: DType) -> envmill_protocol::DType {
    use envmill_protocol::DType as Theirs;
    match dtype {
        DType::U8 => Theirs::U8,
        DType::I8 => Theirs::I8,
        DType::U16 => Theirs::U16,
        DType::I16 => Theirs::I16,
        DType::U32 => Theirs::U32,
        DType::I32 => Theirs::I32,
        DType::U64 => Theirs::U64,
        DType::I64 => Theirs::I64,
        DType::F32 => Theirs::F32,
        DType::F64 => Theirs::F64,
        DType::Bool => Theirs::Bool,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(dtype: DType, shape: &[u32]) -> Numbers {
        Numbers { dtype, shape: shape.to_vec() }
    }

    #[test]
    fn actions_are_read_or_refused() {
        let discrete = numbers(DType::I64, &[]);
        for (text, number) in [
            (r#"{"action":1}"#, 1),
            (r#"{"action":120}"#, 120),
            (r#"{"action":0}"#, 0),
            (r#"{ "action": 1 }"#, 1),
            (r#"{"action":-1}"#, -1),
            (r#"{"action":9223372036854775807}"#, i64::MAX),
        ] {
            assert_eq!(discrete.read_action(text.as_bytes()), Ok(Row::Signed(vec![number])));
        }
        for text in [r#"{"action":01}"#, r#"{"action":+1}"#, r#"{"action":9223372036854775808}"#] {
            assert!(discrete.read_action(text.as_bytes()).is_err(), "{text}");
        }
        let pixels = numbers(DType::U8, &[2, 2]);
        let read = pixels.read_action(br#"{"action":[[1,2],[3,255]],"metadata":{}}"#);
        assert_eq!(read, Ok(Row::Unsigned(vec![1, 2, 3, 255])));
        for (numbers, text) in [
            (&discrete, "1"),
            (&discrete, "{}"),
            (&discrete, r#"{"action":1.5}"#),
            (&discrete, r#"{"action":[1]}"#),
            (&discrete, r#"{"action":1,"other":2}"#),
            (&pixels, r#"{"action":[[1,2],[3,256]]}"#),
            (&pixels, r#"{"action":[[1,2],[3]]}"#),
            (&pixels, r#"{"action":[1,2,3,4]}"#),
        ] {
            assert!(numbers.read_action(text.as_bytes()).is_err(), "{text}");
        }
    }
}
