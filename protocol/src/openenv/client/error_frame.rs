//! Error frames as failures.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{Failure, FailureKind, json_text, openenv::ErrorCode};

/// Classifies the `data` of an error frame.
///
/// | code | failure | session |
/// |---|---|---|
/// | `INVALID_JSON`, `UNKNOWN_TYPE` | `Refused` | kept |
/// | `VALIDATION_ERROR` | `Invalid` | kept |
/// | `EXECUTION_ERROR` | `Environment` | kept, though the environment's state is undefined |
/// | `CAPACITY_REACHED` | `Capacity` | lost |
/// | `FACTORY_ERROR` | `Factory` | lost |
/// | `SESSION_ERROR` for an error frame that could not be serialised | `Invalid` | lost |
/// | `SESSION_ERROR` | `Session` | lost |
/// | another, or none | `Session` | lost |
///
/// A code that is not known says nothing about the session, and a fresh session is right in every
/// case; keeping one that the server has given up is not.
///
/// The list of validation errors stays with the failure as a slice of `frame`, which `data` is a
/// part of.
pub(super) fn failure(frame: &Bytes, data: &RawValue) -> Failure {
    let Ok(error) = serde_json::from_str::<ErrorData<'_>>(data.get()) else {
        return Failure::lost(
            FailureKind::Protocol,
            format!("an error frame without an object in `data`: {}", head(data.get())),
        );
    };
    let name = error.code.map(text).unwrap_or_default();
    let message = error.message(&name);
    match ErrorCode::from_name(&name) {
        Some(ErrorCode::InvalidJson | ErrorCode::UnknownType) => {
            Failure::kept(FailureKind::Refused, message)
        }
        Some(ErrorCode::Validation) => {
            let details = error.errors.map(RawValue::get).filter(|list| list.starts_with('['));
            Failure {
                details: details.map_or_else(Bytes::new, |list| frame.slice_ref(list.as_bytes())),
                ..Failure::kept(FailureKind::Invalid, message)
            }
        }
        Some(ErrorCode::Execution) => Failure::kept(FailureKind::Environment, message),
        Some(ErrorCode::Capacity) => Failure::lost(FailureKind::Capacity, message),
        Some(ErrorCode::Factory) => Failure::lost(FailureKind::Factory, message),
        // A validator of the environment's own refused the action, and the refusal holds its
        // exception, which the server cannot send. Nothing else ends a session with these words: an
        // observation that cannot be serialised is an execution error.
        Some(ErrorCode::Session) if message.contains(UNSERIALIZABLE) => {
            Failure::lost(FailureKind::Invalid, message)
        }
        Some(ErrorCode::Session) | None => Failure::lost(FailureKind::Session, message),
    }
}

/// What pydantic says of a value that it cannot serialise.
const UNSERIALIZABLE: &str = "Unable to serialize unknown type: <class ";

/// Everything is optional and of any type: an error frame that is itself wrong still names an error.
#[derive(Deserialize)]
struct ErrorData<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    errors: Option<&'a RawValue>,
}

impl ErrorData<'_> {
    /// The code, the server's message and the first of its validation errors.
    fn message(&self, code: &str) -> String {
        let mut message = if code.is_empty() { "an error without a code" } else { code }.to_owned();
        let said = self.message.map(text).unwrap_or_default();
        if said.is_empty() {
            message.push_str(", without a message");
        } else {
            message.push_str(": ");
            message.push_str(&said);
        }
        let violations = self
            .errors
            .and_then(|errors| serde_json::from_str::<Violations>(errors.get()).ok())
            .unwrap_or_default();
        if let Some(first) = violations.first {
            message.push_str(": ");
            message.push_str(&first);
        }
        if violations.more > 0 {
            message.push_str(&format!(" (and {} more)", violations.more));
        }
        message
    }
}

/// The first entry of a list of validation errors, and how many follow.
#[derive(Default)]
struct Violations {
    first: Option<String>,
    more: usize,
}

#[derive(Deserialize)]
struct Violation<'a> {
    #[serde(borrow)]
    loc: Option<&'a RawValue>,
    #[serde(borrow)]
    msg: Option<&'a RawValue>,
}

impl Violation<'_> {
    fn describe(&self) -> String {
        let at = self.loc.map(|loc| {
            let parts: Vec<&RawValue> = serde_json::from_str(loc.get()).unwrap_or_default();
            parts.into_iter().map(text).collect::<Vec<_>>().join(".")
        });
        let said = self.msg.map(text).unwrap_or_default();
        match at {
            Some(at) if !at.is_empty() => format!("`{at}`: {said}"),
            _ => said.into_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Violations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;

        impl<'de> Visitor<'de> for First {
            type Value = Violations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of validation errors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Violations, A::Error> {
                let first = list.next_element::<Violation<'de>>()?.map(|first| first.describe());
                let mut more = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    more += 1;
                }
                Ok(Violations { first, more })
            }
        }

        deserializer.deserialize_seq(First)
    }
}

/// The text of a JSON string, or the JSON itself where it is something else.
fn text(raw: &RawValue) -> Cow<'_, str> {
    json_text::string(raw).unwrap_or_else(|| head(raw.get()).into())
}

/// So much of a text as is worth showing.
fn head(text: &str) -> &str {
    &text[..text.floor_char_boundary(200)]
}
