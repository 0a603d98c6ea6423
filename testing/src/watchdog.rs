//! Waiting without ever hanging.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Ends the whole test process with a message if it is still alive after a generous bound, so that a
/// hang becomes a failure with a name. Dropping it disarms it.
///
/// The bound is no assertion about speed: choose it ten times longer than a slow machine needs.
#[derive(Debug)]
pub struct Watchdog {
    disarm: mpsc::Sender<()>,
}

impl Watchdog {
    /// Guards what `name` says for as long as `bound`.
    ///
    /// # Panics
    ///
    /// When the machine has no thread left.
    #[must_use]
    pub fn start(name: &str, bound: Duration) -> Self {
        let (disarm, disarmed) = mpsc::channel();
        let message = format!("watchdog: {name} still runs after {bound:?}: aborting");
        #[expect(clippy::expect_used, reason = "a test without a watchdog must not run")]
        thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || {
                if disarmed.recv_timeout(bound) == Err(RecvTimeoutError::Timeout) {
                    #[expect(clippy::print_stderr, reason = "the last word of an aborted test")]
                    {
                        eprintln!("{message}");
                    }
                    std::process::abort();
                }
            })
            .expect("a thread for the watchdog");
        Self { disarm }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // The thread may be gone already; either way nothing is left to disarm.
        let _ = self.disarm.send(());
    }
}

/// Waits until `condition` holds, looking every few milliseconds.
///
/// # Panics
///
/// When `what` has not come true within `bound`, which should be generous.
#[track_caller]
pub fn wait_until(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) {
    assert!(becomes_true(bound, &mut condition), "still not true after {bound:?}: {what}");
}

/// Like [`wait_until`], but says whether it came true.
pub(crate) fn becomes_true(bound: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > bound {
            return false;
        }
        pause();
    }
}

/// One pause between two looks at a condition.
pub(crate) fn pause() {
    thread::park_timeout(LOOK_EVERY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disarmed_watchdog_lets_the_process_live() {
        drop(Watchdog::start("nothing", Duration::from_millis(1_000_000)));
        let mut looks = 0;
        wait_until("three looks", Duration::from_secs(60), || {
            looks += 1;
            looks == 3
        });
        assert_eq!(looks, 3);
    }

    #[test]
    fn a_condition_that_stays_false_is_told() {
        assert!(!becomes_true(Duration::from_millis(20), || false));
    }
}
