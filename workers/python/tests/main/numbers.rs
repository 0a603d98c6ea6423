//! Gymnasium environments: numbers as columns, the rest as text, and what is none of their space.

use envmill_protocol::{Ended, FailureKind, Observed, Outcome, Request, Reward, SessionFate};
use envmill_python_worker::{Gymnasium, Options, Target};

use crate::rig::{Rig, options};

fn gymnasium(name: &str, arguments: &str) -> Options {
    let target =
        Gymnasium { name: name.into(), arguments: arguments.into(), ..Gymnasium::default() };
    Options { target: Target::Gymnasium(target), ..options("") }
}

fn observed(outcome: Outcome) -> Observed {
    match outcome {
        Outcome::Reset(seen) | Outcome::Stepped(seen) => seen,
        other => panic!("no observation: {other:?}"),
    }
}

fn state(seen: &Observed) -> Vec<f32> {
    let value: serde_json::Value = serde_json::from_slice(&seen.observation).expect("JSON");
    serde_json::from_value(value["observation"].clone()).expect("numbers")
}

#[test]
fn cartpole_is_stepped_by_columns() {
    let mut rig = Rig::start(gymnasium("gymnasium/CartPole-v1", r#"{"max_episode_steps":5}"#));
    for slot in 0..6 {
        rig.open(slot, slot % 2);
    }
    let first: Vec<Vec<f32>> =
        (0..6).map(|slot| state(&observed(rig.reset(slot, r#"{"seed":7}"#)))).collect();
    assert!(first.iter().all(|state| state == &first[0] && state.len() == 4), "{first:?}");
    for refused in [r#"{"action":0.5}"#, r#"{"action":[1]}"#, "{}", r#"{"action":1,"more":2}"#] {
        match rig.step(0, refused) {
            Outcome::Failed(failure) => {
                assert_eq!(
                    (failure.kind, failure.session),
                    (FailureKind::Invalid, SessionFate::Kept)
                );
            }
            other => panic!("{refused}: {other:?}"),
        }
    }
    // Beyond the space: the environment's own word.
    assert!(matches!(
        rig.step(0, r#"{"action":2}"#),
        Outcome::Failed(failure) if failure.kind == FailureKind::Environment
    ));
    for step in 1..=5 {
        let seen = observed(rig.step(1, &format!(r#"{{"action":{}}}"#, step % 2)));
        assert_eq!(seen.reward.value, Some(1.0));
        assert_eq!(seen.ended, (step == 5).then_some(Ended::Truncated));
        let metadata: &[u8] = if step == 5 { br#"{"truncated":true}"# } else { b"" };
        assert_eq!(seen.metadata, metadata);
    }
    assert!(matches!(
        rig.ask(1, Request::State),
        Outcome::State(text) if text == r#"{"episode_id": null, "step_count": 5}"#.as_bytes()
    ));
    // As often as it is stepped after its end, and from its next beginning on again.
    assert_eq!(observed(rig.step(1, r#"{"action":1}"#)).ended, Some(Ended::Truncated));
    observed(rig.reset(1, r#"{"seed":7}"#));
    for step in 1..=5 {
        let seen = observed(rig.step(1, &format!(r#"{{"action":{}}}"#, step % 2)));
        assert_eq!(seen.ended, (step == 5).then_some(Ended::Truncated), "{step}");
    }
}

#[test]
fn each_environment_of_a_factory_may_have_a_limit_of_its_own() {
    let mut rig = Rig::start(gymnasium("gym_env:limited", ""));
    for (slot, limit) in [(0, 2), (2, 6), (4, 4)] {
        rig.open(slot, 0);
        observed(rig.reset(slot, r#"{"seed":7}"#));
        for step in 1..=limit {
            let seen = observed(rig.step(slot, &format!(r#"{{"action":{}}}"#, step % 2)));
            assert_eq!(seen.ended, (step == limit).then_some(Ended::Truncated), "{limit}: {step}");
        }
    }
}

#[test]
fn spaces_without_a_fixed_size_go_as_text() {
    let mut rig = Rig::start(gymnasium("gym_env:make", ""));
    rig.open(0, 0);
    let seen = observed(rig.reset(0, r#"{"seed":1,"options":{"greet":"you"}}"#));
    let expected = r#"{"observation":{"at": [0, 0], "text": "you"}}"#;
    assert_eq!(String::from_utf8_lossy(&seen.observation), expected);
    let seen = observed(rig.step(0, r#"{"action":{"move":2,"say":"up"}}"#));
    let expected = r#"{"observation":{"at": [2, 1], "text": "up"}}"#;
    assert_eq!(String::from_utf8_lossy(&seen.observation), expected);
    assert_eq!(seen.metadata, r#"{"steps":1,"hint": [1.5, 2.5]}"#.as_bytes());
    assert!(matches!(rig.step(0, r#"{"action":{"move":"left"}}"#), Outcome::Failed(_)));
    let ended = observed(rig.step(0, r#"{"action":{"move":9,"say":""}}"#));
    assert_eq!(ended.ended, Some(Ended::Terminated));
}

#[test]
fn an_observation_of_the_wrong_shape_is_told() {
    let mut rig = Rig::start(gymnasium("gym_env:Wrong", ""));
    rig.open(0, 0);
    observed(rig.reset(0, "{}"));
    match rig.step(0, r#"{"action":[0.0,0.5]}"#) {
        Outcome::Failed(failure) => {
            assert_eq!(
                (failure.kind, failure.session),
                (FailureKind::Environment, SessionFate::Kept)
            );
            assert!(failure.message.contains("shape (3,), and not (2,)"), "{}", failure.message);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn whatever_an_observation_is_made_of_its_numbers_come_through() {
    let mut options = gymnasium("gym_env:Odd", "");
    options.processes = 1;
    let mut rig = Rig::start(options);
    for slot in 0..6 {
        rig.open(slot, 0);
        observed(rig.reset(slot, "{}"));
    }
    for turn in 0..12 {
        // All at once, so that they mostly share a batch; in one of two only what can be copied as it is.
        let kinds = if turn % 2 == 0 { 6 } else { 1 };
        for slot in 0..6 {
            let action = format!(r#"{{"action":{}}}"#, slot % kinds);
            rig.send(slot, Request::Step { action: action.into() });
        }
        for slot in 0..6 {
            let action = slot % kinds;
            match rig.next(slot) {
                Outcome::Failed(failure) if action >= 4 => {
                    assert!(failure.message.contains("and not (2,)"), "{}", failure.message);
                }
                outcome if action < 4 => {
                    let number = action as f32;
                    assert_eq!(state(&observed(outcome)), [number, -number]);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn what_one_row_does_wrong_is_not_the_others() {
    let mut options = gymnasium("gymnasium/CartPole-v1", "");
    if let Target::Gymnasium(target) = &mut options.target {
        target.vector = Some(2);
    }
    options.processes = 1;
    let mut rig = Rig::start(options);
    let failed = |outcome: Outcome, told: &str| match outcome {
        Outcome::Failed(failure) => {
            assert_eq!(failure.session, SessionFate::Kept);
            assert!(failure.message.contains(told), "{}", failure.message);
        }
        other => panic!("{other:?}"),
    };
    rig.open(0, 0);
    rig.open(1, 0);
    failed(rig.step(0, r#"{"action":1}"#), "reset the environment first");
    for (parameters, told) in [
        (r#"{"seed":"x"}"#, "seed"),
        (r#"{"seed":-1}"#, "seed"),
        (r#"{"seed":99999999999999999999999}"#, "seed"),
        (r#"{"options":{"low":0}}"#, "options"),
    ] {
        failed(rig.reset(0, parameters), told);
    }
    observed(rig.reset(0, r#"{"seed":1}"#));
    observed(rig.reset(1, "{}"));
    // The other one waits for its neighbour, who has done nothing that counts yet.
    rig.send(1, Request::Step { action: r#"{"action":1}"#.into() });
    failed(rig.step(0, r#"{"action":7}"#), "no action");
    rig.send(0, Request::Step { action: r#"{"action":0}"#.into() });
    observed(rig.next(1));
    observed(rig.next(0));
    // One that leaves is not waited for.
    assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
    observed(rig.step(1, r#"{"action":1}"#));
}

#[test]
fn observations_of_the_wrong_shape_fail_in_their_rows() {
    let mut options = gymnasium("gym_env:WrongRows", "");
    if let Target::Gymnasium(target) = &mut options.target {
        target.vector = Some(1);
    }
    options.processes = 1;
    let mut rig = Rig::start(options);
    rig.open(0, 0);
    observed(rig.reset(0, "{}"));
    for _ in 0..2 {
        match rig.step(0, r#"{"action":[0.0,0.5]}"#) {
            Outcome::Failed(failure) => {
                assert!(failure.message.contains("shape (3,)"), "{}", failure.message);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn rows_that_step_together_are_told_what_each_is() {
    let mut options = gymnasium("gym_env:Telling", "");
    if let Target::Gymnasium(target) = &mut options.target {
        target.vector = Some(2);
    }
    options.processes = 1;
    let mut rig = Rig::start(options);
    for slot in 0..2 {
        rig.open(slot, 0);
        rig.send(slot, Request::Reset { parameters: "{}".into() });
    }
    for slot in 0..2 {
        assert_eq!(state(&observed(rig.next(slot))), vec![slot as f32; 2000]);
    }
    let infos = |row: u64| {
        [
            serde_json::json!({ "row": row, "half": row as f64 / 2.0, "odd": row == 1 }),
            if row == 1 { serde_json::json!({ "row": 1 }) } else { serde_json::json!({}) },
            serde_json::json!({ "row": row + (1 << 60), "small": row }),
            serde_json::json!({ "name": format!("row {row}"), "truncated": false }),
        ]
    };
    for taken in 0..4 {
        // In either order.
        for slot in [taken % 2, 1 - taken % 2] {
            let action = format!(r#"{{"action":{}}}"#, slot + 1);
            rig.send(slot, Request::Step { action: action.into() });
        }
        for slot in 0..2 {
            let seen = observed(rig.next(slot));
            let number = slot + 10 * (slot + 1) + 1000 * (taken + 1);
            assert_eq!(state(&seen), vec![number as f32; 2000]);
            assert_eq!(seen.reward, Reward::from_number(f64::from(slot) / 4.0));
            let told: serde_json::Value = match seen.metadata.is_empty() {
                true => serde_json::json!({}),
                false => serde_json::from_slice(&seen.metadata).expect("JSON"),
            };
            assert_eq!(told, infos(slot.into())[taken as usize]);
            assert_eq!(seen.ended.is_some(), taken == 3);
        }
    }
}

#[test]
fn infos_that_are_never_alike_go_as_text_in_the_end() {
    let mut rig = Rig::start(gymnasium("gym_env:Chatty", ""));
    rig.open(0, 0);
    observed(rig.reset(0, "{}"));
    for step in 1..=1_100 {
        let seen = observed(rig.step(0, r#"{"action":0}"#));
        let info: serde_json::Value = serde_json::from_slice(&seen.metadata).expect("JSON");
        assert_eq!(info, serde_json::json!({ format!("n{step}"): step, "big": 1_u64 << 60 }));
    }
}
