//! Values of a record that JSON or `serde` would not read as they are meant.

use std::{fmt, num::ParseFloatError, str::FromStr};

use bytes::Bytes;
use serde::{
    Deserialize,
    de::{Deserializer, Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Raw JSON that may not be there. `null` is something, unlike in an `Option`.
#[derive(Clone, Copy, Default)]
pub(super) struct Present<'a>(pub(super) Option<&'a RawValue>);

impl Present<'_> {
    pub(super) fn slice(self, line: &Bytes) -> Bytes {
        self.0.map_or_else(Bytes::new, |raw| line.slice_ref(raw.get().as_bytes()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Present<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(Some(raw)))
    }
}

/// A number, or one of the words for those that JSON does not have. It is parsed from its text
/// because serde_json's own floats may be off by their last bit.
pub(super) struct Number(pub(super) f64);

/// The same for an `f32`: by way of an `f64` it could be rounded twice.
pub(super) struct SmallNumber(pub(super) f32);

fn parse_number<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = ParseFloatError>,
{
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    let text = match raw {
        "\"NaN\"" => "NaN",
        "\"Infinity\"" => "inf",
        "\"-Infinity\"" => "-inf",
        number => number,
    };
    text.parse().map_err(|_| Error::custom(format_args!("{raw} is no number")))
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_number(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for SmallNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_number(deserializer).map(Self)
    }
}

/// An object of numbers, in its order.
pub(super) struct NamedNumbers(pub(super) Vec<(String, f64)>);

impl<'de> Deserialize<'de> for NamedNumbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = NamedNumbers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NamedNumbers, A::Error> {
                let mut entries = Vec::new();
                while let Some((name, Number(value))) = map.next_entry()? {
                    entries.push((name, value));
                }
                Ok(NamedNumbers(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}
