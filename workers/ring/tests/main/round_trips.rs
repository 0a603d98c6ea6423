//! What one side publishes the other reads.

use std::os::fd::AsFd as _;

use envmill_ring::{
    ColumnError, ColumnSpec, ColumnsWriter, DType, Layout, Limits, OpenError, RaggedRows,
    ReadError, WriteError,
};

use crate::sides::{ID, KIND, POSE, Side, TEXT, connected, pass_overflow, publish, steps};

#[test]
fn batches_go_round_until_slots_are_taken() {
    let (Side { writer: mut left, .. }, mut right) = connected(&steps());
    assert_eq!(right.reader.layout(), left.layout());
    let (mut ids, mut kinds, mut poses) = (Vec::<u64>::new(), Vec::<u8>::new(), vec![]);
    let mut texts = RaggedRows::new();
    for lap in 0..3_u64 {
        for batch in 0..2 {
            let published = publish(&mut left, 10 * batch, &[b"hello", b""]);
            assert_eq!(published.sequence, 2 * lap + batch);
        }
        assert!(left.begin().unwrap().is_none());
        for sequence in 0..2 {
            let batch = right.reader.next_batch().unwrap().unwrap();
            assert_eq!((batch.sequence(), batch.rows()), (2 * lap + sequence, 2));
            batch.fixed(ID, &mut ids).unwrap();
            batch.fixed(KIND, &mut kinds).unwrap();
            batch.fixed::<f32>(POSE, &mut poses).unwrap();
            batch.ragged(TEXT, &mut texts).unwrap();
            assert_eq!(ids, [10 * sequence, 10 * sequence + 1]);
            assert_eq!(kinds, [0, 1]);
            let first = 10.0 * sequence as f32;
            assert_eq!(poses, [first, 0.0, 0.5, first, 1.0, 0.5]);
            assert_eq!(texts.iter().collect::<Vec<_>>(), [&b"hello"[..], b""]);
            batch.release();
        }
        assert!(right.reader.next_batch().unwrap().is_none());
    }
}

#[test]
fn a_batch_that_is_not_released_comes_again_and_one_not_published_does_not_come() {
    let (mut left, mut right) = connected(&steps());
    let mut batch = left.writer.begin().unwrap().unwrap();
    batch.push(TEXT, b"forgotten").unwrap();
    drop(batch);
    assert!(right.reader.next_batch().unwrap().is_none());
    let _ = publish(&mut left.writer, 0, &[b"kept"]);
    for _ in 0..2 {
        let batch = right.reader.next_batch().unwrap().unwrap();
        let mut texts = RaggedRows::new();
        batch.ragged(TEXT, &mut texts).unwrap();
        assert_eq!(texts.row(0).unwrap(), "kept");
        assert_eq!((texts.len(), texts.row(1), texts.slice(1)), (1, None, None));
    }
}

#[test]
fn a_column_that_does_not_fit_goes_beside_its_batch() {
    let (mut left, mut right) = connected(&steps());
    let long = vec![b'x'; 100_000];
    let mut published = publish(&mut left.writer, 0, &[b"first", &long, b"last"]);
    assert_eq!(published.overflow.len(), 1);
    assert!(right.reader.next_batch().unwrap().is_none(), "not without its column");
    pass_overflow(&mut published, &mut right.reader);
    let batch = right.reader.next_batch().unwrap().unwrap();
    let mut texts = RaggedRows::new();
    batch.ragged(TEXT, &mut texts).unwrap();
    assert_eq!(texts.iter().collect::<Vec<_>>(), [&b"first"[..], &long, b"last"]);
    batch.release();
    let _ = publish(&mut left.writer, 0, &[b"fits again"]);
    assert_eq!(right.reader.next_batch().unwrap().unwrap().rows(), 1);
}

