//! Requests as frames.

use bytes::Bytes;

use crate::Request;

/// The text frame of a request, in one allocation of exactly its size; `None` for
/// [`Request::Open`], which is a connection and not a message.
///
/// Payloads are spliced in as they are and must be the text of one JSON object; that they are is the
/// caller's part, and a server answers anything else with an error frame. Reset parameters that are
/// empty become `{}`.
#[must_use]
pub fn encode(request: &Request) -> Option<Bytes> {
    let (head, payload, tail) = parts(request)?;
    let mut frame = Vec::with_capacity(head.len() + payload.len() + tail.len());
    frame.extend_from_slice(head);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(tail);
    Some(Bytes::from(frame))
}

/// Appends what [`encode`] would return to `out`, and says whether there was anything.
pub fn encode_into(out: &mut Vec<u8>, request: &Request) -> bool {
    let Some((head, payload, tail)) = parts(request) else { return false };
    out.reserve(head.len() + payload.len() + tail.len());
    out.extend_from_slice(head);
    out.extend_from_slice(payload);
    out.extend_from_slice(tail);
    true
}

fn parts(request: &Request) -> Option<(&'static [u8], &[u8], &'static [u8])> {
    Some(match request {
        Request::Open { .. } => return None,
        Request::Reset { parameters } if parameters.is_empty() => {
            (br#"{"type":"reset","data":{}}"#, b"", b"")
        }
        Request::Reset { parameters } => (br#"{"type":"reset","data":"#, parameters, b"}"),
        Request::Step { action } => (br#"{"type":"step","data":"#, action, b"}"),
        Request::State => (br#"{"type":"state"}"#, b"", b""),
        Request::ToolCall { request } => (br#"{"type":"mcp","data":"#, request, b"}"),
        Request::Close => (br#"{"type":"close"}"#, b"", b""),
    })
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::ServerId;

    fn frame(request: &Request) -> String {
        let frame = encode(request).unwrap();
        let mut appended = b"before".to_vec();
        assert!(encode_into(&mut appended, request));
        assert_eq!(appended.strip_prefix(b"before").unwrap(), frame);
        String::from_utf8(frame.into()).unwrap()
    }

    #[test]
    fn each_request_has_its_frame() {
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert_eq!(
            frame(&Request::Reset { parameters: Bytes::new() }),
            r#"{"type":"reset","data":{}}"#
        );
        assert_eq!(
            frame(&Request::Reset { parameters: text(r#"{"seed":7}"#) }),
            r#"{"type":"reset","data":{"seed":7}}"#
        );
        assert_eq!(
            frame(&Request::Step { action: text(r#"{"n": 1}"#) }),
            r#"{"type":"step","data":{"n": 1}}"#
        );
        assert_eq!(frame(&Request::State), r#"{"type":"state"}"#);
        assert_eq!(
            frame(&Request::ToolCall { request: text(r#"{"jsonrpc":"2.0"}"#) }),
            r#"{"type":"mcp","data":{"jsonrpc":"2.0"}}"#
        );
        assert_eq!(frame(&Request::Close), r#"{"type":"close"}"#);
        assert_eq!(encode(&Request::Open { server: ServerId(0) }), None);
        assert!(!encode_into(&mut Vec::new(), &Request::Open { server: ServerId(0) }));
    }

    #[test]
    fn a_frame_is_allocated_once_and_exactly() {
        let action = Bytes::from(format!(r#"{{"text":"{}"}}"#, "x".repeat(5000)));
        let frame = encode(&Request::Step { action }).unwrap();
        let length = frame.len();
        assert_eq!(BytesMut::from(frame).capacity(), length);
    }
}
