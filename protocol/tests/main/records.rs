//! Records as JSON lines.

use bytes::Bytes;
use envmill_protocol::{
    Generated, Trajectory,
    record::{ReadError, SCHEMA_VERSION, read_json_line, whole_prompt, write_json_line},
};
use proptest::prelude::*;
use serde_json::Value;

use crate::{
    json_texts,
    trajectories::{any_trajectory, example},
};

fn line(trajectory: &Trajectory) -> Vec<u8> {
    let mut line = Vec::new();
    write_json_line(&mut line, trajectory);
    line
}

/// The line as a value.
fn value(trajectory: &Trajectory) -> Value {
    serde_json::from_slice(&line(trajectory)).expect("a line is JSON")
}

/// Whether what is written is one line of JSON. Half surrogate pairs are allowed there, which no
/// value of `serde_json` can hold.
fn is_one_line(trajectory: &Trajectory) -> bool {
    let line = line(trajectory);
    line.iter().position(|&byte| byte == b'\n') == Some(line.len() - 1)
        && serde_json::from_slice::<serde::de::IgnoredAny>(&line).is_ok()
}

proptest! {
    #[test]
    fn records_survive(trajectory in any_trajectory()) {
        let mut file = line(&example());
        let before = file.len();
        write_json_line(&mut file, &trajectory);
        prop_assert_eq!(file.iter().filter(|&&byte| byte == b'\n').count(), 2);
        prop_assert_eq!(read_json_line(&file[before..]).unwrap(), trajectory);
    }

    #[test]
    fn any_json_is_kept_save_for_newlines(text in json_texts::value()) {
        let mut trajectory = example();
        trajectory.steps[0].observed.observation = text.clone().into();
        prop_assert!(is_one_line(&trajectory));
        let read = read_json_line(&line(&trajectory)).unwrap();
        let kept = text.replace(['\n', '\r'], " ");
        prop_assert_eq!(read.steps[0].observed.observation.text(), &kept);
    }

    #[test]
    fn any_bytes_still_make_one_line_of_json(bytes in prop::collection::vec(any::<u8>(), 1..50)) {
        let mut trajectory = example();
        trajectory.steps[0].action = bytes.clone().into();
        trajectory.messages = bytes.into();
        prop_assert!(is_one_line(&trajectory));
        prop_assert!(read_json_line(&line(&trajectory)).is_ok());
    }

    #[test]
    fn any_text_reads_as_something(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = read_json_line(&bytes);
    }
}

#[test]
fn what_is_no_json_becomes_a_string() {
    let mut trajectory = example();
    trajectory.steps[0].action = "go\n\"left\"".into();
    trajectory.steps[1].action = Bytes::from_static(b"\xff{");
    let value = value(&trajectory);
    assert_eq!(value["steps"][0]["action"], "go\n\"left\"");
    assert_eq!(value["steps"][1]["action"], "\u{fffd}{");
}

#[test]
fn missing_and_null_rewards_differ() {
    let mut trajectory = example();
    trajectory.steps[0].observed.reward = envmill_protocol::Reward::default();
    let value = value(&trajectory);
    assert_eq!(value["steps"][0]["reward"], Value::Null);
    assert_eq!(value["steps"][0]["reward_missing"], true);
    assert_eq!(value["reset"]["reward"], Value::Null);
    assert_eq!(value["reset"].get("reward_missing"), None);
    assert_eq!(read_json_line(&line(&trajectory)).unwrap(), trajectory);
}

#[test]
fn numbers_that_json_lacks_are_words() {
    let mut trajectory = example();
    trajectory.reward = Some(f64::NAN);
    trajectory.metrics = vec![("loss".into(), f64::INFINITY)];
    trajectory.tokens.logprobs = vec![f32::NEG_INFINITY, f32::NAN];
    let value = value(&trajectory);
    assert_eq!(value["reward"], "NaN");
    assert_eq!(value["metrics"]["loss"], "Infinity");
    assert_eq!(value["tokens"]["logprobs"], serde_json::json!(["-Infinity", "NaN"]));
    let read = read_json_line(&line(&trajectory)).unwrap();
    assert!(read.reward.unwrap().is_nan());
    assert_eq!(read.metrics, trajectory.metrics);
    assert!(read.tokens.logprobs[0] < f32::MIN && read.tokens.logprobs[1].is_nan());
}