#[test]
fn rows_are_copied_to_where_they_belong() {
    let (mut left, mut right) = connected(&steps());
    let numbers = [1_u32.to_le_bytes(), 2_u32.to_le_bytes()].concat();
    let _ = publish(&mut left.writer, 0, &[&numbers, b"", b"abcdefgh"]);
    let batch = right.reader.next_batch().unwrap().unwrap();
    let mut bounds = Vec::new();
    batch.ragged_bounds(TEXT, &mut bounds).unwrap();
    assert_eq!(bounds, [0, 8, 8, 16]);
    let mut words = vec![9_u32];
    batch.copy_ragged(TEXT, 0..8, &mut words).unwrap();
    batch.copy_ragged(TEXT, 8..8, &mut words).unwrap();
    assert_eq!(words, [9, 1, 2]);
    let mut bytes = Vec::<u8>::new();
    batch.copy_ragged(TEXT, 9..12, &mut bytes).unwrap();
    assert_eq!(bytes, b"bcd");
    // Half an element, one that is not aligned, what is not in the arena, and what ends before it begins.
    #[expect(clippy::reversed_empty_ranges, reason = "what a peer's offsets may be")]
    for odd in [0..6, 2..6, 64..68, u32::MAX - 3..u32::MAX, 8..4] {
        let refused = batch.copy_ragged(TEXT, odd, &mut words);
        assert!(matches!(refused, Err(ReadError::Offsets { column: TEXT })));
    }
    assert!(matches!(
        batch.copy_ragged(ID, 0..4, &mut words),
        Err(ReadError::Column(ColumnError::NotRagged(ID)))
    ));
    batch.release();
    let mut published = publish(&mut left.writer, 0, &[&[b'x'; 100]]);
    pass_overflow(&mut published, &mut right.reader);
    let batch = right.reader.next_batch().unwrap().unwrap();
    let beside = batch.ragged_bounds(TEXT, &mut bounds);
    assert!(matches!(beside, Err(ReadError::OverflowColumns(_))) && bounds.is_empty());
}

#[test]
fn rows_may_come_in_pieces_and_be_taken_back() {
    let (mut left, mut right) = connected(&steps());
    let long = [b'y'; 80];
    let mut batch = left.writer.begin().unwrap().unwrap();
    batch.append(TEXT, b"one, ").unwrap();
    batch.append(TEXT, b"two").unwrap();
    batch.end_row(TEXT).unwrap();
    batch.append(TEXT, b"never").unwrap();
    batch.append(TEXT, &long).unwrap();
    batch.drop_row(TEXT).unwrap();
    batch.push(TEXT, b"three").unwrap();
    let mut published = batch.publish(2).unwrap();
    pass_overflow(&mut published, &mut right.reader);
    let mut texts = RaggedRows::new();
    right.reader.next_batch().unwrap().unwrap().ragged(TEXT, &mut texts).unwrap();
    assert_eq!(texts.iter().collect::<Vec<_>>(), ["one, two", "three"]);
}

#[test]
fn mistakes_of_the_writer_are_told_and_change_nothing() {
    let (mut left, mut right) = connected(&steps());
    let mut batch = left.writer.begin().unwrap().unwrap();
    assert_eq!(batch.fixed::<u8>(9).unwrap_err(), ColumnError::Absent(9));
    let asked = DType::I64;
    assert_eq!(batch.fixed::<i64>(ID).unwrap_err(), ColumnError::NotFixed { column: ID, asked });
    assert_eq!(batch.set(ID, 4, 0_u64).unwrap_err(), ColumnError::Row { column: ID, row: 4 });
    assert!(batch.set(POSE, 0, 1.0_f32).is_err(), "a row has three");
    assert!(matches!(batch.push(ID, b""), Err(WriteError::Column(ColumnError::NotRagged(ID)))));
    for _ in 0..4 {
        batch.push(TEXT, b"a").unwrap();
    }
    assert!(matches!(batch.push(TEXT, b"a"), Err(WriteError::RowsFull { rows_max: 4 })));
    assert!(matches!(
        batch.publish(3),
        Err(WriteError::RowsMissing { column: TEXT, pushed: 4, rows: 3 })
    ));
    let mut batch = left.writer.begin().unwrap().unwrap();
    batch.append(TEXT, b"open").unwrap();
    assert!(matches!(batch.publish(0), Err(WriteError::RowsMissing { .. })));
    let batch = left.writer.begin().unwrap().unwrap();
    assert!(matches!(batch.publish(5), Err(WriteError::RowsFull { .. })));
    assert!(right.reader.next_batch().unwrap().is_none());
}

