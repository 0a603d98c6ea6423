//! From bytes to messages.
//!
//! A reader owns nothing while no frame is under way: bytes are read into a buffer that all sockets
//! share, a whole frame's payload is copied once into an allocation of exactly its size, and only
//! a frame that arrives in pieces keeps a buffer of its own until it is whole.

use std::{cmp, io::Cursor, mem};

use bytes::Bytes;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{CloseCode, Control, Data, OpCode},
};

/// The longest header that a server's frame can have.
const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a control frame.
const CONTROL_BYTES_MAX: usize = 125;

/// What is allocated at once for a frame that has announced more; the rest follows as it arrives, so
/// that a header alone cannot make us allocate the limit.
const FIRST_ALLOCATION_BYTES: usize = 64 * 1024;

/// A message, or a control frame.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    /// A text message in an allocation of exactly its size. Whether it is UTF-8 is for the codec to
    /// find out, which scans it anyway.
    Text(Bytes),
    /// A ping, to be answered with the same payload.
    Ping(Bytes),
    /// A pong.
    Pong,
    /// The server closes; 1005 where it gave no code.
    Close {
        /// The close code.
        code: u16,
        /// The reason as sent.
        reason: String,
    },
}

/// Why the bytes of a socket make no sense any more. The connection must be given up.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Violation {
    /// A message is larger than the limit.
    #[error("a message of at least {bytes} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// How large it is, as far as is known.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// RFC 6455 does not allow it.
    #[error("the server broke the WebSocket protocol: {0}")]
    Protocol(String),
}

impl Violation {
    fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }
}

/// Assembles messages from the bytes of one socket.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The frame under way, if some of it has arrived.
    partial: Option<Box<Partial>>,
    /// The data so far of a message sent in several frames.
    fragments: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Partial {
    head: [u8; HEADER_BYTES_MAX],
    head_bytes: usize,
    /// The header, once it is whole, with the length of the payload.
    header: Option<(FrameHeader, usize)>,
    payload: Vec<u8>,
}

impl Reader {
    /// The next message in `input`, which is advanced past it; `None` once all of `input` is taken
    /// in and more is needed. `limit` bounds a message, in bytes.
    ///
    /// # Errors
    ///
    /// The first thing that the protocol or the limit forbids; the reader must not be used after it.
    pub(crate) fn next(
        &mut self,
        input: &mut &[u8],
        limit: usize,
    ) -> Result<Option<Received>, Violation> {
        while !input.is_empty() {
            let received = match self.partial.take() {
                Some(partial) => self.resume(partial, input, limit)?,
                None => self.whole(input, limit)?,
            };
            if received.is_some() {
                return Ok(received);
            }
        }
        Ok(None)
    }

    /// A frame that lies in `input` as a whole, which is how nearly all arrive.
    fn whole(&mut self, input: &mut &[u8], limit: usize) -> Result<Option<Received>, Violation> {
        let mut cursor = Cursor::new(*input);
        let Some((header, length)) = parse(&mut cursor)? else {
            let mut partial = Box::<Partial>::default();
            partial.head[..input.len()].copy_from_slice(input);
            partial.head_bytes = input.len();
            *input = &[];
            self.partial = Some(partial);
            return Ok(None);
        };
        let length = self.check(&header, length, limit)?;
        let rest = &input[header_bytes(&cursor)..];
        if let Some((payload, after)) = rest.split_at_checked(length) {
            *input = after;
            return self.frame(&header, Payload::Borrowed(payload), limit);
        }
        let mut partial =
            Box::new(Partial { header: Some((header, length)), ..Partial::default() });
        partial.payload.reserve_exact(cmp::min(length, FIRST_ALLOCATION_BYTES.max(rest.len())));
        partial.payload.extend_from_slice(rest);
        *input = &[];
        self.partial = Some(partial);
        Ok(None)
    }

