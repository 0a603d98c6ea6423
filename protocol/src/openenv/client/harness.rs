//! The client's side of `/harness`: an agent that the server itself runs, turn by turn.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error_frame;
use crate::{Ended, Failure, FailureKind, Observed, Reward, json_text};

/// The text frame that begins a turn, from an action in the shape that the same environment takes in
/// simulation mode: `{"message": TEXT}`.
///
/// # Errors
///
/// [`FailureKind::Invalid`], and nothing is to be sent, where the action is none.
pub fn encode_message_into(out: &mut Vec<u8>, action: &[u8]) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Action<'a> {
        #[serde(borrow)]
        message: &'a RawValue,
    }
    let refuse =
        |problem: &str| Failure::kept(FailureKind::Invalid, format!("not sent: {problem}"));
    let action: Action<'_> =
        serde_json::from_slice(action).map_err(|error| refuse(&error.to_string()))?;
    if !action.message.get().starts_with('"') {
        return Err(refuse("the `message` of a harness action is a text"));
    }
    out.extend_from_slice(br#"{"type":"message","content":"#);
    out.extend_from_slice(action.message.get().as_bytes());
    out.push(b'}');
    Ok(())
}

/// What a server says on `/harness`.
#[derive(Clone, Debug, PartialEq)]
pub enum HarnessFrame {
    /// The session stands and its agent runs: the text of an object with `session_id` and `harness`.
    Started(Bytes),
    /// Something happened within a turn.
    Event,
    /// The turn is over.
    TurnComplete {
        /// What the agent said: the text of one JSON value, or empty.
        response: Bytes,
        /// Whether the episode is over.
        done: bool,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    name: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    done: Option<&'a RawValue>,
}

/// Decodes one text frame of `/harness`. Types of events that are not known are events.
///
/// # Errors
///
/// | frame | failure | session |
/// |---|---|---|
/// | `protocol_error` | `Refused` (`INVALID_JSON`) or `Invalid` | kept |
/// | `error` without a code: the turn failed, hung or did not end | `Environment` | lost |
/// | `error` with a code | as on the session socket | |
/// | what is no such frame | `Protocol` | lost |
pub fn decode_harness(frame: &Bytes) -> Result<HarnessFrame, Failure> {
    let protocol = |error: &dyn std::fmt::Display| {
        Failure::lost(FailureKind::Protocol, format!("a harness's frame is malformed: {error}"))
    };
    let text = str::from_utf8(frame).map_err(|error| protocol(&error))?;
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| protocol(&error))?;
    let data: Data<'_> =
        envelope.data.and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();
    match &*envelope.name {
        "session_started" => Ok(HarnessFrame::Started(
            envelope.data.map_or_else(Bytes::new, |data| slice(frame, data)),
        )),
        "turn_complete" => Ok(HarnessFrame::TurnComplete {
            response: data.response.map_or_else(Bytes::new, |response| slice(frame, response)),
            done: data.done.is_some_and(|done| done.get() == "true"),
        }),
        "protocol_error" => {
            let invalid = data.code.is_none_or(|code| code.get() != r#""INVALID_JSON""#);
            let kind = if invalid { FailureKind::Invalid } else { FailureKind::Refused };
            Err(Failure::kept(kind, said(&data)))
        }
        "error" => Err(match (data.code, envelope.data) {
            (Some(_), Some(raw)) => error_frame::failure(frame, raw),
            _ => Failure::lost(FailureKind::Environment, said(&data)),
        }),
        _ => Ok(HarnessFrame::Event),
    }
}

fn said(data: &Data<'_>) -> String {
    let message = data.message.and_then(json_text::string);
    format!("the harness says: {}", message.as_deref().unwrap_or("nothing"))
}

fn slice(frame: &Bytes, raw: &RawValue) -> Bytes {
    frame.slice_ref(raw.get().as_bytes())
}

/// A turn as far as it has come: the events of one step.
#[derive(Debug, Default)]
pub struct HarnessTurn {
    events: Vec<u8>,
}

impl HarnessTurn {
    /// Adds an event: the text of a frame.
    pub fn push(&mut self, frame: &[u8]) {
        if !self.events.is_empty() {
            self.events.push(b',');
        }
        self.events.extend_from_slice(frame);
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.events.len()
    }

