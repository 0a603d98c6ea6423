//! Going on with a job: what must be as it was, and what may have changed.

use std::{fs, path::Path};

use serde_json::Value;

use super::Settings;

/// Settings of `job.json` that change how fast, from where and how patiently a job is played, and not
/// what is played.
const MAY_CHANGE: [&str; 21] = [
    "sessions",
    "episode-records",
    "header",
    "ca",
    "message-bytes-max",
    "ping-ms",
    "gather-ms",
    "session-timeout-ms",
    "retry-budget",
    "ejected-percent-max",
    "episodes-mib-max",
    "flight-recorder",
    "flight-recorder-bytes-max",
    "source-address",
    "connect-timeout-ms",
    "first-reset-timeout-ms",
    "reset-timeout-ms",
    "step-timeout-ms",
    "job-timeout-ms",
    "no-server-timeout-ms",
    "start-timeout-ms",
];

/// The setting that differs between two forms of a job, with both values; `None` if it is the same
/// job. Only keys of `now` are looked at.
pub(crate) fn changed(before: &Value, now: &Value) -> Option<(String, Value, Value)> {
    let null = Value::Null;
    now.as_object()?
        .iter()
        .filter(|(key, _)| !MAY_CHANGE.contains(&key.as_str()))
        .map(|(key, value)| (key, before.get(key).unwrap_or(&null), value))
        .find(|(_, before, now)| before != now)
        .map(|(key, before, now)| (key.clone(), before.clone(), now.clone()))
}

/// The name of the job that `settings` go on with, where they give none themselves: a run without
/// `--name` is named after its start, which a resumed one cannot guess.
#[must_use]
pub fn resumed_name(settings: &Settings) -> Option<String> {
    let out = settings.out.as_deref().filter(|_| settings.resume && settings.name.is_none())?;
    let job = fs::read_to_string(Path::new(out).join("job.json")).ok()?;
    let job: Value = serde_json::from_str(&job).ok()?;
    job.get("name")?.as_str().map(String::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_played_must_not_change() {
        let before = json!({"episodes": 5, "sessions": 4, "seed": 0});
        assert_eq!(changed(&before, &json!({"episodes": 5, "sessions": 8, "seed": 0})), None);
        let (key, was, is) = changed(&before, &json!({"episodes": 5, "seed": 1})).unwrap();
        assert_eq!((key.as_str(), was, is), ("seed", json!(0), json!(1)));
        assert_eq!(changed(&before, &json!({"split": null})), None);
        assert!(changed(&before, &json!({"split": "train"})).is_some());
        let groups = json!({"samples": 4, "retry-budget": 10});
        assert_eq!(changed(&groups, &json!({"samples": 4, "retry-budget": 0})), None);
        assert!(changed(&groups, &json!({"samples": null})).is_some());
    }
}