    /// More of a frame that began in an earlier `input`.
    fn resume(
        &mut self,
        mut partial: Box<Partial>,
        input: &mut &[u8],
        limit: usize,
    ) -> Result<Option<Received>, Violation> {
        while partial.header.is_none() {
            let Some((first, after)) = input.split_first() else {
                self.partial = Some(partial);
                return Ok(None);
            };
            // A header is whole at its 14th byte at the latest, so this stays within `head`.
            partial.head[partial.head_bytes] = *first;
            partial.head_bytes += 1;
            *input = after;
            let mut cursor = Cursor::new(&partial.head[..partial.head_bytes]);
            if let Some((header, length)) = parse(&mut cursor)? {
                let length = self.check(&header, length, limit)?;
                partial.header = Some((header, length));
            }
        }
        let Partial { header: Some((header, length)), payload, .. } = &mut *partial else {
            return Ok(None);
        };
        let length = *length;
        let taken = cmp::min(length - payload.len(), input.len());
        if payload.capacity() < payload.len() + taken {
            // Doubling, up to exactly the announced length.
            let capacity = cmp::min(length, FIRST_ALLOCATION_BYTES.max(2 * payload.capacity()));
            payload.reserve_exact(capacity.max(payload.len() + taken) - payload.len());
        }
        payload.extend_from_slice(&input[..taken]);
        *input = &input[taken..];
        if payload.len() < length {
            self.partial = Some(partial);
            return Ok(None);
        }
        let payload = mem::take(payload);
        self.frame(header, Payload::Owned(payload), limit)
    }

    /// Refuses what a header announces before anything is allocated for it.
    fn check(&self, header: &FrameHeader, length: u64, limit: usize) -> Result<usize, Violation> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::protocol("a reserved bit is set, and no extension was agreed"));
        }
        if header.mask.is_some() {
            return Err(Violation::protocol("a server's frame is masked"));
        }
        let so_far = self.fragments.as_ref().map_or(0, Vec::len);
        match header.opcode {
            OpCode::Control(_) if !header.is_final => {
                return Err(Violation::protocol("a control frame is fragmented"));
            }
            OpCode::Control(_) if length > CONTROL_BYTES_MAX as u64 => {
                return Err(Violation::protocol("a control frame is longer than 125 bytes"));
            }
            OpCode::Control(_) => {}
            OpCode::Data(Data::Continue) if self.fragments.is_none() => {
                return Err(Violation::protocol("a continuation continues nothing"));
            }
            OpCode::Data(Data::Text) if self.fragments.is_some() => {
                return Err(Violation::protocol("a message began inside another"));
            }
            OpCode::Data(Data::Binary) => {
                return Err(Violation::protocol("a binary message, where OpenEnv has only text"));
            }
            OpCode::Data(_) => {}
        }
        let bytes = length.saturating_add(so_far as u64);
        match usize::try_from(length) {
            Ok(length) if bytes <= limit as u64 => Ok(length),
            _ => Err(Violation::TooLarge { bytes, limit }),
        }
    }

    /// What a whole frame means.
    fn frame(
        &mut self,
        header: &FrameHeader,
        payload: Payload<'_>,
        limit: usize,
    ) -> Result<Option<Received>, Violation> {
        match header.opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Received::Ping(payload.into_bytes()))),
            OpCode::Control(Control::Pong) => Ok(Some(Received::Pong)),
            OpCode::Control(_) => close(payload.as_slice()).map(Some),
            OpCode::Data(_) if header.is_final && self.fragments.is_none() => {
                Ok(Some(Received::Text(payload.into_bytes())))
            }
            OpCode::Data(_) => {
                let so_far = self.fragments.get_or_insert_default();
                debug_assert!(so_far.len() + payload.as_slice().len() <= limit);
                so_far.extend_from_slice(payload.as_slice());
                if !header.is_final {
                    return Ok(None);
                }
                let whole = Payload::Owned(self.fragments.take().unwrap_or_default());
                Ok(Some(Received::Text(whole.into_bytes())))
            }
        }
    }
}

enum Payload<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

impl Payload<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(slice) => slice,
            Self::Owned(vec) => vec,
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Borrowed(slice) => Bytes::copy_from_slice(slice),
            Self::Owned(mut vec) => {
                vec.shrink_to_fit();
                Bytes::from(vec)
            }
        }
    }
}

fn parse(cursor: &mut Cursor<&[u8]>) -> Result<Option<(FrameHeader, u64)>, Violation> {
    FrameHeader::parse(cursor).map_err(|error| Violation::protocol(error.to_string()))
}

fn header_bytes(cursor: &Cursor<&[u8]>) -> usize {
    // At most HEADER_BYTES_MAX.
    usize::try_from(cursor.position()).unwrap_or(HEADER_BYTES_MAX)
}