    /// The turn as a step's answer, in the shape that it has in simulation mode:
    /// `{"metadata":{"response":…,"turn_events":[…]}}`. There is no reward.
    #[must_use]
    pub fn observed(self, response: &[u8], done: bool) -> Observed {
        let response = if response.is_empty() { b"null" } else { response };
        let metadata =
            [br#"{"response":"#, response, br#","turn_events":["#, &self.events, b"]}"].concat();
        let observation = Bytes::from([br#"{"metadata":"#, &metadata[..], b"}"].concat());
        let metadata = observation.slice(br#"{"metadata":"#.len()..observation.len() - 1);
        let ended = done.then_some(Ended::TerminatedUnmapped);
        Observed { observation: observation.into(), reward: Reward::default(), metadata, ended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SessionFate;

    fn decode(text: &str) -> Result<HarnessFrame, Failure> {
        decode_harness(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_turn_becomes_a_step() {
        let mut turn = HarnessTurn::default();
        turn.push(br#"{"type":"llm_request"}"#);
        turn.push(br#"{"type":"turn_complete"}"#);
        let observed = turn.observed(br#""did hi""#, true);
        assert_eq!(
            observed.metadata,
            r#"{"response":"did hi","turn_events":[{"type":"llm_request"},{"type":"turn_complete"}]}"#
        );
        assert!(observed.observation.starts_with(br#"{"metadata":{"response""#));
        assert_eq!(observed.ended, Some(Ended::TerminatedUnmapped));
        assert_eq!(observed.reward, Reward::default());
    }

    #[test]
    fn messages_are_texts() {
        let mut out = Vec::new();
        encode_message_into(&mut out, br#"{"message": "a\n\"b\""}"#).unwrap();
        assert_eq!(out, br#"{"type":"message","content":"a\n\"b\""}"#);
        for wrong in [&b"{}"[..], br#"{"message":1}"#, b"[]", b""] {
            let failure = encode_message_into(&mut Vec::new(), wrong).unwrap_err();
            assert_eq!((failure.kind, failure.session), (FailureKind::Invalid, SessionFate::Kept));
        }
    }

    #[test]
    fn frames_and_failures() {
        let started = decode(r#"{"type":"session_started","data":{"harness":"fake"}}"#).unwrap();
        assert_eq!(started, HarnessFrame::Started(r#"{"harness":"fake"}"#.into()));
        assert_eq!(decode(r#"{"type":"llm_chunk"}"#).unwrap(), HarnessFrame::Event);
        assert_eq!(
            decode(r#"{"type":"turn_complete","data":{"response":"x","done":true}}"#).unwrap(),
            HarnessFrame::TurnComplete { response: r#""x""#.into(), done: true }
        );
        for (frame, kind, session) in [
            (
                r#"{"type":"protocol_error","data":{"message":"m","code":"INVALID_JSON"}}"#,
                FailureKind::Refused,
                SessionFate::Kept,
            ),
            (
                r#"{"type":"protocol_error","data":{"code":"VALIDATION_ERROR"}}"#,
                FailureKind::Invalid,
                SessionFate::Kept,
            ),
            (
                r#"{"type":"error","timestamp":1.0,"data":{"message":"harness turn failed"}}"#,
                FailureKind::Environment,
                SessionFate::Lost,
            ),
            (
                r#"{"type":"error","data":{"message":"full","code":"CAPACITY_REACHED"}}"#,
                FailureKind::Capacity,
                SessionFate::Lost,
            ),
            ("[1]", FailureKind::Protocol, SessionFate::Lost),
            (r#"{"data":{}}"#, FailureKind::Protocol, SessionFate::Lost),
        ] {
            let failure = decode(frame).unwrap_err();
            assert_eq!((failure.kind, failure.session), (kind, session), "{frame}");
        }
    }
}
