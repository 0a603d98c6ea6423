//! From messages to bytes.

use std::hash::{BuildHasher, RandomState};

use tungstenite::protocol::frame::{FrameHeader, coding::OpCode};

/// Draws the mask of each frame.
///
/// A mask keeps a web page from choosing what a proxy sees on the wire. Nobody chooses our payloads
/// to that end, so a seeded mixing of a counter is enough.
#[derive(Debug)]
pub(crate) struct Masks(u64);

impl Masks {
    /// Masks that differ from one worker to another.
    pub(crate) fn new() -> Self {
        Self(RandomState::new().hash_one("masks"))
    }

    fn draw(&mut self) -> [u8; 4] {
        // The finaliser of SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, c, d, ..] = (z ^ (z >> 31)).to_le_bytes();
        [a, b, c, d]
    }
}

/// The length of the header of a client's frame with a payload of 126 to 65,535 bytes.
const USUAL_HEADER_BYTES: usize = 8;

/// Appends one whole, masked frame to `out`, whose payload `fill` appends. The payload is written in
/// its place, and moved only where the header is not of the usual length.
pub(crate) fn append_frame(
    out: &mut Vec<u8>,
    opcode: OpCode,
    masks: &mut Masks,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.resize(start + USUAL_HEADER_BYTES, 0);
    fill(out);
    let length = out.len() - start - USUAL_HEADER_BYTES;
    let mask = masks.draw();
    let header = FrameHeader { opcode, mask: Some(mask), ..FrameHeader::default() };
    let payload = start + header.len(length as u64);
    if payload != start + USUAL_HEADER_BYTES {
        out.resize(out.len().max(payload + length), 0);
        let from = start + USUAL_HEADER_BYTES;
        out.copy_within(from..from + length, payload);
        out.truncate(payload + length);
    }
    // Writing into a slice of the header's own length cannot fail.
    let _ = header.format(length as u64, &mut &mut out[start..payload]);
    apply(&mut out[payload..], mask);
}

fn apply(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from(u32::from_ne_bytes(mask)) * 0x1_0000_0001;
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, Read, Write};

    use tungstenite::{
        Message, WebSocket,
        protocol::{Role, frame::coding::Data},
    };

    use super::*;

    struct Wire(Cursor<Vec<u8>>);

    impl Read for Wire {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Wire {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_server_reads_back_frames_of_every_length() {
        let mut masks = Masks::new();
        let mut out = Vec::new();
        let texts: Vec<_> = [0, 1, 3, 4, 7, 8, 9, 125, 126, 127, 65_535, 65_536, 70_001]
            .map(|n| "0123456789".repeat(n / 10 + 1)[..n].to_owned())
            .into();
        for text in &texts {
            append_frame(&mut out, OpCode::Data(Data::Text), &mut masks, |out| {
                out.extend_from_slice(text.as_bytes());
            });
        }
        let mut server = WebSocket::from_raw_socket(Wire(Cursor::new(out)), Role::Server, None);
        for text in &texts {
            assert_eq!(server.read().unwrap(), Message::text(text.clone()));
        }
    }

    #[test]
    fn masks_differ_from_frame_to_frame() {
        let mut masks = Masks::new();
        let drawn: std::collections::HashSet<_> = (0..1000).map(|_| masks.draw()).collect();
        assert!(drawn.len() > 990);
    }
}
