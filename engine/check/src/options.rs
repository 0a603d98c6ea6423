//! What is checked, and how thoroughly.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Map, Value};

/// How the checks are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The command and its target, such as `envmill check http://127.0.0.1:8000`, to which the settings
    /// below are appended where a finding says how it is seen again.
    pub invocation: String,
    /// What everything random follows from: the first seed of resets, and the draws of actions.
    pub seed: u64,
    /// How many episodes statistics are made of.
    pub episodes: u32,
    /// The most steps of an episode.
    pub max_steps: u32,
    /// The most sessions that are opened at once to find how many the server holds.
    pub max_sessions: u32,
    /// The actions of the episodes that are compared: texts of JSON objects. Drawn from the action schema
    /// if empty.
    pub actions: Vec<String>,
    /// What is sent with every reset, beside the seed.
    pub reset: Map<String, Value>,
    /// How long any answer may take.
    pub timeout: Duration,
    /// Less of everything.
    pub quick: bool,
    /// The names of the checks to run; all if empty.
    pub only: Vec<String>,
}

impl Options {
    /// Episodes by default.
    pub const EPISODES: u32 = 64;
    /// Steps by default.
    pub const MAX_STEPS: u32 = 100;
    /// Sessions by default.
    pub const MAX_SESSIONS: u32 = 64;
    /// Longer than the 30 seconds that a gateway may have a client wait before it refuses it.
    pub const TIMEOUT: Duration = Duration::from_secs(45);

    /// The command that runs one check again as it was run.
    pub(crate) fn reproduce(&self, check: &str, actions: &[String]) -> String {
        let mut line = format!("{} --only {check} --seed {}", self.invocation, self.seed);
        let mut number = |flag: &str, value: u128, default: u128| {
            if value != default {
                let _ = write!(line, " --{flag} {value}");
            }
        };
        number("episodes", self.episodes.into(), Self::EPISODES.into());
        number("max-steps", self.max_steps.into(), Self::MAX_STEPS.into());
        number("max-sessions", self.max_sessions.into(), Self::MAX_SESSIONS.into());
        number("timeout-ms", self.timeout.as_millis(), Self::TIMEOUT.as_millis());
        if !self.reset.is_empty() {
            let reset = Value::Object(self.reset.clone());
            let _ = write!(line, " --reset {}", quote(&reset.to_string()));
        }
        if self.quick {
            line.push_str(" --quick");
        }
        if !actions.is_empty() {
            let _ = write!(line, " --actions {}", quote(&format!("[{}]", actions.join(","))));
        }
        line
    }
}

/// A word for the shell.
#[must_use]
pub fn quote(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        assert_eq!(quote("http://a:1"), "http://a:1");
        assert_eq!(quote(r#"[{"a":"it's"}]"#), r#"'[{"a":"it'\''s"}]'"#);
        assert_eq!(quote(""), "''");
    }
}
