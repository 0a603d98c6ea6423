//! The episode machine as a snapshot: every state against every trigger.

use std::fmt::Write;

use envmill_core::{State, TRANSITIONS, Trigger};
use expect_test::expect_file;

#[test]
fn every_transition() {
    let mut text = String::new();
    for from in State::ALL {
        writeln!(text, "{}", from.name()).unwrap();
        for transition in TRANSITIONS {
            if let Some(to) = from.on(transition.trigger) {
                writeln!(text, "    {:?} -> {}", transition.trigger, to.name()).unwrap();
            }
        }
    }
    expect_file!["table.txt"].assert_eq(&text);
}

#[test]
fn the_list_and_the_function_agree() {
    for transition in TRANSITIONS {
        for from in State::ALL {
            let listed = transition.from.contains(&from);
            assert_eq!(from.on(transition.trigger).is_some(), listed, "{from:?} {transition:?}");
        }
    }
}

#[test]
fn nothing_leaves_a_terminal_state_and_every_other_can_end() {
    for state in State::ALL {
        let leaves = TRANSITIONS.iter().filter(|t| t.from.contains(&state)).count();
        assert_eq!(leaves == 0, state.is_terminal(), "{state:?}");
        if !state.is_terminal() {
            assert_eq!(state.on(Trigger::Cancel), Some(State::Cancelled));
            assert_eq!(state.on(Trigger::Fail), Some(State::Failed));
        }
    }
}
