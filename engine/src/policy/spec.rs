//! Which policy, as the user writes it.

use std::{fmt, path::PathBuf, str::FromStr};

use bytes::Bytes;
use serde::de::IgnoredAny;

use crate::model::ModelSpec;

/// A policy as named on the command line and in a configuration file: `random`,
/// `constant:JSON`, `replay:FILE` or a language model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PolicySpec {
    /// Valid actions drawn from the environment's schema.
    #[default]
    Random,
    /// Always this action: the text of one JSON object, on one line.
    Constant(Bytes),
    /// The actions of recorded episodes: a file of records in any of our formats.
    Replay(PathBuf),
    /// A language model, sampled by an inference engine.
    Model(ModelSpec),
}

/// The text names no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicySpecError {
    /// The name is unknown.
    #[error("there is no policy `{0}`: use `random`, `constant:JSON`, `replay:FILE` or `vllm:URL`")]
    Unknown(String),
    /// The action is not the text of a JSON object.
    #[error(
        "the action of `constant:` must be one JSON object such as constant:{{\"action\":1}}, not \
         `{given}` ({why})"
    )]
    Action {
        /// What was given.
        given: String,
        /// Why it cannot be used.
        why: String,
    },
}

impl FromStr for PolicySpec {
    type Err = PolicySpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "random" {
            return Ok(Self::Random);
        }
        if let Some(path) = text.strip_prefix("replay:").filter(|path| !path.is_empty()) {
            return Ok(Self::Replay(path.into()));
        }
        if let Ok(model) = text.parse() {
            return Ok(Self::Model(model));
        }
        let Some(action) = text.strip_prefix("constant:") else {
            return Err(PolicySpecError::Unknown(text.into()));
        };
        let action = action.trim();
        let wrong = |why: String| PolicySpecError::Action { given: action.into(), why };
        if let Err(error) = serde_json::from_str::<IgnoredAny>(action) {
            return Err(wrong(error.to_string()));
        }
        if !action.starts_with('{') {
            return Err(wrong("it is no object".into()));
        }
        Ok(Self::Constant(Bytes::from(action.replace(['\n', '\r'], " "))))
    }
}

impl fmt::Display for PolicySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::Model(model) => model.fmt(f),
            Self::Replay(path) => write!(f, "replay:{}", path.display()),
            Self::Constant(action) => write!(f, "constant:{}", String::from_utf8_lossy(action)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_and_shown() {
        for text in ["random", "replay:a/b.jsonl", r#"constant:{"a":[1,"x"]}"#] {
            assert_eq!(text.parse::<PolicySpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_an_action_is_refused() {
        for text in
            ["constant:", "constant:[1]", "constant:{\"a\":}", "constant:1", "constant:{} {}"]
        {
            let error = text.parse::<PolicySpec>().unwrap_err();
            assert!(matches!(error, PolicySpecError::Action { .. }), "{text}: {error}");
        }
        assert!(matches!("greedy".parse::<PolicySpec>(), Err(PolicySpecError::Unknown(_))));
    }
}
