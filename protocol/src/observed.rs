//! What an environment shows after a reset or a step.

use bytes::Bytes;

use crate::Observation;

/// The answer of an environment to a reset or a step. All texts are slices of the frame they
/// arrived in: nothing is copied and nothing but the envelope has been parsed. An observation may be
/// numbers, whose text nobody has asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The observation: the text of one JSON value, or numbers that become one.
    pub observation: Observation,
    /// The reward, as a number and as received.
    pub reward: Reward,
    /// The environment's metadata about this answer: the text of one JSON value, or empty where
    /// none was sent.
    pub metadata: Bytes,
    /// Whether the episode is over, and how; `None` while it goes on.
    pub ended: Option<Ended>,
}

impl Observed {
    /// Bytes that it takes in memory, texts included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let texts = self.observation.bytes_held() + self.reward.raw.len() + self.metadata.len();
        (size_of::<Self>() + texts) as u64
    }
}

/// A reward with both of its faces: the number that trainers use, and the text that was received.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reward {
    /// The number; `None` where the reward is missing, `null`, no number at all or too large for an
    /// `f64`. Missing is not zero. `true` is 1 and `false` is 0; integers beyond 2^53 are rounded;
    /// always finite.
    pub value: Option<f64>,
    /// The JSON text as received; empty where the key was missing.
    pub raw: Bytes,
}

impl Reward {
    /// A reward as received: the text of one JSON value, or empty where the key was missing.
    #[must_use]
    pub fn from_raw(raw: Bytes) -> Self {
        let value = match raw.first() {
            Some(b't') => Some(1.0),
            Some(b'f') => Some(0.0),
            Some(b'-' | b'0'..=b'9') => {
                // JSON's numbers are a part of what Rust parses, rounded correctly; what is beyond
                // the range becomes infinite.
                str::from_utf8(&raw).ok().and_then(|text| text.parse().ok()).filter(is_finite)
            }
            _ => None,
        };
        Self { value, raw }
    }

    /// A reward that an environment of ours gives as a number; one that is not finite is `null`, as
    /// on OpenEnv's wire.
    #[must_use]
    pub fn from_number(value: f64) -> Self {
        let mut raw = Vec::with_capacity(24);
        crate::json_text::put(&mut raw, &value);
        Self { value: Some(value).filter(is_finite), raw: raw.into() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that `Option::filter` takes")]
fn is_finite(value: &f64) -> bool {
    value.is_finite()
}

/// How an environment said that an episode is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// It reached an end of its own.
    Terminated,
    /// It ended, and nothing says whether by itself or by a limit: OpenEnv's protocol has one flag
    /// for both, and no mapping was configured or found.
    TerminatedUnmapped,
    /// It was cut short by a limit inside the environment.
    Truncated,
}

impl Ended {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Terminated, Self::TerminatedUnmapped, Self::Truncated];

    /// The words for it in records: the environment's word, and not yet the episode's end.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminated => "terminated",
            Self::TerminatedUnmapped => "terminated (unmapped)",
            Self::Truncated => "truncated",
        }
    }

    /// What [`name`](Self::name) calls so, if anything.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ended| ended.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(raw: &'static str) -> Option<f64> {
        let reward = Reward::from_raw(Bytes::from_static(raw.as_bytes()));
        assert_eq!(reward.raw, raw);
        reward.value
    }

    #[test]
    fn rewards_are_numbers_or_nothing() {
        assert_eq!(value("true"), Some(1.0));
        assert_eq!(value("false"), Some(0.0));
        assert_eq!(value("3"), Some(3.0));
        assert_eq!(value("-0.25e1"), Some(-2.5));
        assert_eq!(value("1180591620717411303424"), Some(2f64.powi(70)));
        assert_eq!(value("5e-324"), Some(5e-324));
        for nothing in ["", "null", "\"1\"", "[1]", "{}", "1e400", "-1e400"] {
            assert_eq!(value(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn numbers_become_rewards() {
        assert_eq!(Reward::from_number(1.0).raw, "1.0");
        assert_eq!(Reward::from_number(0.1), Reward::from_raw("0.1".into()));
        for wild in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Reward::from_number(wild), Reward::from_raw("null".into()));
        }
    }
}