/// What version 1 has written: every prompt is whole, and generations say less.
#[test]
fn a_record_of_version_1_is_read() {
    let old = read_json_line(include_bytes!("../records/version-1.jsonl")).unwrap();
    assert_eq!(whole(old), as_version_1(example()));
}

fn whole(mut record: Trajectory) -> Trajectory {
    let all = record.generations.clone();
    for (index, it) in record.generations.iter_mut().enumerate() {
        it.prompt_token_ids = whole_prompt(&all, index);
        it.prompt_shared = 0;
    }
    record
}

/// The example as it was written then.
fn as_version_1(record: Trajectory) -> Trajectory {
    let mut record = whole(record);
    for it in &mut record.generations {
        *it = Generated {
            prompt_token_ids: it.prompt_token_ids.clone(),
            token_ids: it.token_ids.clone(),
            logprobs: it.logprobs.clone(),
            loss_mask: it.loss_mask.clone(),
            policy_versions: it.policy_versions.clone(),
            parent: it.parent,
            ..Generated::default()
        };
    }
    record.turns[2].role = "tool".into();
    record
}

#[test]
fn prompts_that_cannot_be_put_together_are_refused() {
    for (field, value, told) in [
        ("prompt_shared", 7, "with generation 0, which has 6"),
        ("parent", 1, "no earlier one"),
        ("prompt_shared", u64::from(u32::MAX), "at most 4294967295"),
    ] {
        let refused = changed(|line| line["generations"][1][field] = value.into());
        let Err(ReadError::Prompt(why)) = refused else { panic!("{refused:?}") };
        assert!(why.to_string().contains(told), "{why}");
    }
}

/// The example line with one thing changed.
fn changed(change: impl FnOnce(&mut Value)) -> Result<Trajectory, ReadError> {
    let mut value = value(&example());
    change(&mut value);
    read_json_line(value.to_string().as_bytes())
}

#[test]
fn readers_ignore_what_they_do_not_know_and_refuse_what_they_cannot_know() {
    let added = String::from_utf8(line(&example()))
        .unwrap()
        .replacen('{', r#"{"added":[{}],"#, 1)
        .replace(r#""kind":"completed""#, r#""kind":"completed","added":1"#)
        .replace(r#"{"action""#, r#"{"added":"x","action""#);
    assert_eq!(added.matches("added").count(), 4);
    assert_eq!(read_json_line(added.as_bytes()).unwrap(), example());

    let newer = changed(|value| {
        value["schema_version"] = (SCHEMA_VERSION + 1).into();
        value["steps"] = Value::Null;
    });
    assert!(matches!(newer, Err(ReadError::NewerSchema { found }) if found == SCHEMA_VERSION + 1));

    for (field, wrong) in [("end", "completed: by magic"), ("content_hash", "12"), ("ended", "so")]
    {
        let result = changed(|value| match field {
            "end" => value["end"]["cause"] = "by magic".into(),
            "content_hash" => value["content_hash"] = wrong.into(),
            _ => value["steps"][0]["ended"] = wrong.into(),
        });
        match result {
            Err(ReadError::UnknownValue { field: named, value }) => {
                assert_eq!((named, value.as_str()), (field, wrong));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(changed(|value| value["steps"] = 3.into()), Err(ReadError::Malformed(_))));

    let whole = line(&example());
    for length in (0..whole.len() - 1).step_by(97) {
        assert!(matches!(read_json_line(&whole[..length]), Err(ReadError::Malformed(_))));
    }
}

/// The example in the document is what the program writes.
#[test]
fn the_document_shows_a_true_line() {
    let document = include_str!("../../../docs/record.md");
    let shown = document.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let written = String::from_utf8(line(&example())).unwrap();
    assert_eq!(shown, written, "put the written line into docs/record.md");
    assert_eq!(read_json_line(shown.as_bytes()).unwrap(), example());
}

/// Every key of the example is explained in the document.
#[test]
fn the_document_explains_every_field() {
    fn keys(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(key, value)| {
                found.push(key.clone());
                // What environments and scorers name is theirs to explain.
                let theirs = ["action", "observation", "metadata", "reset_parameters", "messages"];
                let named = ["reward_components", "metrics", "sampling"];
                if !theirs.contains(&key.as_str()) && !named.contains(&key.as_str()) {
                    keys(value, found);
                }
            }),
            Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }
    let document = include_str!("../../../docs/record.md");
    let mut found = Vec::new();
    keys(&value(&example()), &mut found);
    for key in found {
        assert!(document.contains(&format!("| `{key}` |")), "{key} is not in docs/record.md");
    }
}
