//! What one side publishes the other reads.

use std::os::fd::AsFd as _;

use envmill_ring::{
    Channel, ColumnSpec, ColumnsReader, ColumnsWriter, DType, Layout, Limits, Message,
    OverflowMessage, RaggedRows, Received,
};

fn sides(layout: &Layout) -> ((ColumnsWriter, ColumnsReader), (ColumnsWriter, ColumnsReader)) {
    let mut left = ColumnsWriter::create(layout.clone()).unwrap();
    let mut right = ColumnsWriter::create(layout.clone()).unwrap();
    let from_right = left.connect(right.as_fd(), &Limits::default()).unwrap();
    let from_left = right.connect(left.as_fd(), &Limits::default()).unwrap();
    ((left, from_right), (right, from_left))
}

fn steps() -> Layout {
    let columns = [
        ColumnSpec::fixed("id", DType::U64, &[]),
        ColumnSpec::fixed("kind", DType::U8, &[]),
        ColumnSpec::ragged("text", 64),
    ];
    Layout::new(4, 2, columns).unwrap()
}

#[test]
fn batches_go_round_until_slots_are_taken() {
    let ((mut left, _), (_right, mut from_left)) = sides(&steps());
    assert_eq!(from_left.layout(), left.layout());
    let mut next = 0_u64;
    for _ in 0..3 {
        for _ in 0..2 {
            let mut batch = left.begin().unwrap().unwrap();
            batch.fixed::<u64>(0).unwrap()[..2].copy_from_slice(&[next, next + 1]);
            batch.set(1, 0, 7_u8).unwrap();
            batch.set(1, 1, 8_u8).unwrap();
            batch.push(2, b"hello").unwrap();
            batch.push(2, b"").unwrap();
            assert_eq!(batch.publish(2).unwrap().sequence, next);
            next += 1;
        }
        assert!(left.begin().unwrap().is_none());
        let (mut id, mut kind) = (Vec::<u64>::new(), Vec::<u8>::new());
        let mut text = RaggedRows::new();
        for back in [2, 1] {
            let batch = from_left.next_batch().unwrap().unwrap();
            batch.fixed(0, &mut id).unwrap();
            batch.fixed(1, &mut kind).unwrap();
            batch.ragged(2, &mut text).unwrap();
            assert_eq!(id, [next - back, next - back + 1]);
            assert_eq!(kind, [7, 8]);
            assert_eq!(text.iter().collect::<Vec<_>>(), [&b"hello"[..], b""]);
            batch.release();
        }
        assert!(from_left.next_batch().unwrap().is_none());
    }
}

#[test]
fn a_column_that_does_not_fit_goes_beside_its_batch() {
    let ((mut left, _), (_right, mut from_left)) = sides(&steps());
    let (ours, theirs) = Channel::pair().unwrap();
    let theirs = Channel::from(theirs);
    let long = vec![b'x'; 100_000];
    let mut batch = left.begin().unwrap().unwrap();
    batch.push(2, b"first").unwrap();
    batch.push(2, &long).unwrap();
    batch.push(2, b"last").unwrap();
    let mut published = batch.publish(3).unwrap();
    assert_eq!(published.overflow.len(), 1);
    assert!(from_left.next_batch().unwrap().is_none(), "not without its column");
    assert!(published.send_overflow(&ours).unwrap());
    let mut message = Message::new();
    assert_eq!(theirs.receive(&mut message).unwrap(), Received::Message);
    let passed = OverflowMessage::decode(message.bytes()).unwrap();
    let memory = message.descriptors().pop().unwrap();
    from_left.attach_overflow(passed.sequence, passed.column as usize, memory).unwrap();
    let batch = from_left.next_batch().unwrap().unwrap();
    let mut text = RaggedRows::new();
    batch.ragged(2, &mut text).unwrap();
    assert_eq!(text.iter().collect::<Vec<_>>(), [&b"first"[..], &long, b"last"]);
    batch.release();
}
