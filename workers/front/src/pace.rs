//! Fewer wake-ups where many sessions are played at leisure.
//!
//! A client of hundreds of sessions sends their steps one after another, and each one alone would wake the
//! front's thread, the worker's thread, its process, and all of them again on the way back. Where a session
//! comes back only after a hundred milliseconds, two of them do not matter to it: the front then sleeps so
//! long before it waits for more, and finds several steps together.
//!
//! How long that may be is found out by [`Pace`], and is nothing as soon as one session is quick.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// What one is learned from has been seen for so long.
const WINDOW: Duration = Duration::from_millis(100);

/// The part of the shortest time between two steps of a session that the front may sleep.
const PART: u32 = 25;

/// What is shorter is not worth a sleep, which is not that exact; longer is none.
const SLEEP: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(2));

/// So many commands at least are expected to gather in a sleep, or there is none.
const GATHERED: f64 = 2.0;

/// When commands came, and what the front's thread may therefore do.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    window: Option<Window>,
    sleep: Arc<Sleep>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    commands: u32,
    /// The shortest time between two commands of one session.
    shortest: Duration,
}

impl Window {
    const fn new(since: Instant) -> Self {
        Self { since, commands: 0, shortest: Duration::MAX }
    }

    /// How long a sleep may be, by what came until now.
    fn sleep(&self, now: Instant) -> Duration {
        let (least, most) = SLEEP;
        let sleep = (self.shortest / PART).min(most);
        let rate = f64::from(self.commands) / (now - self.since).as_secs_f64();
        let is_worth_it = self.shortest < Duration::MAX
            && sleep >= least
            && rate * sleep.as_secs_f64() >= GATHERED;
        if is_worth_it { sleep } else { Duration::ZERO }
    }
}

impl Pace {
    /// A command came now, of a session whose last one came `before`.
    pub(crate) fn came(&mut self, now: Instant, before: Option<Instant>) {
        let window = self.window.get_or_insert(Window::new(now));
        let since = now - window.since;
        if since >= 2 * WINDOW {
            // What was learned is old.
            *window = Window::new(now);
            self.sleep.set(Duration::ZERO);
        } else if since >= WINDOW {
            self.sleep.set(window.sleep(now));
            *window = Window::new(now);
        }
        window.commands += 1;
        if let Some(gap) = before.map(|before| now - before) {
            window.shortest = window.shortest.min(gap);
            if gap / PART < self.sleep.get() {
                self.sleep.set(Duration::ZERO);
            }
        }
    }

    /// From now on this thread's runtime sleeps before it waits, as long as the guard is there.
    pub(crate) fn rule(&self) -> Rule {
        RULED.set(Some(Arc::clone(&self.sleep)));
        Rule(())
    }
}

/// How long the front's thread sleeps before it waits: nanoseconds.
#[derive(Debug, Default)]
struct Sleep(AtomicU64);

impl Sleep {
    fn set(&self, sleep: Duration) {
        // It is 2 ms at most.
        self.0.store(sleep.as_nanos() as u64, Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

thread_local! {
    static RULED: RefCell<Option<Arc<Sleep>>> = const { RefCell::new(None) };
}

/// See [`Pace::rule`].
#[must_use]
pub(crate) struct Rule(());

impl Drop for Rule {
    fn drop(&mut self) {
        // A thread that ends has none any more.
        let _ = RULED.try_with(|ruled| ruled.take());
    }
}

/// What the runtime does when there is nothing to do, before it waits.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing is ready, and what comes meanwhile is to gather"
)]
pub(crate) fn before_waiting() {
    let sleep = RULED.with_borrow(|ruled| ruled.as_ref().map(|sleep| sleep.get()));
    if let Some(sleep) = sleep.filter(|sleep| !sleep.is_zero()) {
        thread::sleep(sleep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands of so many sessions in turn, one after each `gap`, for `time`; how long the front sleeps
    /// then.
    fn after(sessions: usize, gap: Duration, time: Duration) -> Duration {
        let mut pace = Pace::default();
        play(&mut pace, Instant::now(), sessions, gap, time);
        pace.sleep.get()
    }

    fn play(pace: &mut Pace, begin: Instant, sessions: usize, gap: Duration, time: Duration) {
        let mut last = vec![None; sessions];
        for number in 0..(time.as_nanos() / gap.as_nanos()) as u32 {
            let (now, session) = (begin + gap * number, number as usize % sessions);
            pace.came(now, last[session]);
            last[session] = Some(now);
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn many_sessions_at_leisure_are_gathered() {
        let sleep = after(512, Duration::from_micros(200), SECOND);
        assert_eq!(sleep, Duration::from_millis(2));
        let sleep = after(128, Duration::from_micros(100), SECOND);
        assert_eq!(sleep, Duration::from_micros(512));
    }

    #[test]
    fn one_session_and_few_commands_are_not_waited_for() {
        assert_eq!(after(1, Duration::from_micros(100), SECOND), Duration::ZERO);
        assert_eq!(after(16, Duration::from_micros(200), SECOND), Duration::ZERO);
        assert_eq!(after(512, Duration::from_millis(2), SECOND), Duration::ZERO, "too few come");
    }

    #[test]
    fn a_session_that_is_quick_ends_it_at_once_and_so_does_a_pause() {
        let begin = Instant::now();
        let mut pace = Pace::default();
        play(&mut pace, begin, 512, Duration::from_micros(200), SECOND);
        assert!(!pace.sleep.get().is_zero());
        let now = begin + SECOND;
        pace.came(now, Some(now - Duration::from_millis(1)));
        assert_eq!(pace.sleep.get(), Duration::ZERO);

        play(&mut pace, now, 512, Duration::from_micros(200), SECOND);
        assert!(!pace.sleep.get().is_zero());
        pace.came(now + 3 * SECOND, None);
        assert_eq!(pace.sleep.get(), Duration::ZERO);
    }
}
