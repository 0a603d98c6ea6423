//! Frames as they are written.

/// A frame.
pub(crate) fn frame(out: &mut Vec<u8>, bytes: &[u8], more: bool) {
    match u8::try_from(bytes.len()) {
        Ok(len) => out.extend_from_slice(&[u8::from(more), len]),
        Err(_) => out.extend_from_slice(&long_head(bytes.len(), more)),
    }
    out.extend_from_slice(bytes);
}

/// What stands before a frame that may be long.
pub(crate) fn long_head(len: usize, more: bool) -> [u8; 9] {
    let mut head = [0; 9];
    head[0] = 0b10 | u8::from(more);
    head[1..].copy_from_slice(&(len as u64).to_be_bytes());
    head
}

/// The answer to a command, if it is a PING: its context, behind two bytes of how long it is valid, comes
/// back.
pub(crate) fn pong(out: &mut Vec<u8>, command: &[u8]) {
    let Some(rest) = command.strip_prefix(b"\x04PING") else { return };
    let context = rest.get(2..).unwrap_or_default();
    // The protocol allows no longer ones.
    let context = context.get(..16).unwrap_or(context);
    out.push(0b100);
    out.push(u8::try_from(5 + context.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(b"\x04PONG");
    out.extend_from_slice(context);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_is_answered_with_its_context() {
        let mut out = Vec::new();
        pong(&mut out, b"\x04PING\x00\x0ahi");
        assert_eq!(out, b"\x04\x07\x04PONGhi");
        out.clear();
        pong(&mut out, b"\x09SUBSCRIBE");
        assert!(out.is_empty());
    }
}
