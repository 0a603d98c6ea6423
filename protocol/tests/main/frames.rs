//! The codec against what real servers and clients sent.

use std::{collections::VecDeque, fmt::Write as _, str};

use bytes::Bytes;
use envmill_protocol::{
    Failure, FailureKind, Observed, Request,
    openenv::{
        Decoder, ErrorCode, Expect, Reply, close_failure, encode,
        server::{
            ClientMessage, ServerError, decode_message, encode_error, encode_mcp,
            encode_observation, encode_state,
        },
    },
};
use expect_test::expect_file;
use serde_json::Value;

use crate::recording::{self, Happening, Recording};

/// Every frame of every recording, decoded by the side that received it: the outcome of each is
/// pinned in `tests/frames/decoded.txt`.
#[test]
fn every_recorded_frame_decodes_as_pinned() {
    let mut pinned = String::new();
    for recording in recording::all() {
        writeln!(pinned, "== {}", recording.name).unwrap();
        replay(&recording, &mut pinned);
        pinned.push('\n');
    }
    expect_file!["../frames/decoded.txt"].assert_eq(&pinned);
}

/// A request that has no answer yet, and what a server of ours would have refused about it.
struct Outstanding {
    expect: Expect,
    message: Bytes,
    refused: Option<ServerError>,
}

fn replay(recording: &Recording, pinned: &mut String) {
    let ours = !recording.url.contains("/mcp") && !recording.url.contains("/harness");
    let decoder = Decoder::new(Some("metadata.truncated".parse().unwrap()));
    let mut outstanding = VecDeque::new();
    for happening in &recording.happenings {
        match happening {
            Happening::FromClient(message) => {
                let decoded = decode_message(message);
                writeln!(pinned, "> {}", shown_message(&decoded)).unwrap();
                if let Ok(message_decoded) = &decoded {
                    assert_round_trip(message, message_decoded);
                }
                outstanding.extend(awaited(message, decoded));
            }
            Happening::FromServer(frame) => {
                let request = outstanding.pop_front();
                let expect = request.as_ref().map_or(Expect::Observation, |request| request.expect);
                let decoded = decoder.decode(frame, expect);
                writeln!(pinned, "< {}", shown_reply(&decoded)).unwrap();
                if ours {
                    assert_re_encodes(frame, &decoded);
                    assert_same_refusal(request, frame);
                }
            }
            Happening::BinaryFromClient => pinned.push_str("> (binary)\n"),
            Happening::Closed { code, reason } => {
                writeln!(pinned, "< close: {}", shown_failure(&close_failure(*code, reason)))
                    .unwrap();
            }
            Happening::Other(what) => writeln!(pinned, "- {what}").unwrap(),
        }
    }
}

/// What the client waits for after `message`; nothing after a close.
fn awaited(message: &Bytes, decoded: Result<ClientMessage, ServerError>) -> Option<Outstanding> {
    let (expect, refused) = match decoded {
        Ok(ClientMessage::Reset { .. } | ClientMessage::Step { .. }) => (Expect::Observation, None),
        Ok(ClientMessage::State) => (Expect::State, None),
        Ok(ClientMessage::Mcp { .. }) => (Expect::Mcp, None),
        Ok(ClientMessage::Close) => return None,
        Err(error) => (Expect::Observation, Some(error)),
    };
    Some(Outstanding { expect, message: message.clone(), refused })
}

/// A message that decodes, encoded again, says the same.
fn assert_round_trip(message: &Bytes, decoded: &ClientMessage) {
    let request = match decoded.clone() {
        ClientMessage::Reset { parameters } => Request::Reset { parameters },
        ClientMessage::Step { action } => Request::Step { action },
        ClientMessage::State => Request::State,
        ClientMessage::Close => Request::Close,
        ClientMessage::Mcp { request } => Request::ToolCall { request },
    };
    let again = encode(&request).unwrap();
    let mut sent: Value = serde_json::from_slice(message).unwrap();
    if sent["type"] == "reset" && sent["data"].is_null() {
        sent["data"] = Value::Object(serde_json::Map::new());
    }
    assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), sent);
}

