//! Frames, with their keys in the order of the reference server.

use super::{ServerError, Violation};
use crate::{Observed, json_text};

/// Where the reference server's validation errors point, up to the kind of error.
const VIOLATION_URL: &str = "https://errors.pydantic.dev/2.14/v/";

/// Appends the frame that answers a reset or a step. `done` is whether the episode ended. Metadata
/// stands in the frame only where it holds something (not empty, not `{}`); a missing reward is
/// `null`.
pub fn encode_observation(out: &mut Vec<u8>, observed: &Observed) {
    let Observed { observation, reward, metadata, ended } = observed;
    out.reserve(96 + observation.len() + reward.raw.len() + metadata.len());
    out.extend_from_slice(br#"{"type":"observation","data":{"observation":"#);
    raw(out, observation);
    out.extend_from_slice(br#","reward":"#);
    raw(out, &reward.raw);
    // OpenEnv has one flag for every end.
    out.extend_from_slice(br#","done":"#);
    out.extend_from_slice(if ended.is_some() { b"true" } else { b"false" });
    if !metadata.is_empty() && metadata != "{}" {
        out.extend_from_slice(br#","metadata":"#);
        out.extend_from_slice(metadata);
    }
    out.extend_from_slice(b"}}");
}

/// Appends the frame that answers a request for the state; `state` is the text of one JSON object.
pub fn encode_state(out: &mut Vec<u8>, state: &[u8]) {
    envelope(out, br#"{"type":"state","data":"#, state);
}

/// Appends the frame that answers a tool call; `response` is the text of a JSON-RPC 2.0 response.
pub fn encode_mcp(out: &mut Vec<u8>, response: &[u8]) {
    envelope(out, br#"{"type":"mcp","data":"#, response);
}

/// Appends an error frame.
pub fn encode_error(out: &mut Vec<u8>, error: &ServerError) {
    out.extend_from_slice(br#"{"type":"error","data":{"message":"#);
    json_text::put_string(out, &error.to_string());
    out.extend_from_slice(br#","code":"#);
    json_text::put_string(out, error.code().name());
    match error {
        ServerError::Validation(violations) => {
            out.extend_from_slice(br#","errors":["#);
            for (index, violation) in violations.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                encode_violation(out, violation);
            }
            out.push(b']');
        }
        ServerError::ValidationDetails(list) => {
            out.extend_from_slice(br#","errors":"#);
            raw(out, list);
        }
        ServerError::Capacity { active_sessions, max_sessions } => {
            out.extend_from_slice(br#","active_sessions":"#);
            json_text::put(out, active_sessions);
            out.extend_from_slice(br#","max_sessions":"#);
            json_text::put(out, max_sessions);
        }
        ServerError::Factory { factory_name } => {
            out.extend_from_slice(br#","factory_name":"#);
            json_text::put_string(out, factory_name);
        }
        ServerError::InvalidJson(_)
        | ServerError::UnknownType(_)
        | ServerError::Execution(_)
        | ServerError::Session(_) => {}
    }
    out.extend_from_slice(b"}}");
}

fn encode_violation(out: &mut Vec<u8>, violation: &Violation) {
    let Violation { kind, location, message, input } = violation;
    out.extend_from_slice(br#"{"type":"#);
    json_text::put_string(out, kind);
    out.extend_from_slice(br#","loc":"#);
    json_text::put(out, location);
    out.extend_from_slice(br#","msg":"#);
    json_text::put_string(out, message);
    out.extend_from_slice(br#","input":"#);
    raw(out, input);
    out.extend_from_slice(br#","url":"#);
    json_text::put_string(out, &format!("{VIOLATION_URL}{kind}"));
    out.push(b'}');
}

fn envelope(out: &mut Vec<u8>, head: &[u8], data: &[u8]) {
    out.reserve(head.len() + data.len().max(4) + 1);
    out.extend_from_slice(head);
    raw(out, data);
    out.push(b'}');
}

/// A frame is valid JSON also where a text is missing.
fn raw(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(if text.is_empty() { b"null" } else { text });
}
