//! When steps are due in an open loop, and a clock that says so in time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use envmill_workers::Waker;

/// How the steps of an open loop are spread over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// As those of many independent users: gaps are exponentially distributed, so that steps come in bursts.
    /// Drawn from the seed.
    #[default]
    Poisson,
    /// At equal gaps.
    Uniform,
}

impl Arrivals {
    /// Every way.
    pub const ALL: [Self; 2] = [Self::Poisson, Self::Uniform];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::Uniform => "uniform",
        }
    }
}

/// The times at which steps are due, in nanoseconds from the first step's, in ascending order and without end.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    gap_ns: f64,
    state: u64,
    count: u64,
    at_ns: f64,
}

impl Schedule {
    /// `per_second` steps a second.
    pub(crate) fn new(arrivals: Arrivals, per_second: f64, seed: u64) -> Self {
        let gap_ns = 1e9 / per_second.max(1e-6);
        Self { arrivals, gap_ns, state: seed ^ 0x6f70_656e_6c6f_6f70, count: 0, at_ns: 0.0 }
    }

    /// When the next step is due that was not taken yet.
    pub(crate) fn due(&self) -> u64 {
        self.at_ns as u64
    }

    /// Takes it.
    pub(crate) fn take(&mut self) -> u64 {
        let due = self.due();
        self.count += 1;
        self.at_ns = match self.arrivals {
            // A product, so that no error adds up.
            Arrivals::Uniform => self.count as f64 * self.gap_ns,
            Arrivals::Poisson => self.at_ns - self.unit().ln() * self.gap_ns,
        };
        due
    }

    /// How many are due from the next on and before `end`.
    pub(crate) fn until(&self, end: u64) -> u64 {
        let mut rest = self.clone();
        let mut count = 0;
        while rest.due() < end {
            rest.take();
            count += 1;
        }
        count
    }

    /// Uniform in the open interval from 0 to 1 (SplitMix64).
    fn unit(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((z >> 11) as f64 + 0.5) * (1.0 / (1u64 << 53) as f64)
    }
}

/// A thread that wakes a worker whenever a step is due. An event queue's own timeout is a matter of whole
/// milliseconds; this one is late by some 50 µs, and costs no core as spinning would.
#[derive(Debug)]
pub(crate) struct Metronome {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Metronome {
    /// Wakes `waker` at each time of the schedule, which begins at `first`.
    pub(crate) fn start(schedule: Schedule, first: Instant, waker: Waker) -> std::io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = {
            let is_over = Arc::clone(&is_over);
            let beat = move || keep(schedule, first, &waker, &is_over);
            thread::Builder::new().name("metronome".into()).spawn(beat)?
        };
        Ok(Self { is_over, thread: Some(thread) })
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of that thread was shown when it happened.
            let _ = thread.join();
        }
    }
}

fn keep(mut schedule: Schedule, first: Instant, waker: &Waker, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Acquire) {
        let due = first + Duration::from_nanos(schedule.due());
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            thread::park_timeout(left);
            continue;
        }
        // What is late already is due together with what comes next.
        while first + Duration::from_nanos(schedule.due()) <= Instant::now() {
            schedule.take();
        }
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_kept_on_the_average() {
        for arrivals in Arrivals::ALL {
            let schedule = Schedule::new(arrivals, 2_000.0, 3);
            let due = schedule.until(10_000_000_000);
            assert!((19_500..=20_500).contains(&due), "{arrivals:?}: {due}");
        }
        assert_eq!(Schedule::new(Arrivals::Uniform, 100.0, 3).until(1_000_000_000), 100);
    }

    #[test]
    fn the_same_seed_gives_the_same_times_in_order() {
        let times = |seed| {
            let mut schedule = Schedule::new(Arrivals::Poisson, 10.0, seed);
            (0..100).map(|_| schedule.take()).collect::<Vec<_>>()
        };
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
        assert!(times(1).is_sorted());
    }
}
