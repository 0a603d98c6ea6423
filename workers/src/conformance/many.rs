//! Many sessions at once, every command accounted for.

use envmill_protocol::{Outcome, Request};

use super::{
    Subject,
    bench::{Bench, open},
};

/// Where a session is: how many commands of its life it has been sent.
#[derive(Clone, Copy, Default)]
struct Life {
    sent: u32,
    closed: bool,
}

pub(super) fn many_sessions_interleave(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    let sessions = subject.sessions();
    let mut lives = vec![Life::default(); sessions as usize];
    for slot in 0..sessions {
        bench.queue(slot, next(subject, slot, &mut lives[slot as usize]));
    }
    bench.submit();
    let mut open = sessions;
    let (mut steps, mut resets, mut states) = (0, 0, 0);
    while open > 0 {
        for event in bench.collect(1) {
            let life = &mut lives[event.slot.0 as usize];
            assert!(!life.closed, "{}: an answer after the close", event.slot);
            match event.outcome {
                Outcome::Opened => {}
                Outcome::Reset(_) => resets += 1,
                Outcome::Stepped(_) => steps += 1,
                Outcome::State(_) => states += 1,
                Outcome::Closed => {
                    life.closed = true;
                    open -= 1;
                    continue;
                }
                outcome => panic!("{}: {outcome:?}", event.slot),
            }
            bench.queue(event.slot.0, next(subject, event.slot.0, life));
        }
        bench.submit();
    }
    let expected_steps: u32 = (0..sessions).map(steps_of).sum();
    assert_eq!(steps, expected_steps, "steps");
    assert_eq!(resets, sessions, "resets");
    assert_eq!(states, if subject.has_state() { sessions } else { 0 }, "states");
    bench.silence();
}

/// How many steps a session takes; they differ, so that the sessions fall out of step.
fn steps_of(slot: u32) -> u32 {
    2 + slot % 7
}

fn next(subject: &dyn Subject, slot: u32, life: &mut Life) -> Request {
    let steps = steps_of(slot);
    let sent = life.sent;
    life.sent += 1;
    match sent {
        0 => open(),
        1 => Request::Reset { parameters: subject.reset_parameters(slot.into()) },
        _ if sent < 2 + steps => Request::Step { action: subject.action() },
        _ if sent == 2 + steps && subject.has_state() => Request::State,
        _ => Request::Close,
    }
}

pub(super) fn many_sessions_close_in_mid_step(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    let sessions = subject.sessions();
    for slot in 0..sessions {
        bench.queue(slot, open());
    }
    bench.submit();
    bench.collect(sessions as usize);
    for slot in 0..sessions {
        bench.queue(slot, Request::Reset { parameters: subject.reset_parameters(slot.into()) });
    }
    bench.submit();
    bench.collect(sessions as usize);

    let action = subject.slow_action().unwrap_or_else(|| subject.action());
    for slot in 0..sessions {
        bench.queue(slot, Request::Step { action: action.clone() });
    }
    bench.submit();
    // Every other session is closed while its step is under way.
    for slot in (0..sessions).step_by(2) {
        bench.queue(slot, Request::Close);
    }
    bench.submit();
    let events = bench.collect(sessions as usize);
    assert_eq!(events.len(), sessions as usize, "one answer a session");
    let mut seen = vec![false; sessions as usize];
    for event in events {
        let slot = event.slot.0;
        assert!(!std::mem::replace(&mut seen[slot as usize], true), "{slot}: answered twice");
        if slot % 2 == 0 {
            assert_eq!(event.outcome, Outcome::Closed);
        } else {
            assert!(matches!(event.outcome, Outcome::Stepped(_)), "{:?}", event.outcome);
        }
    }
    bench.silence();
}