fn close(payload: &[u8]) -> Result<Received, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(Received::Close { code: 1005, reason: String::new() }),
        [_] => return Err(Violation::protocol("a close frame of one byte")),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !CloseCode::from(code).is_allowed() {
        return Err(Violation::protocol(format!("the close code {code} is not allowed on a wire")));
    }
    let reason = String::from_utf8_lossy(reason).into_owned();
    Ok(Received::Close { code, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            n @ 0..126 => frame.push(n as u8),
            n @ 126..65_536 => {
                frame.push(126);
                frame.extend_from_slice(&(n as u16).to_be_bytes());
            }
            n => {
                frame.push(127);
                frame.extend_from_slice(&(n as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    fn all(pieces: &[&[u8]]) -> Result<Vec<Received>, Violation> {
        let mut reader = Reader::default();
        let mut received = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(next) = reader.next(&mut input, LIMIT)? {
                received.push(next);
            }
            assert!(input.is_empty());
        }
        Ok(received)
    }

    fn text(text: &str) -> Received {
        Received::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn any_cut_of_the_bytes_gives_the_same_messages() {
        let mut wire = frame(0x81, b"one");
        wire.extend(frame(0x89, b"are you there"));
        wire.extend(frame(0x01, b"in "));
        wire.extend(frame(0x8a, b""));
        wire.extend(frame(0x00, "thr\u{e9}".as_bytes()));
        wire.extend(frame(0x80, b"e parts"));
        wire.extend(frame(0x81, "x".repeat(300).as_bytes()));
        wire.extend(frame(0x81, b""));
        wire.extend(frame(0x88, &[0x03, 0xf3, b'b', b'y', b'e']));
        let expected = vec![
            text("one"),
            Received::Ping(Bytes::from_static(b"are you there")),
            Received::Pong,
            text("in thr\u{e9}e parts"),
            text(&"x".repeat(300)),
            text(""),
            Received::Close { code: 1011, reason: "bye".into() },
        ];
        assert_eq!(all(&[&wire]).unwrap(), expected);
        for size in 1..40 {
            assert_eq!(all(&wire.chunks(size).collect::<Vec<_>>()).unwrap(), expected);
        }
        for cut in 0..wire.len() {
            assert_eq!(all(&[&wire[..cut], &wire[cut..]]).unwrap(), expected);
        }
    }

    #[test]
    fn a_large_message_comes_in_an_allocation_of_its_size_and_leaves_nothing_behind() {
        let wire = frame(0x81, &vec![b'y'; 1_000_000]);
        let mut reader = Reader::default();
        let mut received = Vec::new();
        for mut piece in wire.chunks(64 * 1024) {
            received.extend(reader.next(&mut piece, LIMIT).unwrap());
            let Some(partial) = &reader.partial else { continue };
            assert!(partial.payload.capacity() <= 1_000_000, "{}", partial.payload.capacity());
        }
        assert_eq!(received.len(), 1);
        assert!(reader.partial.is_none() && reader.fragments.is_none());
    }

    #[test]
    fn a_header_alone_does_not_allocate_what_it_announces() {
        let mut reader = Reader::default();
        let mut head: &[u8] = &[0x81, 127, 0, 0, 0, 0, 0, 0x0f, 0xff, 0xff];
        assert_eq!(reader.next(&mut head, LIMIT), Ok(None));
        assert!(reader.partial.unwrap().payload.capacity() <= FIRST_ALLOCATION_BYTES);
    }

    #[test]
    fn what_is_too_large_is_refused_at_its_header() {
        let head: &[u8] = &[0x81, 127, 0, 0, 0, 0, 0x0c, 0, 0, 0];
        assert_eq!(
            all(&[head]),
            Err(Violation::TooLarge { bytes: 0x0c00_0000, limit: LIMIT }),
            "one frame"
        );
        let mut wire = frame(0x01, &vec![b'z'; LIMIT - 1]);
        wire.extend(frame(0x80, b"zz"));
        assert_eq!(
            all(&[&wire]),
            Err(Violation::TooLarge { bytes: LIMIT as u64 + 1, limit: LIMIT }),
            "the sum of fragments"
        );
        let endless: &[u8] =
            &[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert!(matches!(all(&[endless]), Err(Violation::Protocol(_))), "masked comes first");
    }

    #[test]
    fn what_the_protocol_forbids_is_refused() {
        for (wire, word) in [
            (frame(0xc1, b"x"), "reserved bit"),
            (frame(0x82, b"x"), "binary"),
            (frame(0x80, b"x"), "continues nothing"),
            (frame(0x09, b"x"), "fragmented"),
            (frame(0x89, &[0; 126]), "125"),
            (frame(0x83, b"x"), "opcode"),
            (frame(0x88, b"x"), "one byte"),
            (frame(0x88, &[0x03, 0xed]), "1005"),
            ([frame(0x01, b"a"), frame(0x81, b"b")].concat(), "inside another"),
            (vec![0x81, 0x81, 1, 2, 3, 4, 5], "masked"),
        ] {
            let Err(Violation::Protocol(message)) = all(&[&wire]) else { panic!("{word}") };
            assert!(message.contains(word), "{message} does not name {word}");
        }
    }
}
