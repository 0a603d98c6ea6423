//! What the fuzz targets reach of this crate's inside; no part of its interface.

use crate::websocket::{Reader, Received, Violation};

/// A limit that a fuzzer's inputs can reach.
const LIMIT_BYTES: usize = 4096;

/// Bytes of a socket, in pieces of the size that the first byte gives: the messages are the same as
/// when all come at once, up to the same violation.
///
/// # Panics
///
/// If they are not, or a message is over the limit.
pub fn websocket(bytes: &[u8]) {
    let Some((first, wire)) = bytes.split_first() else { return };
    let whole = messages([wire].into_iter());
    let pieces = messages(wire.chunks(usize::from(*first).max(1)));
    assert_eq!(whole, pieces, "the messages depend on how their bytes come");
}

fn messages<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Received>, Option<Violation>) {
    let mut reader = Reader::default();
    let mut received = Vec::new();
    for mut piece in pieces {
        loop {
            match reader.next(&mut piece, LIMIT_BYTES) {
                Ok(Some(message)) => {
                    if let Received::Text(text) = &message {
                        assert!(text.len() <= LIMIT_BYTES);
                    }
                    received.push(message);
                }
                Ok(None) => break,
                Err(violation) => return (received, Some(violation)),
            }
        }
        assert!(piece.is_empty());
    }
    (received, None)
}
