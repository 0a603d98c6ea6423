//! WebSocket frames as bytes, for those that no library would send.

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    /// The next piece of a message.
    Continuation = 0,
    /// A message of text, or its first piece.
    Text = 1,
}

/// The mask of every frame: it hides nothing, and need not be guessed.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame: the last of its message if `is_last`.
pub(crate) fn frame(opcode: Opcode, is_last: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 14);
    bytes.push(opcode as u8 | if is_last { 0x80 } else { 0 });
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | u8::try_from(length).unwrap_or_default()),
        length @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(length).unwrap_or_default().to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_one_three_or_nine_bytes() {
        for (length, head) in [(5, 2), (125, 2), (126, 4), (0xffff, 4), (0x1_0000, 10)] {
            let bytes = frame(Opcode::Text, true, &vec![b'x'; length]);
            assert_eq!(bytes.len(), head + 4 + length);
            assert_eq!(bytes[0], 0x81);
            assert_eq!(bytes[head + 4] ^ MASK[0], b'x');
        }
        assert_eq!(frame(Opcode::Continuation, false, b"")[0], 0);
    }
}
