//! The envelope of a server's frame, in one pass over its text.

use std::fmt;

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::json_text;

/// A frame with its envelope taken off. Nothing in it has been copied.
#[derive(Debug)]
pub(super) enum Frame<'a> {
    Observation(Parts<'a>),
    State(&'a RawValue),
    Mcp(&'a RawValue),
    Error(&'a RawValue),
    /// Another type, as the JSON text of its name.
    Other(&'a RawValue),
}

/// What an observation frame holds.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    pub(super) observation: Option<&'a RawValue>,
    pub(super) reward: Option<&'a RawValue>,
    pub(super) done: Option<&'a RawValue>,
    pub(super) metadata: Option<&'a RawValue>,
}

/// Parses a whole frame. Keys beyond the known ones are ignored. A known key that occurs twice is an
/// error: which of two rewards is meant cannot be known. The text below the envelope is checked to
/// be JSON without recursion, so its depth does not matter.
pub(super) fn parse(text: &str) -> Result<Frame<'_>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let frame = deserializer.deserialize_map(FrameVisitor)?;
    deserializer.end()?;
    Ok(frame)
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum EnvelopeKey {
    Type,
    Data,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum PartKey {
    Observation,
    Reward,
    Done,
    Metadata,
    #[serde(other)]
    Other,
}

#[derive(Clone, Copy, PartialEq)]
enum FrameType {
    Observation,
    State,
    Mcp,
    Error,
    Other,
}

impl FrameType {
    fn of(name: &RawValue) -> Self {
        match json_text::string(name).as_deref() {
            Some("observation") => Self::Observation,
            Some("state") => Self::State,
            Some("mcp") => Self::Mcp,
            Some("error") => Self::Error,
            _ => Self::Other,
        }
    }
}

enum Data<'a> {
    Raw(&'a RawValue),
    Parts(Parts<'a>),
}

struct FrameVisitor;

impl<'de> Visitor<'de> for FrameVisitor {
    type Value = Frame<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `type` and `data`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Frame<'de>, A::Error> {
        let mut frame_type: Option<(FrameType, &RawValue)> = None;
        let mut data = None;
        while let Some(key) = map.next_key()? {
            match key {
                EnvelopeKey::Type => {
                    let name = map.next_value()?;
                    let now = (FrameType::of(name), name);
                    if frame_type.replace(now).is_some() {
                        return Err(Error::duplicate_field("type"));
                    }
                }
                EnvelopeKey::Data => {
                    // Servers put the type first, so the parts of an observation are found while
                    // its text is scanned for the first and only time.
                    let now = match frame_type {
                        Some((FrameType::Observation, _)) => {
                            Data::Parts(map.next_value_seed(PartsSeed)?)
                        }
                        _ => Data::Raw(map.next_value()?),
                    };
                    if data.replace(now).is_some() {
                        return Err(Error::duplicate_field("data"));
                    }
                }
                EnvelopeKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let (frame_type, name) = frame_type.ok_or_else(|| Error::missing_field("type"))?;
        if frame_type == FrameType::Other {
            return Ok(Frame::Other(name));
        }
        Ok(match (frame_type, data.ok_or_else(|| Error::missing_field("data"))?) {
            (FrameType::Observation, Data::Raw(raw)) => {
                let mut deserializer = serde_json::Deserializer::from_str(raw.get());
                Frame::Observation(PartsSeed.deserialize(&mut deserializer).map_err(Error::custom)?)
            }
            (_, Data::Parts(parts)) => Frame::Observation(parts),
            (FrameType::State, Data::Raw(raw)) => Frame::State(raw),
            (FrameType::Mcp, Data::Raw(raw)) => Frame::Mcp(raw),
            (FrameType::Error, Data::Raw(raw)) => Frame::Error(raw),
            (FrameType::Other, Data::Raw(_)) => Frame::Other(name),
        })
    }
}

struct PartsSeed;

impl<'de> DeserializeSeed<'de> for PartsSeed {
    type Value = Parts<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parts<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PartsSeed {
    type Value = Parts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `observation`, `reward` and `done`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts<'de>, A::Error> {
        let mut parts = Parts::default();
        while let Some(key) = map.next_key()? {
            let (part, name) = match key {
                PartKey::Observation => (&mut parts.observation, "observation"),
                PartKey::Reward => (&mut parts.reward, "reward"),
                PartKey::Done => (&mut parts.done, "done"),
                PartKey::Metadata => (&mut parts.metadata, "metadata"),
                PartKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if part.replace(map.next_value()?).is_some() {
                return Err(Error::duplicate_field(name));
            }
        }
        Ok(parts)
    }
}
