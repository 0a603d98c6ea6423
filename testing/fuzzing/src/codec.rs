//! The OpenEnv codec, both of its sides.

use bytes::Bytes;
use envmill_protocol::{
    MESSAGE_BYTES_MAX, Request,
    openenv::{
        Decoder, Expect, FieldPath, Reply, encode,
        server::{
            ClientMessage, decode_message, encode_error, encode_mcp, encode_observation,
            encode_state,
        },
    },
};

/// A server's frame as a client reads it; the first byte says what is expected. What was read can be
/// sent again, and is then read as the same.
pub(crate) fn client_decode(bytes: &[u8]) {
    let Some((first, frame)) = bytes.split_first() else { return };
    let frame = Bytes::copy_from_slice(frame);
    let expect = [Expect::Observation, Expect::State, Expect::Mcp][usize::from(first % 3)];
    let decoder = Decoder::new("metadata.truncated".parse().ok());
    let reply = match decoder.decode(&frame, expect) {
        Ok(reply) => reply,
        Err(failure) => return assert!(failure.message.len() <= MESSAGE_BYTES_MAX),
    };
    let mut sent = Vec::new();
    match &reply {
        Reply::Observed(observed) => {
            assert!(observed.reward.value.is_none_or(f64::is_finite));
            encode_observation(&mut sent, observed);
        }
        Reply::State(state) => encode_state(&mut sent, state),
        Reply::Mcp(response) => encode_mcp(&mut sent, response),
    }
    let again = decoder.decode(&Bytes::from(sent), expect).expect("what was read can be sent");
    match (reply, again) {
        (Reply::Observed(before), Reply::Observed(after)) => {
            assert_eq!(before.observation, after.observation);
            assert_eq!(before.ended.is_some(), after.ended.is_some());
            // A missing reward goes out as `null`.
            assert_eq!(before.reward.value, after.reward.value);
        }
        (before, after) => assert_eq!(before, after),
    }
}

/// A client's message as a server reads it. What was read can be sent again and is then read as the
/// same; what is refused is answered by an error frame, which a client understands.
pub(crate) fn server_decode(bytes: &[u8]) {
    let message = match decode_message(&Bytes::copy_from_slice(bytes)) {
        Ok(message) => message,
        Err(error) => {
            let mut frame = Vec::new();
            encode_error(&mut frame, &error);
            assert!(frame.len() <= 32 * bytes.len() + 8_192, "{} bytes", frame.len());
            let read = Decoder::default().decode(&Bytes::from(frame), Expect::State);
            assert!(read.is_err(), "an error frame was read as {read:?}");
            return;
        }
    };
    let request = match message.clone() {
        ClientMessage::Reset { parameters } => Request::Reset { parameters },
        ClientMessage::Step { action } => Request::Step { action },
        ClientMessage::Mcp { request } => Request::ToolCall { request },
        ClientMessage::State => Request::State,
        ClientMessage::Close => return,
    };
    let sent = encode(&request).expect("a frame");
    let again = decode_message(&sent).expect("what was read can be sent");
    match (message, again) {
        // A reset without parameters is sent with none, in whichever way.
        (
            ClientMessage::Reset { parameters: before },
            ClientMessage::Reset { parameters: after },
        ) => {
            assert!(before == after || before.is_empty());
        }
        (before, after) => assert_eq!(before, after),
    }
}

/// A path, a line break, and an observation to look it up in.
pub(crate) fn field_path(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (path, observation) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(Ok(path)) = str::from_utf8(path).map(str::parse::<FieldPath>) else { return };
    let decoder = Decoder::new(Some(path));
    let mut frame = br#"{"type":"observation","data":{"done":true,"observation":"#.to_vec();
    frame.extend_from_slice(observation);
    frame.extend_from_slice(br#","metadata":"#);
    frame.extend_from_slice(observation);
    frame.extend_from_slice(b"}}");
    if let Ok(Reply::Observed(observed)) = decoder.decode(&Bytes::from(frame), Expect::Observation)
    {
        assert!(observed.ended.is_some() || observation.contains(&b'"'));
    }
}

/// The data of an error frame: a failure of bounded size, whatever it says.
pub(crate) fn error_frame(bytes: &[u8]) {
    let mut frame = br#"{"type":"error","data":"#.to_vec();
    frame.extend_from_slice(bytes);
    frame.push(b'}');
    if let Err(failure) = Decoder::default().decode(&Bytes::from(frame), Expect::Observation) {
        assert!(failure.message.len() <= MESSAGE_BYTES_MAX);
        let _ = failure.to_string();
    }
}