/// What a server sent, encoded again from its parts, is the same to the byte.
fn assert_re_encodes(frame: &Bytes, decoded: &Result<Reply, Failure>) {
    let mut again = Vec::new();
    match decoded {
        Ok(Reply::Observed(observed)) => {
            encode_observation(&mut again, observed);
            assert_slices(frame, observed);
        }
        Ok(Reply::State(state)) => encode_state(&mut again, state),
        Ok(Reply::Mcp(response)) => encode_mcp(&mut again, response),
        Err(failure) => {
            assert_ne!(failure.kind, FailureKind::Protocol, "{failure}");
            return;
        }
    }
    assert!(again == *frame, "{} is not what was received", shown(&again));
}

/// Nothing was copied: every text lies within the frame.
fn assert_slices(frame: &Bytes, observed: &Observed) {
    let place = frame.as_ptr_range();
    for text in [&observed.observation, &observed.reward.raw, &observed.metadata] {
        let within = place.contains(&text.as_ptr()) && text.as_ptr_range().end <= place.end;
        assert!(within || text.is_empty());
    }
}

/// Where the recorded server refused the envelope, a server of ours refuses it with the same code
/// and, but for the wording of Python's parser, the same frame.
fn assert_same_refusal(request: Option<Outstanding>, frame: &Bytes) {
    let Some(Outstanding { message, refused, .. }) = request else { return };
    let answer: Value = serde_json::from_slice(frame).unwrap();
    let code = answer["data"]["code"].as_str().and_then(ErrorCode::from_name);
    if !refuses_envelope(&answer["data"], &message) {
        // The one difference that is meant: Python's parser takes NaN, and what is refused later
        // there is refused at once here.
        assert!(refused.is_none() || message.windows(3).any(|three| three == b"NaN"));
        return;
    }
    let refused = refused.expect("refused by the recorded server, taken by ours");
    assert_eq!(Some(refused.code()), code);
    let mut ours = Vec::new();
    encode_error(&mut ours, &refused);
    if !matches!(refused, ServerError::InvalidJson(_)) {
        // Python echoes JSON without its spaces, and shows lists in its own spelling.
        let spelling =
            |text: &[u8]| str::from_utf8(text).unwrap().replace(' ', "").replace("\\\"", "'");
        assert_eq!(spelling(&ours), spelling(frame));
    }
}

/// Whether an error is about the envelope, and not about the action or the environment.
fn refuses_envelope(error: &Value, message: &Bytes) -> bool {
    match error["code"].as_str() {
        Some("INVALID_JSON" | "UNKNOWN_TYPE") => true,
        Some("SESSION_ERROR") => {
            error["message"].as_str().unwrap().contains("object has no attribute")
        }
        Some("VALIDATION_ERROR") => {
            let sent: Value = serde_json::from_slice(message).unwrap_or_default();
            let place = error["errors"][0]["loc"][0].as_str().unwrap();
            (place == "data" || sent.get(place).is_some()) && sent["data"].get(place).is_none()
        }
        _ => false,
    }
}

fn shown_message(message: &Result<ClientMessage, ServerError>) -> String {
    match message {
        Ok(ClientMessage::Reset { parameters }) => format!("reset {}", shown(parameters)),
        Ok(ClientMessage::Step { action }) => format!("step {}", shown(action)),
        Ok(ClientMessage::State) => "state".into(),
        Ok(ClientMessage::Close) => "close".into(),
        Ok(ClientMessage::Mcp { request }) => format!("mcp {}", shown(request)),
        Err(error) => {
            let mut frame = Vec::new();
            encode_error(&mut frame, error);
            format!("refused: {}", shown(&frame))
        }
    }
}

fn shown_reply(reply: &Result<Reply, Failure>) -> String {
    match reply {
        Ok(Reply::Observed(Observed { observation, reward, metadata, ended })) => format!(
            "observed reward={}={:?} ended={ended:?} observation={} metadata={}",
            shown(&reward.raw),
            reward.value,
            shown(observation),
            shown(metadata),
        ),
        Ok(Reply::State(state)) => format!("state {}", shown(state)),
        Ok(Reply::Mcp(response)) => format!("mcp {}", shown(response)),
        Err(failure) => shown_failure(failure),
    }
}

fn shown_failure(failure: &Failure) -> String {
    let details = if failure.details.is_empty() { "" } else { " (with details)" };
    format!("{:?} {failure}{details}", failure.session)
}

/// A text, or the beginning of a long one and its length.
fn shown(text: &[u8]) -> String {
    let text = str::from_utf8(text).unwrap();
    let (start, length) = (&text[..text.floor_char_boundary(240)], text.len());
    if start.len() == length { start.into() } else { format!("{start}… ({length} bytes)") }
}
