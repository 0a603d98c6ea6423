//! Waiting.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use envmill_protocol::{Outcome, Request};

use super::{Subject, bench::Bench};

pub(super) fn a_waker_ends_a_wait(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    bench.begin(0);
    let waker = bench.worker.waker();
    let (waiting, waits) = mpsc::channel();
    let (woken, ended) = mpsc::channel();
    let watchdog = subject.watchdog();
    thread::scope(|scope| {
        scope.spawn(move || {
            // Once while the other thread is on its way into the wait, and again for as long as it
            // has not come out, so that no timing of this thread can leave it there.
            let _ = waits.recv();
            let end = Instant::now() + watchdog;
            while Instant::now() < end {
                waker.wake();
                if ended.recv_timeout(Duration::from_millis(20)).is_ok() {
                    return;
                }
            }
        });
        let mut events = Vec::new();
        let _ = waiting.send(());
        // A wait that no waker ends would outlast the watchdog.
        let wait = watchdog * 4;
        let began = Instant::now();
        bench.worker.completions(&mut events, wait);
        assert!(began.elapsed() < wait, "the waker did not end the wait");
        assert!(events.is_empty(), "{events:?}");
        let _ = woken.send(());
    });
    bench.assert_steps(0);
}

pub(super) fn a_waker_ends_the_next_wait(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    bench.begin(0);
    let waker = bench.worker.waker();
    for _ in 0..3 {
        waker.wake();
        waker.clone().wake();
        let mut events = Vec::new();
        bench.worker.completions(&mut events, subject.watchdog() * 4);
        assert!(events.is_empty(), "{events:?}");
    }
    // A wake-up that is left over spoils nothing.
    waker.wake();
    bench.assert_steps(0);
    bench.assert_closes(0);
}

pub(super) fn a_wait_of_zero_only_looks(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    bench.begin(0);
    let mut events = Vec::new();
    for _ in 0..1000 {
        bench.worker.completions(&mut events, Duration::ZERO);
        assert!(events.is_empty(), "{events:?}");
    }
    // Looking again and again finds what comes, as waiting does.
    bench.queue(0, Request::Step { action: subject.action() });
    bench.submit();
    let end = Instant::now() + subject.watchdog();
    while events.is_empty() {
        assert!(Instant::now() < end, "the answer came");
        bench.worker.completions(&mut events, Duration::ZERO);
        thread::yield_now();
    }
    assert!(matches!(events[0].outcome, Outcome::Stepped(_)), "{events:?}");
}

pub(super) fn an_empty_batch_does_nothing(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    bench.submit();
    bench.silence();
    bench.begin(0);
    bench.submit();
    bench.silence();
    bench.assert_steps(0);
    bench.assert_closes(0);
}

/// Also when it holds commands for slots that have no session.
pub(super) fn submit_empties_the_batch(subject: &dyn Subject) {
    let mut bench = Bench::new(subject);
    bench.begin(0);
    bench.queue(0, Request::Step { action: subject.action() });
    for slot in 1..20 {
        bench.queue(slot, Request::Close);
    }
    bench.submit();
    let events = bench.collect(20);
    assert_eq!(events.len(), 20, "{events:?}");
    bench.silence();
}
