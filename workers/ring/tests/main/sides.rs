//! Two sides in one process.

use std::os::fd::AsFd as _;

use envmill_ring::{
    Channel, ColumnSpec, ColumnsReader, ColumnsWriter, DType, Layout, Limits, Message,
    OverflowMessage, Published, Received,
};

/// One of two sides: it publishes in its own segment, and reads the other's.
pub(crate) struct Side {
    pub(crate) writer: ColumnsWriter,
    pub(crate) reader: ColumnsReader,
}

/// Two sides that are connected, each with this layout.
pub(crate) fn connected(layout: &Layout) -> (Side, Side) {
    let mut left = ColumnsWriter::create(layout.clone()).unwrap();
    let mut right = ColumnsWriter::create(layout.clone()).unwrap();
    let from_right = left.connect(right.as_fd(), &Limits::default()).unwrap();
    let from_left = right.connect(left.as_fd(), &Limits::default()).unwrap();
    (Side { writer: left, reader: from_right }, Side { writer: right, reader: from_left })
}

pub(crate) const ID: usize = 0;
pub(crate) const KIND: usize = 1;
pub(crate) const POSE: usize = 2;
pub(crate) const TEXT: usize = 3;

/// Four rows, two slots, and 64 bytes of text: small enough to be full at once.
pub(crate) fn steps() -> Layout {
    let columns = [
        ColumnSpec::fixed("id", DType::U64, &[]),
        ColumnSpec::fixed("kind", DType::U8, &[]),
        ColumnSpec::fixed("pose", DType::F32, &[3]),
        ColumnSpec::ragged("text", 64),
    ];
    Layout::new(4, 2, columns).unwrap()
}

/// Publishes rows of [`steps`], numbered from `id` on.
pub(crate) fn publish(writer: &mut ColumnsWriter, id: u64, texts: &[&[u8]]) -> Published {
    let mut batch = writer.begin().unwrap().unwrap();
    for (row, text) in texts.iter().enumerate() {
        batch.set(ID, row, id + row as u64).unwrap();
        batch.set(KIND, row, row as u8).unwrap();
        batch.set_row(POSE, row, &[id as f32, row as f32, 0.5]).unwrap();
        batch.push(TEXT, text).unwrap();
    }
    batch.publish(texts.len() as u32).unwrap()
}

/// Passes what did not fit through a socket, and attaches it on the other side.
pub(crate) fn pass_overflow(published: &mut Published, to: &mut ColumnsReader) {
    let (ours, theirs) = Channel::pair().unwrap();
    let theirs = Channel::from(theirs);
    assert!(published.send_overflow(&ours).unwrap());
    drop(ours);
    let mut message = Message::new();
    while theirs.receive(&mut message).unwrap() == Received::Message {
        let passed = OverflowMessage::decode(message.bytes()).unwrap();
        let memory = message.descriptors().pop().unwrap();
        to.attach_overflow(passed.sequence, passed.column as usize, memory).unwrap();
    }
}
