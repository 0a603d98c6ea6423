//! Any layout, any contents, any order.

use std::collections::VecDeque;

use envmill_ring::{ColumnKind, ColumnSpec, DType, Layout, Lease, RaggedRows};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{
    log,
    sides::{connected, pass_overflow},
};

const DTYPES: [DType; 11] = [
    DType::U8,
    DType::I8,
    DType::U16,
    DType::I16,
    DType::U32,
    DType::I32,
    DType::U64,
    DType::I64,
    DType::F32,
    DType::F64,
    DType::Bool,
];

fn kinds() -> impl Strategy<Value = Vec<ColumnKind>> {
    let fixed = (select(&DTYPES[..]), vec(1_u32..4, 0..=4))
        .prop_map(|(dtype, shape)| ColumnKind::Fixed { dtype, shape });
    let ragged = (0_u64..300).prop_map(|arena_bytes| ColumnKind::Ragged { arena_bytes });
    vec(prop_oneof![fixed, ragged], 0..=24)
}

/// A batch as each column's bytes for each row; fixed columns use as many as they need.
type Contents = Vec<Vec<Vec<u8>>>;

fn cases() -> impl Strategy<Value = (Layout, Vec<(u32, Contents)>)> {
    (1_u32..20, 1_u32..5, kinds()).prop_flat_map(|(rows, slots, kinds)| {
        let specs = kinds.iter().enumerate().map(|(index, kind)| match kind {
            ColumnKind::Fixed { dtype, shape } => {
                ColumnSpec::fixed(&format!("column {index}"), *dtype, shape)
            }
            ColumnKind::Ragged { arena_bytes } => {
                ColumnSpec::ragged(&format!("column {index}"), *arena_bytes)
            }
        });
        let layout = Layout::new(rows, slots, specs).unwrap();
        let row = vec(any::<u8>(), 0..60);
        let contents = vec(vec(row, rows as usize), kinds.len());
        let batches = vec((0..=rows, contents), 1..8);
        (Just(layout), batches)
    })
}

/// Writes a fixed column as bytes, whatever its type.
macro_rules! fixed_as {
    ($dtype:expr, $call:ident, $($argument:expr),*) => {
        match $dtype {
            DType::U8 | DType::Bool => $call!(u8, $($argument),*),
            DType::I8 => $call!(i8, $($argument),*),
            DType::U16 => $call!(u16, $($argument),*),
            DType::I16 => $call!(i16, $($argument),*),
            DType::U32 => $call!(u32, $($argument),*),
            DType::I32 => $call!(i32, $($argument),*),
            DType::U64 => $call!(u64, $($argument),*),
            DType::I64 => $call!(i64, $($argument),*),
            DType::F32 => $call!(f32, $($argument),*),
            DType::F64 => $call!(f64, $($argument),*),
        }
    };
}

macro_rules! write_column {
    ($type:ty, $batch:expr, $column:expr, $seed:expr) => {
        for (index, element) in $batch.fixed::<$type>($column).unwrap().iter_mut().enumerate() {
            *element = ($seed + index) as u8 as $type;
        }
    };
}

macro_rules! check_column {
    ($type:ty, $batch:expr, $column:expr, $seed:expr, $elements:expr) => {{
        let mut read = Vec::<$type>::new();
        $batch.fixed($column, &mut read).unwrap();
        let expected: Vec<$type> = (0..$elements).map(|i| ($seed + i) as u8 as $type).collect();
        assert_eq!(read, expected);
    }};
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_batches_of_any_layout_come_through((layout, batches) in cases()) {
        let (mut left, mut right) = connected(&layout);
        prop_assert_eq!(right.reader.layout(), left.writer.layout());
        let mut out = VecDeque::new();
        for (number, (rows, contents)) in batches.iter().enumerate() {
            if out.len() == layout.slots() as usize {
                prop_assert!(left.writer.begin().unwrap().is_none());
                check(&mut right.reader, &layout, out.pop_front().unwrap());
            }
            let mut batch = left.writer.begin().unwrap().unwrap();
            for (column, spec) in layout.columns().enumerate() {
                match spec.kind() {
                    ColumnKind::Fixed { dtype, .. } => {
                        fixed_as!(*dtype, write_column, batch, column, number + column);
                    }
                    ColumnKind::Ragged { .. } => {
                        for row in &contents[column][..*rows as usize] {
                            batch.push(column, row).unwrap();
                        }
                    }
                }
            }
            let mut published = batch.publish(*rows).unwrap();
            pass_overflow(&mut published, &mut right.reader);
            out.push_back((number, *rows, contents));
        }
        while let Some(expected) = out.pop_front() {
            check(&mut right.reader, &layout, expected);
        }
        prop_assert!(right.reader.next_batch().unwrap().is_none());
    }

    #[test]
    fn a_log_gives_what_was_put_in_and_keeps_it_while_it_is_held(
        ring_lines in 64_u64..200,
        window in 1_u32..20,
        operations in vec((0_u8..3, 0_usize..2032), 0..300),
    ) {
        let (mut writer, mut reader) = log::connected(ring_lines * 64, window);
        let mut written = VecDeque::new();
        let mut held: Vec<(Lease, Vec<u8>)> = Vec::new();
        for (operation, number) in operations {
            match operation {
                0 => {
                    let record: Vec<u8> = (0..number).map(|i| (i + number) as u8).collect();
                    let sequence = writer.append(&record, 0).unwrap();
                    let out = written.len() + held.len();
                    prop_assert!(sequence.is_none() || out < window as usize);
                    prop_assert!(sequence.is_some() || out > 0, "an empty log has room");
                    written.extend(sequence.map(|_| record));
                }
                1 => {
                    let lease = reader.next_record().unwrap();
                    prop_assert_eq!(lease.is_some(), !written.is_empty());
                    held.extend(lease.into_iter().zip(written.pop_front()));
                }
                _ if !held.is_empty() => {
                    let (lease, record) = held.swap_remove(number % held.len());
                    prop_assert_eq!(lease.copy().unwrap(), record);
                }
                _ => {}
            }
        }
        for (lease, record) in held {
            prop_assert_eq!(lease.copy().unwrap(), record);
        }
    }
}

/// Reads the next batch, and checks that it is the one expected.
fn check(
    reader: &mut envmill_ring::ColumnsReader,
    layout: &Layout,
    (number, rows, contents): (usize, u32, &Contents),
) {
    let batch = reader.next_batch().unwrap().unwrap();
    assert_eq!((batch.sequence(), batch.rows()), (number as u64, rows as usize));
    for (column, spec) in layout.columns().enumerate() {
        match spec.kind() {
            ColumnKind::Fixed { dtype, shape } => {
                let elements = rows as usize * shape.iter().product::<u32>() as usize;
                fixed_as!(*dtype, check_column, batch, column, number + column, elements);
            }
            ColumnKind::Ragged { .. } => {
                let mut read = RaggedRows::new();
                batch.ragged(column, &mut read).unwrap();
                assert_eq!(read.iter().collect::<Vec<_>>(), contents[column][..rows as usize]);
            }
        }
    }
    batch.release();
}
