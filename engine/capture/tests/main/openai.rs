//! The `openai` package, as harnesses use it.

use std::{sync::atomic::Ordering, time::Duration};

use envmill_capture::{Begun, CaptureOptions, Captured, End, Limits};
use envmill_protocol::{GeneratedKind, record::whole_prompt};
use envmill_testing::{Watchdog, wait_until};

use crate::rig::{self, Rig};

fn played(scenario: &str) -> Captured {
    let rig = Rig::new();
    let key = rig.open();
    rig.python(scenario, &key);
    rig.capture.close(&key).unwrap()
}

#[test]
fn answers_are_read() {
    let captured = played("plain");
    assert_eq!(captured.calls.len(), 3);
    assert!(captured.calls.iter().all(|it| matches!(it.end, End::Answered(_))));
}

#[test]
fn streams_are_read() {
    assert_eq!(played("streamed").calls.len(), 3);
}

#[test]
fn tools_are_called_and_their_answers_continue() {
    let captured = played("tools");
    let begun: Vec<_> = captured.calls.iter().map(|it| it.begun).collect();
    assert_eq!(begun, [Begun::Anew, Begun::Continued, Begun::Continued]);
    assert_eq!(captured.branches, 1);
}

#[test]
fn several_choices_and_the_most_likely_tokens_are_read() {
    let captured = played("choices");
    assert_eq!((captured.calls.len(), captured.branches), (7, 6));
}

#[test]
fn completions_are_read() {
    let captured = played("completions");
    assert_eq!(captured.calls.len(), 8);
    assert_eq!(captured.calls[1].begun, Begun::Continued);
}

#[test]
fn what_had_to_be_called_or_to_be_json_is_read() {
    let captured = played("held");
    assert_eq!(captured.calls.len(), 5);
    assert!(captured.calls.iter().all(|it| matches!(it.end, End::Answered(_))));
}

#[test]
fn errors_are_understood() {
    let captured = played("errors");
    assert_eq!((captured.refused, captured.calls.len()), (3, 3));
}

#[test]
fn a_client_that_goes_away_is_noticed() {
    let rig = Rig::new();
    let key = rig.open();
    rig.python("hang_up", &key);
    let dropped = || rig.mock.dropped.load(Ordering::SeqCst) == 1;
    wait_until("the generation is given up", Duration::from_secs(60), dropped);
    let captured = rig.capture.close(&key).unwrap();
    assert_eq!(captured.calls[0].end, End::HungUp);
    assert_eq!(captured.generations[0].kind, GeneratedKind::Discarded);
}

#[test]
fn a_crowd_of_clients_streams_at_once_and_all_is_recorded() {
    let _watchdog = Watchdog::start("256 clients", Duration::from_secs(500));
    let limits = Limits { calls_at_once: 512, ..Limits::default() };
    let rig = Rig::with(CaptureOptions { limits, ..rig::options() }, Duration::from_millis(20));
    let key = rig.open();
    rig.python("crowd", &key);
    let captured = rig.capture.close(&key).unwrap();
    assert_eq!((captured.calls.len(), captured.generations.len()), (768, 768));
    let continued = captured.calls.iter().filter(|it| it.begun == Begun::Continued).count();
    assert_eq!((captured.branches, continued, captured.refused), (256, 512, 0));
    // Each went on with its own conversation, and the engine has seen what is recorded.
    let mut recorded: Vec<_> = captured
        .generations
        .iter()
        .enumerate()
        .map(|(index, it)| (whole_prompt(&captured.generations, index), it.token_ids.clone()))
        .collect();
    let mut seen = rig.mock.seen.lock().unwrap().clone();
    recorded.sort();
    seen.sort();
    assert_eq!(recorded, seen);
    for generated in &captured.generations {
        let Some(parent) = generated.parent else { continue };
        let parent = &captured.generations[parent as usize];
        assert_eq!(generated.prompt_shared as usize, parent.length());
    }
}
