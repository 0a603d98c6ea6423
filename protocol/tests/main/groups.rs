//! Records of groups as JSON lines.

use envmill_protocol::{
    Failure, FailureKind,
    record::{
        Cancellation, End, FirstObservations, GroupOutcome, GroupRecord, MemberAttempt,
        MemberRecord, ReadError, SCHEMA_VERSION, read_group_line, write_group_line,
    },
};
use serde_json::Value;

/// Two samples were asked for and one more was started; the first two that ended count, and the last
/// was cut: the example of `docs/record.md`.
fn example() -> GroupRecord {
    let attempt = |cause: &str, steps, tokens| MemberAttempt { cause: cause.into(), steps, tokens };
    let member = |sample_index, end, reward, attempts: Vec<MemberAttempt>| MemberRecord {
        trajectory_id: format!("maze-{:08}", 9 + sample_index),
        sample_index,
        used: matches!(end, End::Completed { .. }),
        end,
        reward,
        steps: attempts.last().map_or(0, |last| last.steps),
        tokens: attempts.last().map_or(0, |last| last.tokens),
        first_observation: Some(0x00c0_ffee_0123_4567),
        attempts,
    };
    let completed = End::Completed { mapped: true };
    let lost = vec![attempt("disconnected", 3, 30), attempt("", 8, 81)];
    GroupRecord {
        job_id: "maze".into(),
        group_id: 3,
        task_id: String::new(),
        environment: "maze".into(),
        seed: Some(17),
        asked: 2,
        oversampled: 1,
        complete_at: 2,
        used: 2,
        outcome: GroupOutcome::Complete,
        filter: String::new(),
        refill_of: None,
        first_observations: FirstObservations::Agree,
        duplicates: 0,
        steps_used: 13,
        steps_wasted: 14,
        tokens_used: 131,
        tokens_wasted: 142,
        started_us: 1_000_250,
        ended_us: 1_270_030,
        members: vec![
            member(0, completed.clone(), Some(1.0), vec![attempt("", 5, 50)]),
            member(1, completed, Some(0.25), lost),
            member(2, End::Cancelled(Cancellation::Cut), None, vec![attempt("", 11, 112)]),
        ],
    }
}

fn line(group: &GroupRecord) -> String {
    let mut line = Vec::new();
    write_group_line(&mut line, group);
    String::from_utf8(line).unwrap()
}

#[test]
fn groups_survive() {
    let mut group = example();
    assert_eq!(read_group_line(line(&group).as_bytes()).unwrap(), group);
    group.outcome = GroupOutcome::Filtered;
    group.filter = "zero-variance".into();
    group.refill_of = Some(1);
    group.first_observations = FirstObservations::Unknown;
    group.members[0].end = End::Filtered("zero-variance".into());
    group.members[1].end = End::Failed(Failure::lost(FailureKind::Poison, "two servers"));
    group.members[2].first_observation = None;
    assert_eq!(read_group_line(line(&group).as_bytes()).unwrap(), group);
}

#[test]
fn readers_ignore_what_they_do_not_know_and_refuse_what_they_cannot_know() {
    let added = line(&example()).replacen('{', r#"{"added":[{}],"#, 1);
    assert_eq!(read_group_line(added.as_bytes()).unwrap(), example());
    let changed =
        |from: &str, to: &str| read_group_line(line(&example()).replace(from, to).as_bytes());
    let newer = changed(
        &format!("\"schema_version\":{SCHEMA_VERSION}"),
        &format!("\"schema_version\":{}", SCHEMA_VERSION + 1),
    );
    assert!(matches!(newer, Err(ReadError::NewerSchema { .. })));
    for (from, to, named) in [
        ("\"complete\"", "\"so\"", "outcome"),
        ("\"agree\"", "\"so\"", "first_observations"),
        ("00c0ffee", "+0c0ffee", "first_observation"),
        ("\"cut\"", "\"so\"", "end"),
    ] {
        let Err(ReadError::UnknownValue { field, .. }) = changed(from, to) else {
            panic!("{from} was read as {to}");
        };
        assert_eq!(field, named);
    }
    let whole = line(&example());
    for length in (0..whole.len() - 1).step_by(31) {
        let result = read_group_line(&whole.as_bytes()[..length]);
        assert!(matches!(result, Err(ReadError::Malformed(_))), "{length}");
    }
}

/// The example in the document is what the program writes, and every key is explained.
#[test]
fn the_document_shows_a_true_line() {
    let document = include_str!("../../../docs/record.md");
    let written = line(&example());
    let shown = document.split("```json\n").nth(2).unwrap().split("```").next().unwrap();
    assert_eq!(shown, written, "put the written line into docs/record.md");
    let value: Value = serde_json::from_str(&written).unwrap();
    let member = &value["members"][1];
    let objects = [&value, member, &member["attempts"][0]];
    for key in objects.iter().flat_map(|object| object.as_object().unwrap().keys()) {
        assert!(document.contains(&format!("| `{key}` |")), "{key} is not in docs/record.md");
    }
}
