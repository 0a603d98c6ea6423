//! How long to hold back before answers are looked for, so that they come in company.
//!
//! A look at the event queue that finds one answer costs a wake-up, cold caches and a turn of the
//! engine's loop for that one. Where many requests are out, waiting a little first brings several
//! for the same price. How little is a share of what sessions wait for anyway: by Little's law the
//! requests outstanding, divided by the rate of answers, are the mean time of an answer, and a
//! [`SHARE`] of it is added at most (half of that on average). Fast sessions, few sessions and rare
//! answers are therefore never held back, and a server that is busy all the time loses nothing at
//! all, since it has the others' requests to work on.

use std::time::{Duration, Instant};

/// The part of an answer's mean time that is waited: one in this many.
const SHARE: f64 = 24.0;
/// Holding back for fewer answers than this is not worth its own wake-up.
const ANSWERS_MIN: f64 = 1.9;
/// The rate is taken over stretches of at least this length.
const STRETCH: Duration = Duration::from_millis(10);
/// What the newest stretch counts in the smoothed rate.
const NEWEST: f64 = 0.3;

#[derive(Debug)]
pub(crate) struct Gathering {
    /// The longest that is ever waited; zero turns all of this off.
    longest: Duration,
    stretch_began: Instant,
    answers_in_stretch: usize,
    answers_per_second: f64,
}

impl Gathering {
    pub(crate) fn new(longest: Duration, now: Instant) -> Self {
        Self { longest, stretch_began: now, answers_in_stretch: 0, answers_per_second: 0.0 }
    }

    /// Takes note of answers that have come.
    pub(crate) fn came(&mut self, answers: usize, now: Instant) {
        self.answers_in_stretch += answers;
        let stretch = now.saturating_duration_since(self.stretch_began);
        if stretch >= STRETCH {
            let rate = self.answers_in_stretch as f64 / stretch.as_secs_f64();
            self.answers_per_second += NEWEST * (rate - self.answers_per_second);
            self.stretch_began = now;
            self.answers_in_stretch = 0;
        }
    }

    /// How long to hold back while `outstanding` requests wait for their answers.
    pub(crate) fn hold_back(&self, outstanding: usize) -> Duration {
        let longest = self.longest.as_secs_f64();
        let share = outstanding as f64 / SHARE / self.answers_per_second; // infinite at a rate of 0
        let seconds = share.min(longest);
        if seconds * self.answers_per_second < ANSWERS_MIN {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(5);

    /// After a second in which answers came at a steady rate.
    fn at_rate(answers_per_second: usize) -> Gathering {
        let began = Instant::now();
        let mut gathering = Gathering::new(LONGEST, began);
        for tick in 1..=100 {
            gathering.came(answers_per_second / 100, began + tick * STRETCH);
        }
        gathering
    }

    #[test]
    fn a_share_of_the_mean_time_is_waited() {
        // 96 requests at 4,000 answers a second take 24 ms each: 1 ms is waited, for 4 answers.
        let waited = at_rate(4_000).hold_back(96);
        assert!(
            waited.abs_diff(Duration::from_millis(1)) < Duration::from_micros(10),
            "{waited:?}"
        );
    }

    #[test]
    fn the_wait_is_bounded() {
        assert_eq!(at_rate(16_000).hold_back(16_000), LONGEST);
    }

    #[test]
    fn few_sessions_and_rare_answers_are_not_held_back() {
        assert_eq!(at_rate(4_000).hold_back(16), Duration::ZERO);
        assert_eq!(at_rate(100).hold_back(1_000), Duration::ZERO);
        assert_eq!(at_rate(0).hold_back(1_000), Duration::ZERO);
        assert_eq!(at_rate(4_000).hold_back(0), Duration::ZERO);
    }

    #[test]
    fn a_server_that_falls_silent_is_soon_looked_at_without_delay() {
        let mut gathering = at_rate(4_000);
        let mut now = gathering.stretch_began;
        for _ in 0..20 {
            now += STRETCH;
            gathering.came(0, now);
        }
        assert_eq!(gathering.hold_back(96), Duration::ZERO);
    }
}
