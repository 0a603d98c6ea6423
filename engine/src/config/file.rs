//! The configuration file, and settings that another program has put together.

use std::{fmt, fs, path::Path};

use serde::{Deserialize, Deserializer};

use super::{ConfigError, Settings};

/// Reads a TOML file of settings.
///
/// # Errors
///
/// The file cannot be read, is no TOML, has an unknown key (the error names the nearest) or a value
/// of another type (the error names the key).
pub fn read(path: &Path) -> Result<Settings, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse(&text, path)
}

/// Settings from the text of a TOML file; `path` names it in errors.
///
/// # Errors
///
/// As [`read`], but for the reading.
pub fn parse(text: &str, path: &Path) -> Result<Settings, ConfigError> {
    parse_as(text, path, RUN)
}

/// What an unknown key is compared with.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    /// The keys that there are beside this one, given with those above it and points in between.
    pub(crate) keys: fn(&str) -> Vec<String>,
    /// Who lists them all.
    pub(crate) listed: &'static str,
}

const RUN: Known = Known { keys: |_| Settings::names(), listed: "envmill run --help" };

/// What the text of a TOML file says; `path` names it in errors.
pub(crate) fn parse_as<'de, T: Deserialize<'de>>(
    text: &'de str,
    path: &Path,
    known: Known,
) -> Result<T, ConfigError> {
    let deserializer = toml::Deserializer::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        problem: error.to_string().trim_end().into(),
    })?;
    deserialize(deserializer, path, known)
}

/// What is wrong with a name, of an environment, say: it is also one of files.
pub(crate) fn name_problem(name: &str) -> Option<&'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_usable = !name.is_empty() && !name.starts_with('.') && name.len() <= 128;
    if is_usable && name.chars().all(is_plain) {
        return None;
    }
    Some("a name has letters, digits, `-`, `_` and `.`, at most 128, and no dot in front")
}

/// Settings from a JSON object whose keys are the settings' names; `origin` stands for it in errors.
///
/// # Errors
///
/// It has an unknown key (the error names the nearest) or a value of another type (the error names
/// the key).
pub fn from_json(object: serde_json::Value, origin: &Path) -> Result<Settings, ConfigError> {
    deserialize(object, origin, RUN)
}

fn deserialize<'de, D, T>(deserializer: D, path: &Path, known: Known) -> Result<T, ConfigError>
where
    D: Deserializer<'de, Error: fmt::Display>,
    T: Deserialize<'de>,
{
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(deserializer, &mut track);
    let mut unknown: Option<String> = None;
    let settings = serde_ignored::deserialize(deserializer, |key| {
        unknown.get_or_insert_with(|| key.to_string());
    });
    if let Some(key) = unknown {
        let (_, last) = key.rsplit_once('.').unwrap_or(("", &key));
        let nearest = nearest(last, (known.keys)(&key));
        let (path, listed) = (path.to_owned(), known.listed);
        return Err(ConfigError::UnknownKey { path, key, nearest, listed });
    }
    settings.map_err(|error| ConfigError::Type {
        path: path.to_owned(),
        key: track.path().to_string(),
        problem: error.to_string().trim_end().into(),
    })
}

/// The name most like `key`, if any is like it at all.
fn nearest(key: &str, names: Vec<String>) -> Option<String> {
    const LIKE: f64 = 0.6;
    let key = key.replace('_', "-");
    names
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(&key, &name), name))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, Path::new("job.toml")).unwrap_err().to_string()
    }

    #[test]
    fn every_setting_has_the_name_of_its_flag() {
        let settings = parse(
            r#"
            env = ["http://a:1", "http://b:2"]
            header = "X-Team: rl"
            sessions = 8
            session-reuse = 4
            step-timeout-ms = 250
            json = true
            "#,
            Path::new("job.toml"),
        )
        .unwrap();
        assert_eq!(settings.env, ["http://a:1", "http://b:2"]);
        assert_eq!(settings.header, ["X-Team: rl"]);
        assert_eq!((settings.sessions, settings.step_timeout_ms), (Some(8), Some(250)));
        assert_eq!(settings.session_reuse.unwrap().to_string(), "4");
        assert!(settings.json && !settings.quiet);
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let message = error("sesions = 3");
        assert!(message.contains("`sesions`") && message.contains("`sessions`"), "{message}");
        let message = error("max_steps = 3");
        assert!(message.contains("did you mean `max-steps`"), "{message}");
        let message = error("zzz = 3");
        assert!(message.contains("--help"), "{message}");
        let message = error("[run]\nepisodes = 3");
        assert!(message.contains("`run`"), "{message}");
    }

    #[test]
    fn wrong_types_name_the_key_and_the_line() {
        let message = error("\nsessions = \"many\"");
        assert!(message.contains("`sessions`") && message.contains("line 2"), "{message}");
        let message = error("session-reuse = -1");
        assert!(message.contains("session-reuse") && message.contains("unlimited"), "{message}");
        let message = error("env = 5");
        assert!(message.contains("`env`") && message.contains("list of strings"), "{message}");
    }

    #[test]
    fn json_is_read_alike() {
        let read = |value| from_json(value, Path::new("run()"));
        let settings =
            read(serde_json::json!({ "env": "native:echo", "max-steps": 3, "quiet": true }))
                .unwrap();
        assert_eq!((settings.env, settings.max_steps), (vec!["native:echo".into()], Some(3)));
        assert!(settings.quiet);
        for (value, expected) in [
            (serde_json::json!({ "sesions": 3 }), "did you mean `sessions`"),
            (serde_json::json!({ "sessions": "many" }), "run(): `sessions`: invalid type"),
            (serde_json::json!([1]), "invalid type"),
        ] {
            let message = read(value).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn what_is_no_toml_names_the_place() {
        let message = error("sessions = \n");
        assert!(message.contains("job.toml") && message.contains("line 1"), "{message}");
        let message = error("sessions = 1\nsessions = 2");
        assert!(message.contains("duplicate") && message.contains("line 2"), "{message}");
    }
}