#[test]
fn mistakes_of_the_reader_are_told() {
    let (mut left, mut right) = connected(&steps());
    let _ = publish(&mut left.writer, 0, &[b"a", b"b"]);
    let batch = right.reader.next_batch().unwrap().unwrap();
    assert!(matches!(batch.fixed::<f64>(POSE, &mut vec![]), Err(ReadError::Column(_))));
    assert!(matches!(batch.ragged(ID, &mut RaggedRows::new()), Err(ReadError::Column(_))));
    assert!(matches!(batch.copy_fixed(ID, &mut [0_u64]), Err(ReadError::Column(_))));
    let mut ids = [9_u64; 3];
    assert_eq!(batch.copy_fixed(ID, &mut ids).unwrap(), 2);
    assert_eq!(ids, [0, 1, 9]);
}

#[test]
fn a_column_beside_its_batch_has_a_bound() {
    let limits = Limits { overflow_bytes_max: 100, ..Limits::default() };
    let mut left = ColumnsWriter::create(steps()).unwrap();
    let mut right = ColumnsWriter::create(steps()).unwrap();
    let _from_right = left.connect(right.as_fd(), &limits).unwrap();
    let mut batch = left.begin().unwrap().unwrap();
    batch.push(TEXT, &[b'x'; 60]).unwrap();
    let full = batch.push(TEXT, &[b'x'; 41]);
    assert!(matches!(full, Err(WriteError::BytesFull { column: TEXT, bytes_max: 100 })));
    batch.push(TEXT, &[b'x'; 40]).unwrap();
    let full = batch.push(TEXT, b"x");
    assert!(matches!(full, Err(WriteError::BytesFull { .. })));
    let mut published = batch.publish(2).unwrap();
    let mut from_left = right.connect(left.as_fd(), &limits).unwrap();
    pass_overflow(&mut published, &mut from_left);
    let mut texts = RaggedRows::new();
    from_left.next_batch().unwrap().unwrap().ragged(TEXT, &mut texts).unwrap();
    assert_eq!(texts.bytes().len(), 100);
}

#[test]
fn a_segment_without_columns_only_acknowledges() {
    let mut producer = ColumnsWriter::create(steps()).unwrap();
    let mut consumer = ColumnsWriter::create(Layout::new(1, 1, []).unwrap()).unwrap();
    let mut reader = consumer.connect(producer.as_fd(), &Limits::default()).unwrap();
    let _nothing = producer.connect(consumer.as_fd(), &Limits::default()).unwrap();
    assert!(matches!(
        producer.connect(consumer.as_fd(), &Limits::default()),
        Err(OpenError::Connected)
    ));
    for id in 0..5 {
        let _ = publish(&mut producer, id, &[b"one way"]);
        reader.next_batch().unwrap().unwrap().release();
    }
}

#[test]
fn the_state_and_the_heartbeat_are_seen() {
    let (left, right) = connected(&steps());
    assert_eq!((right.reader.peer_state(), right.reader.peer_heartbeat()), (0, 0));
    left.writer.set_state(7);
    left.writer.beat();
    left.writer.beat();
    assert_eq!((right.reader.peer_state(), right.reader.peer_heartbeat()), (7, 2));
}

#[test]
fn every_type_goes_round() {
    macro_rules! check {
        ($($type:ty => $dtype:ident),* $(,)?) => {{
            let columns = [$(ColumnSpec::fixed(stringify!($dtype), DType::$dtype, &[2])),*];
            let layout = Layout::new(3, 1, columns).unwrap();
            let (mut left, mut right) = connected(&layout);
            let mut batch = left.writer.begin().unwrap().unwrap();
            $(
                let column = layout.column(stringify!($dtype)).unwrap();
                batch.fixed::<$type>(column).unwrap().fill(<$type>::MAX);
                batch.set_row(column, 1, &[<$type>::MIN; 2]).unwrap();
            )*
            let _ = batch.publish(2).unwrap();
            let batch = right.reader.next_batch().unwrap().unwrap();
            $({
                let column = layout.column(stringify!($dtype)).unwrap();
                let mut read = Vec::<$type>::new();
                batch.fixed(column, &mut read).unwrap();
                let (most, least) = (<$type>::MAX, <$type>::MIN);
                assert_eq!(read, [most, most, least, least]);
            })*
        }};
    }
    check! {
        u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64,
        f32 => F32, f64 => F64, u8 => Bool,
    }
}
