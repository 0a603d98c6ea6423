//! Where WebSocket frames begin and end in what a server sends.

/// The longest frame header: two bytes, eight of length, four of mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// A frame's header, as far as a proxy cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// How long the header itself is.
    pub(super) header_bytes: usize,
    /// How long the payload is.
    pub(super) payload_bytes: u64,
    /// Whether a text or binary message begins here.
    pub(super) begins_message: bool,
}

/// Reads the header at the start of `bytes`; `None` while it is not whole.
pub(super) fn parse_header(bytes: &[u8]) -> Option<Header> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    let (length_bytes, payload_bytes) = match second & 0x7f {
        126 => (2, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (8, u64::from_be_bytes(*rest.first_chunk()?)),
        short => (0, u64::from(short)),
    };
    let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
    let header_bytes = 2 + length_bytes + mask_bytes;
    let opcode = first & 0x0f;
    (bytes.len() >= header_bytes).then_some(Header {
        header_bytes,
        payload_bytes,
        begins_message: opcode == 1 || opcode == 2,
    })
}

/// The header of an unmasked text message in one frame.
pub(super) fn text_header(payload_bytes: u64) -> Vec<u8> {
    let mut header = vec![0x81];
    match payload_bytes {
        0..=125 => header.push(payload_bytes as u8),
        126..=0xffff => {
            header.push(126);
            header.extend((payload_bytes as u16).to_be_bytes());
        }
        _ => {
            header.push(127);
            header.extend(payload_bytes.to_be_bytes());
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_every_length_are_read_back() {
        for payload_bytes in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000_000] {
            let header = text_header(payload_bytes);
            assert!(header.len() <= HEADER_BYTES_MAX);
            for cut in 0..header.len() {
                assert_eq!(parse_header(&header[..cut]), None);
            }
            let expected =
                Header { header_bytes: header.len(), payload_bytes, begins_message: true };
            assert_eq!(parse_header(&header), Some(expected));
        }
    }

    #[test]
    fn control_frames_and_continuations_begin_no_message() {
        for opcode in [0x80, 0x88, 0x89, 0x8a] {
            assert!(!parse_header(&[opcode, 0]).unwrap().begins_message);
        }
        assert!(parse_header(&[0x02, 0]).unwrap().begins_message);
        let masked = parse_header(&[0x81, 0x85, 1, 2, 3, 4]).unwrap();
        assert_eq!((masked.header_bytes, masked.payload_bytes), (6, 5));
    }
}
