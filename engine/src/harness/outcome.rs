//! How a program has ended, and what it has left of its episode.

use std::{fs::File, io::Read as _, path::Path};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The largest result, in bytes.
const RESULT_BYTES_MAX: u64 = 1 << 20;

/// How an episode's program has ended, as the action of its one step says it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outcome {
    /// Its exit status, or what else ended it.
    pub(super) ended: String,
    /// Its time was over.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) truncated: bool,
    /// Why it has failed, if it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// What it said that the episode was worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reward: Option<Box<RawValue>>,
    /// What else it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Box<RawValue>>,
    /// The end of what it printed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) output: String,
}

/// What a program says of its episode. What else is in there is not looked at.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Said {
    #[serde(default)]
    pub(super) reward: Option<Box<RawValue>>,
    #[serde(default)]
    pub(super) metadata: Option<Box<RawValue>>,
}

impl Outcome {
    /// It has failed.
    pub(super) fn failed(ended: impl Into<String>, error: impl Into<String>) -> Self {
        Self { ended: ended.into(), error: Some(error.into()), ..Self::default() }
    }

    /// The same, with what the program said.
    pub(super) fn saying(self, said: Said) -> Self {
        Self { reward: said.reward, metadata: said.metadata, ..self }
    }

    pub(super) fn action(&self) -> Bytes {
        // Texts and JSON always have a JSON form.
        let mut action = serde_json::to_vec(self).unwrap_or_default();
        // Within JSON these are between values only, and an action is one line.
        action.iter_mut().filter(|it| matches!(it, b'\n' | b'\r')).for_each(|it| *it = b' ');
        action.into()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
const fn is_false(it: &bool) -> bool {
    !*it
}

impl Said {
    /// What a program has left: the result that it has written, or else the last line of its output, if that
    /// is an object with a reward. Without either it has said nothing.
    ///
    /// # Errors
    ///
    /// It has written what is no result: why, for people.
    pub(super) fn read(result: &Path, output: &[u8]) -> Result<Self, String> {
        if let Some(text) = written(result)? {
            return Self::parse(&text).map_err(|problem| {
                format!("its result is no object such as {{\"reward\": 1.0}}: {problem}")
            });
        }
        let mut lines = output.rsplit(|it| *it == b'\n').map(<[u8]>::trim_ascii);
        let last = lines.find(|it| !it.is_empty()).unwrap_or_default();
        let said = Self::parse(last).ok();
        Ok(said.filter(|it| it.reward.is_some()).unwrap_or_default())
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        // A list would be read, too.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err("it does not begin with {".into());
        }
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }
}

/// The text of the result, if there is one.
fn written(result: &Path) -> Result<Option<Vec<u8>>, String> {
    // Only a file ends; what a program makes in its place may not.
    let Ok(about) = result.symlink_metadata() else { return Ok(None) };
    if !about.is_file() {
        return Err("its result is no file".into());
    }
    let mut text = Vec::new();
    let read =
        File::open(result).and_then(|it| it.take(RESULT_BYTES_MAX + 1).read_to_end(&mut text));
    match read {
        Ok(_) if text.len() as u64 > RESULT_BYTES_MAX => {
            Err(format!("its result is longer than {RESULT_BYTES_MAX} bytes"))
        }
        Ok(_) => Ok(Some(text)),
        Err(error) => Err(format!("its result cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn reward(said: Result<Said, String>) -> Option<String> {
        said.unwrap().reward.map(|it| it.get().to_owned())
    }

    #[test]
    fn a_result_is_a_file_or_the_last_line() {
        let directory = tempfile::tempdir().unwrap();
        let result = directory.path().join("result.json");
        let of = |output: &str| reward(Said::read(&result, output.as_bytes()));
        assert_eq!(of("step\n{\"reward\": 0.5, \"more\": 1}\n\n"), Some("0.5".into()));
        for nothing in ["", "{\"reward\": 1}\ndone", "{\"score\": 1}", "{\"reward\": null}", "[1]"]
        {
            assert_eq!(of(nothing), None, "{nothing}");
        }
        fs::write(&result, r#"{"reward": -1, "metadata": {"a": [1]}}"#).unwrap();
        assert_eq!(of("{\"reward\": 1}"), Some("-1".into()));
        let said = Said::read(&result, b"").unwrap();
        assert_eq!(said.metadata.unwrap().get(), r#"{"a": [1]}"#);
    }

    #[test]
    fn what_is_no_result_is_not_taken_for_none() {
        let directory = tempfile::tempdir().unwrap();
        let result = directory.path().join("result.json");
        for wrong in ["", "{\"reward\": NaN}", "[1]", "nonsense"] {
            fs::write(&result, wrong).unwrap();
            let problem = Said::read(&result, b"").unwrap_err();
            assert!(problem.contains("no object such as"), "{problem}");
        }
        fs::remove_file(&result).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &result).unwrap();
        assert_eq!(Said::read(&result, b"").unwrap_err(), "its result is no file");
    }

    #[test]
    fn an_outcome_is_an_action() {
        let said = Said { reward: serde_json::from_str("1.50").ok(), metadata: None };
        let outcome = Outcome { ended: "exit status: 0".into(), ..Outcome::default() }.saying(said);
        assert_eq!(outcome.action(), r#"{"ended":"exit status: 0","reward":1.50}"#);
        let metadata = serde_json::from_str("{\n\"a\": \"\\n\"\n}").ok();
        let spread = Outcome::default().saying(Said { reward: None, metadata });
        assert_eq!(spread.action(), r#"{"ended":"","metadata":{ "a": "\n" }}"#);
        let failed = Outcome::failed("exit status: 3", "it said \"no\"");
        let text = r#"{"ended":"exit status: 3","error":"it said \"no\""}"#;
        assert_eq!(failed.action(), text);
    }
}
