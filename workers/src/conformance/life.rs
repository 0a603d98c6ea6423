//! The life of a session.

use envmill_protocol::{Outcome, Request};

use super::{
    Subject,
    bench::{Bench, open},
};

/// The number of a slot that leaves others unused below it.
const SLOT: u32 = 5;

pub(super) fn every_command_is_answered_once(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    assert_eq!(bench.ask(SLOT, open()), Outcome::Opened);
    let reset = Request::Reset { parameters: subject.reset_parameters(1) };
    let Outcome::Reset(observed) = bench.ask(SLOT, reset) else {
        panic!("a reset is answered by an observation")
    };
    assert!(!observed.observation.is_empty(), "an observation is JSON text");
    for _ in 0..3 {
        let outcome = bench.step(SLOT);
        let Outcome::Stepped(observed) = outcome else { panic!("step: {outcome:?}") };
        assert!(!observed.observation.is_empty(), "an observation is JSON text");
        assert!(
            observed.reward.value.is_none_or(f64::is_finite),
            "a reward is a number or missing, never NaN"
        );
    }
    if subject.has_state() {
        let outcome = bench.ask(SLOT, Request::State);
        let Outcome::State(state) = outcome else { panic!("state: {outcome:?}") };
        assert!(state.starts_with(b"{"), "a state is a JSON object");
    }
    if let Some(request) = subject.tool_request() {
        let outcome = bench.ask(SLOT, Request::ToolCall { request });
        assert!(matches!(outcome, Outcome::ToolResult(_)), "tool call: {outcome:?}");
    }
    bench.assert_closes(SLOT);
    bench.silence();
}

pub(super) fn a_session_is_reused_by_a_reset(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    bench.begin(SLOT);
    for seed in 0..4 {
        bench.assert_steps(SLOT);
        let parameters = subject.reset_parameters(seed);
        let outcome = bench.ask(SLOT, Request::Reset { parameters });
        assert!(matches!(outcome, Outcome::Reset(_)), "reset: {outcome:?}");
    }
    let outcome = bench.ask(SLOT, Request::Reset { parameters: bytes::Bytes::new() });
    assert!(matches!(outcome, Outcome::Reset(_)), "a reset without parameters: {outcome:?}");
    bench.assert_closes(SLOT);
    bench.silence();
}

pub(super) fn an_episode_ends(subject: &dyn Subject) {
    let Some(steps) = subject.steps_to_end() else { return };
    let mut bench = Bench::new(subject);
    bench.begin(SLOT);
    let ended = (0..steps).any(|_| {
        let outcome = bench.step(SLOT);
        let Outcome::Stepped(observed) = outcome else { panic!("step: {outcome:?}") };
        observed.ended.is_some()
    });
    assert!(ended, "no episode lasts longer than {steps} steps");
    let parameters = subject.reset_parameters(2);
    let Outcome::Reset(observed) = bench.ask(SLOT, Request::Reset { parameters }) else {
        panic!("a reset begins the next episode")
    };
    assert_eq!(observed.ended, None, "the next episode has not ended");
    bench.assert_steps(SLOT);
    bench.assert_closes(SLOT);
}

pub(super) fn a_slot_is_reopened_after_a_close(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    for _ in 0..4 {
        bench.begin(SLOT);
        bench.assert_steps(SLOT);
        bench.assert_closes(SLOT);
    }
    bench.silence();
}

/// A close and the next open may travel in one batch.
pub(super) fn a_batch_keeps_the_order_of_one_slot(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    bench.begin(SLOT);
    bench.queue(SLOT, Request::Close);
    bench.submit();
    let closed = bench.collect(1);
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].outcome, Outcome::Closed);

    bench.begin(0);
    bench.queue(0, Request::Step { action: subject.action() });
    bench.queue(1, open());
    bench.submit();
    let mut outcomes = bench.collect(2);
    assert_eq!(outcomes.len(), 2);
    outcomes.sort_by_key(|event| event.slot);
    assert!(matches!(outcomes[0].outcome, Outcome::Stepped(_)), "{:?}", outcomes[0]);
    assert_eq!(outcomes[1].outcome, Outcome::Opened);
    bench.silence();
}
