//! The end of a session, in order and out of order.

use bytes::Bytes;
use envmill_protocol::{FailureKind, Outcome, Request, SessionFate, Slot};

use super::{Subject, bench::Bench};

pub(super) fn a_slot_without_a_session_fails(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    let parameters = subject.reset_parameters(0);
    let assert_lost = |bench: &mut Bench<'_>, slot, request| {
        let outcome = bench.ask(slot, request);
        let Outcome::Failed(failure) = outcome else { panic!("a failure, not {outcome:?}") };
        assert_eq!(failure.kind, FailureKind::Disconnected);
        assert_eq!(failure.session, SessionFate::Lost);
    };
    assert_lost(&mut bench, 9, Request::Step { action: subject.action() });
    assert_lost(&mut bench, 9, Request::Reset { parameters });
    assert_lost(&mut bench, 9, Request::State);

    bench.begin(2);
    bench.assert_closes(2);
    assert_lost(&mut bench, 2, Request::Step { action: subject.action() });
    bench.begin(2);
    bench.assert_steps(2);
    bench.assert_closes(2);
    bench.silence();
}

pub(super) fn closing_twice_is_answered_twice(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    bench.assert_closes(7);
    bench.begin(7);
    bench.assert_closes(7);
    bench.assert_closes(7);
    bench.silence();
}

pub(super) fn a_close_overtakes_a_command(subject: &dyn Subject) {
    overtake(subject, subject.action(), true);
}

pub(super) fn a_close_overtakes_in_one_batch(subject: &dyn Subject) {
    overtake(subject, subject.action(), false);
}

pub(super) fn a_close_overtakes_a_slow_step(subject: &dyn Subject) {
    let Some(action) = subject.slow_action() else { return };
    overtake(subject, action, true);
}

/// Of a step and a close behind it, only the close is answered; another session does not notice, and
/// the slot can be opened anew.
fn overtake(subject: &dyn Subject, action: Bytes, apart: bool) {
    let mut bench = Bench::new(subject);
    bench.begin(0);
    bench.begin(1);
    bench.queue(0, Request::Step { action });
    if apart {
        bench.submit();
    }
    bench.queue(0, Request::Close);
    bench.submit();
    let events = bench.collect(1);
    assert_eq!(events.len(), 1, "only the close is answered: {events:?}");
    assert_eq!(events[0].slot, Slot(0));
    assert_eq!(events[0].outcome, Outcome::Closed);
    bench.silence();
    bench.assert_steps(1);
    bench.begin(0);
    bench.assert_steps(0);
    bench.assert_closes(0);
    bench.assert_closes(1);
    bench.silence();
}
