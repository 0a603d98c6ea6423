//! How many episodes a session plays, as written.

use std::{fmt, str::FromStr};

use envmill_core::SessionReuse;
use serde::{Deserialize, Deserializer, de};

/// `never`, a number of episodes, or `unlimited`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reuse(pub(crate) SessionReuse);

impl FromStr for Reuse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "never" => Ok(Self(SessionReuse::Never)),
            "unlimited" => Ok(Self(SessionReuse::Unlimited)),
            _ => match text.parse() {
                Ok(episodes) if episodes > 0 => Ok(Self(SessionReuse::Episodes(episodes))),
                _ => Err(format!("write never, a number from 1, or unlimited, not `{text}`")),
            },
        }
    }
}

impl fmt::Display for Reuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SessionReuse::Never => f.write_str("never"),
            SessionReuse::Episodes(episodes) => episodes.fmt(f),
            SessionReuse::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl<'de> Deserialize<'de> for Reuse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Reuse;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"never\", a number of episodes from 1, or \"unlimited\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Reuse, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, episodes: i64) -> Result<Reuse, E> {
                episodes.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
