//! CartPole against what Gymnasium did.

use envmill_native::{BatchEnv, CartPole, Columns, Reset};
use envmill_protocol::Ended;
use serde::Deserialize;

use crate::support::{Sessions, parameters, text};

const RECORDED: &str = include_str!("../fixtures/cartpole_v1.json");

#[derive(Deserialize)]
struct Recorded {
    trajectories: Vec<Trajectory>,
}

#[derive(Deserialize)]
struct Trajectory {
    name: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    before: [f64; 4],
    action: u8,
    after: [f64; 4],
    observation: [f32; 4],
    reward: f64,
    terminated: bool,
    truncated: bool,
}

fn recorded() -> Vec<Trajectory> {
    serde_json::from_str::<Recorded>(RECORDED).expect("the recording").trajectories
}

#[derive(Deserialize)]
struct Observation {
    state: [f32; 4],
}

/// Each step alone, from the recorded state before it.
#[test]
fn one_step_agrees_with_gymnasium() {
    for trajectory in recorded() {
        for step in &trajectory.steps {
            let mut poles = CartPole::default();
            poles.resize(1);
            let mut seen = [0.0; 4];
            let reset = Reset { seed: None, start: Some(step.before) };
            poles.reset_range(0..1, &[1], &[reset], &mut seen);
            let (mut reward, mut terminated) = ([0.0], [9]);
            poles.step_range(
                0..1,
                &[step.action],
                &mut Columns {
                    observations: &mut seen,
                    rewards: &mut reward,
                    terminated: &mut terminated,
                    truncated: &mut [9],
                    failed: &mut [9],
                    delays_ns: &mut [9],
                },
            );
            for (ours, theirs) in seen.iter().zip(step.after) {
                let difference = (f64::from(*ours) - theirs).abs();
                assert!(difference < 1e-5, "{}: {ours} for {theirs}", trajectory.name);
            }
            assert_eq!(reward, [step.reward]);
            assert_eq!(terminated, [u8::from(step.terminated)]);
        }
    }
}

/// Whole trajectories through the worker, from the recorded first state: errors do not build up.
#[test]
fn whole_trajectories_agree_with_gymnasium() {
    for trajectory in recorded() {
        let mut sessions = Sessions::with_session("cartpole", &parameters(&[]));
        let start = serde_json::to_string(&trajectory.steps[0].before).expect("JSON");
        sessions.reset(&format!("{{\"state\":{start}}}"));
        for (i, step) in trajectory.steps.iter().enumerate() {
            let observed = sessions.step(&format!("{{\"action\":{}}}", step.action));
            let seen: Observation = serde_json::from_slice(&observed.observation).expect("JSON");
            for (ours, theirs) in seen.state.iter().zip(step.observation) {
                let close = (ours - theirs).abs() < 1e-5;
                assert!(close, "{} at {i}: {ours} for {theirs}", trajectory.name);
            }
            assert_eq!(observed.reward.value, Some(step.reward));
            let ended = if step.terminated {
                Some(Ended::Terminated)
            } else {
                step.truncated.then_some(Ended::Truncated)
            };
            assert_eq!(observed.ended, ended, "{} at {i}", trajectory.name);
        }
    }
}

#[test]
fn the_answer_says_whether_the_end_was_a_limit() {
    let mut sessions = Sessions::with_session("cartpole", &parameters(&[]));
    let first = sessions.reset(r#"{"state":[0,0,0.2,0]}"#);
    assert_eq!(text(&first.observation), r#"{"metadata":{},"state":[0.0,0.0,0.2,0.0]}"#);
    assert_eq!(text(&first.reward.raw), "null");
    assert_eq!(first.metadata, "");
    let last = loop {
        let observed = sessions.step(r#"{"action":1}"#);
        assert_eq!(text(&observed.reward.raw), "1.0");
        if observed.ended.is_some() {
            break observed;
        }
    };
    assert_eq!(text(&last.metadata), r#"{"truncated":false}"#);
    // Beyond the end nothing is earned.
    assert_eq!(sessions.step(r#"{"action":1}"#).reward.value, Some(0.0));
}
