//! Server-sent events, as far as these servers use them.

use bytes::{Buf as _, BytesMut};

use crate::{Error, ErrorKind};

/// Cuts a stream of bytes into the data of its events.
#[derive(Debug, Default)]
pub(super) struct Events {
    bytes: BytesMut,
    /// The first so many bytes have no line's end.
    searched: usize,
}

/// One event is no longer than this.
const EVENT_BYTES_MAX: usize = 16 << 20;

impl Events {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > EVENT_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::Nonsense,
                format!("an event of more than {EVENT_BYTES_MAX} bytes"),
            ));
        }
        Ok(())
    }

    /// The data of the next event that has come whole. One that is spread over lines comes as so many.
    pub(super) fn next(&mut self) -> Option<BytesMut> {
        loop {
            let Some(end) = self.bytes[self.searched..].iter().position(|it| *it == b'\n') else {
                self.searched = self.bytes.len();
                return None;
            };
            let mut line = self.bytes.split_to(self.searched + end);
            self.bytes.advance(1);
            self.searched = 0;
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            if line.starts_with(b"data:") {
                line.advance(5);
                if line.first() == Some(&b' ') {
                    line.advance(1);
                }
                return Some(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_however_they_are_cut() {
        let stream =
            b"data: {\"a\":1}\n\n: comment\r\nevent: x\r\ndata:two\r\n\r\ndata: [DONE]\n\nda";
        for size in 1..stream.len() {
            let mut events = Events::default();
            let mut seen = Vec::new();
            for piece in stream.chunks(size) {
                events.push(piece).unwrap();
                while let Some(data) = events.next() {
                    seen.push(String::from_utf8(data.to_vec()).unwrap());
                }
            }
            assert_eq!(seen, ["{\"a\":1}", "two", "[DONE]"], "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_an_end_is_given_up() {
        let mut events = Events::default();
        let piece = vec![b'x'; 1 << 20];
        let failed = (0..32).any(|_| {
            let pushed = events.push(&piece);
            assert!(events.next().is_none());
            pushed.is_err()
        });
        assert!(failed);
    }
}
