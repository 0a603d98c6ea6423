//! Same seed and actions, same bytes.

use envmill_protocol::Observed;
use proptest::prelude::*;

use crate::support::{Sessions, parameters, text};

fn play(name: &str, options: &[(&str, &str)], seed: u64, actions: &[String]) -> Vec<Observed> {
    let mut sessions = Sessions::with_session(name, &parameters(options));
    // What the session played before must not matter.
    sessions.reset(&format!("{{\"seed\":{}}}", seed.wrapping_add(1)));
    for action in actions {
        let _ = sessions.try_step(action);
    }
    let mut observed = vec![sessions.reset(&format!("{{\"seed\":{seed}}}"))];
    observed.extend(actions.iter().filter_map(|action| sessions.try_step(action).ok()));
    observed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn same_seed_same_bytes(seed: u64, pushes in prop::collection::vec(0u8..2, 1..80)) {
        let actions: Vec<String> = pushes.iter().map(|p| format!("{{\"action\":{p}}}")).collect();
        prop_assert_eq!(
            play("cartpole", &[], seed, &actions),
            play("cartpole", &[], seed, &actions)
        );
        let actions: Vec<String> = pushes.iter().map(|p| format!("{{\"value\":{p}}}")).collect();
        let options = [("payload_bytes", "100"), ("fail_rate", "0.2"), ("episode_steps", "20")];
        prop_assert_eq!(
            play("synthetic", &options, seed, &actions),
            play("synthetic", &options, seed, &actions)
        );
        let actions: Vec<String> =
            pushes.iter().map(|p| format!("{{\"action\":{}}}", p + 1)).collect();
        prop_assert_eq!(
            play("frozenlake", &[], seed, &actions),
            play("frozenlake", &[], seed, &actions)
        );
        let actions: Vec<String> = pushes
            .iter()
            .map(|p| format!("{{\"guess\":\"{}\"}}", ["crane", "moist"][usize::from(*p)]))
            .collect();
        let options = [("hints", "true")];
        prop_assert_eq!(
            play("wordguess", &options, seed, &actions),
            play("wordguess", &options, seed, &actions)
        );
    }

    #[test]
    fn echoes_any_message(message: String) {
        let mut sessions = Sessions::with_session("echo", &parameters(&[]));
        let quoted = serde_json::to_string(&message).expect("JSON");
        let observed = sessions.step(&format!("{{\"message\":{quoted}}}"));
        let seen: serde_json::Value =
            serde_json::from_slice(&observed.observation).expect("JSON");
        prop_assert_eq!(seen["echoed_message"].as_str(), Some(&*message));
        prop_assert_eq!(seen["message_length"].as_u64(), Some(message.chars().count() as u64));
    }

    #[test]
    fn no_action_makes_an_environment_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        for name in ["echo", "cartpole", "frozenlake", "synthetic", "wordguess"] {
            let mut sessions = Sessions::with_session(name, &parameters(&[]));
            let action = bytes::Bytes::from(bytes.clone());
            sessions.ask(0, envmill_protocol::Request::Step { action: action.clone() });
            sessions.ask(0, envmill_protocol::Request::Reset { parameters: action.clone() });
            sessions.ask(0, envmill_protocol::Request::ToolCall { request: action });
        }
    }
}

/// Pins the streams: a change here changes every recorded trajectory's hash.
#[test]
fn first_observations_are_pinned() {
    let first = |name, options: &[(&str, &str)]| {
        let mut sessions = Sessions::with_session(name, &parameters(options));
        text(&sessions.reset(r#"{"seed":42}"#).observation).to_owned()
    };
    expect_test::expect![[
        r#"{"metadata":{},"state":[0.041520182,-0.00028750353,0.01565001,0.027088983]}"#
    ]]
    .assert_eq(&first("cartpole", &[]));
    expect_test::expect![[r#"{"metadata":{},"step":0,"value":0,"payload":"fpjdokkkfpjd"}"#]]
        .assert_eq(&first("synthetic", &[("payload_bytes", "12")]));
}
