//! Frames as replies.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    error_frame,
    field_path::{self, FieldPath, Root},
    frame::{self, Frame, Parts},
};
use crate::{Ended, Failure, FailureKind, Observed, Request, Reward};

/// What the outstanding request can be answered with. Error frames come on top, at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expect {
    /// An observation: the answer to a reset or a step.
    Observation,
    /// A state.
    State,
    /// A tool's answer.
    Mcp,
}

impl Expect {
    /// What answers `request`; `None` for opening and closing, which no frame answers.
    #[must_use]
    pub const fn for_request(request: &Request) -> Option<Self> {
        match request {
            Request::Reset { .. } | Request::Step { .. } => Some(Self::Observation),
            Request::State => Some(Self::State),
            Request::ToolCall { .. } => Some(Self::Mcp),
            Request::Open { .. } | Request::Close => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Observation => "observation",
            Self::State => "state",
            Self::Mcp => "mcp",
        }
    }
}

/// A decoded frame. All texts are slices of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The answer to a reset or a step.
    Observed(Observed),
    /// The environment's state: the text of one JSON value.
    State(Bytes),
    /// A tool's answer: the text of one JSON value, by convention a JSON-RPC 2.0 response.
    Mcp(Bytes),
}

/// Decodes what a server sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoder {
    /// The field that tells an episode cut short by a limit from one that came to its own end; it is
    /// looked at only in an answer that says `done`. See [`Ended`] for what follows from it.
    ///
    /// A path below `metadata` is looked up in the metadata beside the observation and, where that
    /// has no such boolean, in `observation.metadata`.
    pub truncated_from: Option<FieldPath>,
}

impl Decoder {
    /// A decoder with this mapping of `done`, or none.
    #[must_use]
    pub const fn new(truncated_from: Option<FieldPath>) -> Self {
        Self { truncated_from }
    }

    /// Decodes one text frame, as the answer to a request that expects `expect`.
    ///
    /// Cost: one scan of the frame for UTF-8 and one for JSON, and no allocation. Unknown keys are
    /// ignored. A missing `done` means that the episode goes on.
    ///
    /// # Errors
    ///
    /// An error frame becomes the [`Failure`] it stands for, whatever was expected: a refusal for
    /// lack of capacity arrives unasked. Everything that the protocol does not allow (another type
    /// than the expected, no JSON, a `NaN` literal, no observation, a `done` that is no boolean,
    /// a repeated key in the envelope) is [`FailureKind::Protocol`], and the session is lost, since
    /// nothing tells which answer belongs to which request any more.
    pub fn decode(&self, frame: &Bytes, expect: Expect) -> Result<Reply, Failure> {
        let text = str::from_utf8(frame)
            .map_err(|error| protocol(format!("the frame is not UTF-8: {error}")))?;
        match frame::parse(text).map_err(|error| malformed(text, &error))? {
            Frame::Observation(parts) if expect == Expect::Observation => {
                self.observed(frame, &parts).map(Reply::Observed)
            }
            Frame::State(data) if expect == Expect::State => Ok(Reply::State(slice(frame, data))),
            Frame::Mcp(data) if expect == Expect::Mcp => Ok(Reply::Mcp(slice(frame, data))),
            Frame::Error(data) => Err(error_frame::failure(frame, data)),
            Frame::Observation(_) => Err(unexpected(expect, "\"observation\"")),
            Frame::State(_) => Err(unexpected(expect, "\"state\"")),
            Frame::Mcp(_) => Err(unexpected(expect, "\"mcp\"")),
            Frame::Other(name) => Err(unexpected(expect, name.get())),
        }
    }

    fn observed(&self, frame: &Bytes, parts: &Parts<'_>) -> Result<Observed, Failure> {
        let observation = parts
            .observation
            .ok_or_else(|| protocol("an observation frame without `observation`"))?;
        let done = match parts.done.map(RawValue::get) {
            Some("true") => true,
            Some("false" | "null") | None => false,
            Some(other) => {
                let other = &other[..other.floor_char_boundary(60)];
                return Err(protocol(format!("`done` is no boolean: {other}")));
            }
        };
        Ok(Observed {
            observation: slice(frame, observation).into(),
            reward: parts
                .reward
                .map_or_else(Reward::default, |reward| Reward::from_raw(slice(frame, reward))),
            metadata: parts.metadata.map_or_else(Bytes::new, |metadata| slice(frame, metadata)),
            ended: done.then(|| self.ended(observation, parts.metadata)),
        })
    }

    /// What `done` means in this answer.
    fn ended(&self, observation: &RawValue, metadata: Option<&RawValue>) -> Ended {
        let Some(path) = &self.truncated_from else { return Ended::TerminatedUnmapped };
        let truncated = match path.root() {
            Root::Observation => path.boolean(observation.get()),
            Root::Metadata => metadata
                .and_then(|metadata| path.boolean(metadata.get()))
                .or_else(|| path.boolean(field_path::field(observation.get(), "metadata")?)),
        };
        match truncated {
            Some(true) => Ended::Truncated,
            Some(false) => Ended::Terminated,
            None => Ended::TerminatedUnmapped,
        }
    }
}

fn slice(frame: &Bytes, raw: &RawValue) -> Bytes {
    frame.slice_ref(raw.get().as_bytes())
}

fn protocol(message: impl Into<String>) -> Failure {
    Failure::lost(FailureKind::Protocol, message)
}

fn unexpected(expect: Expect, got: &str) -> Failure {
    let got = &got[..got.floor_char_boundary(60)];
    protocol(format!("expected a frame of type \"{}\", got {got}", expect.name()))
}

/// Says what is wrong with a frame, and shows the place.
fn malformed(text: &str, error: &serde_json::Error) -> Failure {
    let line: usize =
        text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = line + error.column();
    let near = &text[text.floor_char_boundary(at.saturating_sub(40))
        ..text.ceil_char_boundary(at.saturating_add(20)).min(text.len())];
    protocol(format!("the frame is malformed: {error}, near {near:?}"))
}
