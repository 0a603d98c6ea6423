//! Input that is refused.

use bytes::Bytes;
use envmill_protocol::{FailureKind, Outcome, Request, SessionFate, Slot};

use super::{Subject, bench::Bench};

pub(super) fn a_refused_action_keeps_the_session(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    bench.begin(0);
    for _ in 0..2 {
        let outcome = bench.ask(0, Request::Step { action: subject.refused_action() });
        let Outcome::Failed(failure) = outcome else { panic!("a failure, not {outcome:?}") };
        assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
        assert_eq!(failure.session, SessionFate::Kept, "{failure}");
        assert!(!failure.message.is_empty(), "the failure says what is wrong");
        bench.assert_steps(0);
    }
    bench.assert_closes(0);
    bench.silence();
}

pub(super) fn malformed_input_harms_nobody_else(subject: &dyn Subject) {
    let malformed: [&[u8]; 6] =
        [b"{\"a\":", b"nope", b"}{", b"[]", b"{\"a\":\"\xff\xfe\"}", b"{\"a\":1}}\n{"];
    let mut bench = Bench::new(subject);
    let slots = malformed.len() as u32;
    for slot in 0..=slots {
        bench.begin(slot);
    }
    for (slot, action) in (0..).zip(malformed) {
        bench.queue(slot, Request::Step { action: Bytes::from_static(action) });
    }
    bench.queue(slots, Request::Step { action: subject.action() });
    bench.submit();
    let events = bench.collect(malformed.len() + 1);
    assert_eq!(events.len(), malformed.len() + 1, "{events:?}");
    for event in events {
        if event.slot == Slot(slots) {
            let outcome = &event.outcome;
            assert!(matches!(outcome, Outcome::Stepped(_)), "the good one: {outcome:?}");
            continue;
        }
        let Outcome::Failed(failure) = &event.outcome else {
            panic!("malformed input fails: {event:?}")
        };
        if failure.session == SessionFate::Kept {
            bench.assert_steps(event.slot.0);
        }
    }
    bench.assert_steps(slots);
    for slot in 0..=slots {
        bench.assert_closes(slot);
    }
    bench.silence();
}
