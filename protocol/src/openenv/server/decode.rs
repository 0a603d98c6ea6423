//! Messages of a client.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserialize,
    de::{Deserializer, Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{ServerError, Violation};
use crate::json_text;

/// How many things wrong with one message are reported. The reference server reports them all; but
/// each takes some 150 bytes, so a message of many short keys would be answered by one twenty times
/// its size.
pub const VIOLATIONS_MAX: usize = 16;

/// What a client asks. All texts are slices of its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// Begin an episode.
    Reset {
        /// The text of one JSON object, or empty where the message has none.
        parameters: Bytes,
    },
    /// Take an action.
    Step {
        /// The text of one JSON object.
        action: Bytes,
    },
    /// Read the state.
    State,
    /// End the session: the server closes with code 1000 and sends no frame.
    Close,
    /// Call a tool.
    Mcp {
        /// The text of one JSON object, by convention a JSON-RPC 2.0 request.
        request: Bytes,
    },
}

/// Decodes one text frame of a client. Of a repeated key the last counts, as in Python.
///
/// # Errors
///
/// The error to answer with, and the reference server's code for it: `INVALID_JSON`, `UNKNOWN_TYPE`
/// (also where there is no type), `VALIDATION_ERROR` for a key too many, a missing `data` or one
/// that is no object (at most [`VIOLATIONS_MAX`] of them), and `SESSION_ERROR`, after which the
/// connection is closed, for JSON that is no object. The reference server's parser takes `NaN` and
/// `Infinity`; this one answers them with `INVALID_JSON`.
pub fn decode_message(frame: &Bytes) -> Result<ClientMessage, ServerError> {
    let text =
        str::from_utf8(frame).map_err(|error| ServerError::InvalidJson(error.to_string()))?;
    let envelope = parse(text)?;
    let slice = |raw: &RawValue| frame.slice_ref(raw.get().as_bytes());
    let whole = || frame.slice_ref(text.trim().as_bytes());

    let mut violations = Vec::new();
    let mut object = |default: Option<Bytes>| match envelope.data {
        None => default.unwrap_or_else(|| {
            violations.push(Violation::missing("data", whole()));
            Bytes::new()
        }),
        Some(data) if data.get().starts_with('{') => slice(data),
        Some(data) => {
            violations.push(Violation::not_an_object("data", slice(data)));
            Bytes::new()
        }
    };
    let message = match &*envelope.message_type()? {
        "reset" => ClientMessage::Reset { parameters: object(Some(Bytes::new())) },
        "step" => ClientMessage::Step { action: object(None) },
        "mcp" => ClientMessage::Mcp { request: object(None) },
        "state" => ClientMessage::State,
        "close" => ClientMessage::Close,
        other => return Err(ServerError::UnknownType(shown(other))),
    };
    if let (ClientMessage::State | ClientMessage::Close, Some(data)) = (&message, envelope.data) {
        violations.push(Violation::extra("data", slice(data)));
    }
    for (key, value) in &envelope.extra {
        violations.push(Violation::extra(key, slice(value)));
    }
    if violations.is_empty() {
        return Ok(message);
    }
    violations.truncate(VIOLATIONS_MAX);
    Err(ServerError::Validation(violations))
}

/// The top level of a message.
#[derive(Default)]
struct Envelope<'a> {
    message_type: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    /// At most [`VIOLATIONS_MAX`].
    extra: Vec<(String, &'a RawValue)>,
}

impl<'a> Envelope<'a> {
    fn message_type(&self) -> Result<Cow<'a, str>, ServerError> {
        let Some(raw) = self.message_type else {
            return Err(ServerError::UnknownType(String::new()));
        };
        json_text::string(raw).ok_or_else(|| {
            let text = if raw.get() == "null" { "None" } else { raw.get() };
            ServerError::UnknownType(shown(text))
        })
    }
}

/// So much of a wrong type as is worth sending back.
fn shown(text: &str) -> String {
    text[..text.floor_char_boundary(200)].to_owned()
}

fn parse(text: &str) -> Result<Envelope<'_>, ServerError> {
    let object = text.trim_start().starts_with('{');
    if !object && json_text::is_value(text) {
        // What the reference server says here is what Python says.
        let python_type = json_text::python_type(text);
        let message = format!("'{python_type}' object has no attribute 'get'");
        return Err(ServerError::Session(message));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer
        .deserialize_map(EnvelopeVisitor)
        .and_then(|envelope| deserializer.end().map(|()| envelope))
        .map_err(|error| ServerError::InvalidJson(error.to_string()))
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `type` and `data`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(key) = map.next_key::<Key>()? {
            let value = map.next_value()?;
            match key {
                Key::Type => envelope.message_type = Some(value),
                Key::Data => envelope.data = Some(value),
                Key::Extra(key) if envelope.extra.len() < VIOLATIONS_MAX => {
                    envelope.extra.push((key, value));
                }
                Key::Extra(_) => {}
            }
        }
        Ok(envelope)
    }
}

enum Key {
    Type,
    Data,
    Extra(String),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
                Ok(match key {
                    "type" => Key::Type,
                    "data" => Key::Data,
                    extra => Key::Extra(extra.into()),
                })
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}
