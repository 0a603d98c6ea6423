//! What a run costs and how long its commands take.

use std::time::Duration;

use envmill_core::{Core, Latency};
use envmill_protocol::Phase;
use hdrhistogram::Histogram;

/// Latencies longer than this count as this: an hour, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Histograms of latencies, and the CPU time of the steady part of a run.
#[derive(Debug)]
pub struct Meter {
    /// From the command to open a session to its transport standing, in microseconds.
    pub connect: Histogram<u64>,
    /// Resets, first ones included, in microseconds.
    pub reset: Histogram<u64>,
    /// Steps, in microseconds.
    pub step: Histogram<u64>,
    began: Option<Mark>,
    ended: Option<Mark>,
}

/// The steady part of a run: from every session having had its first reset until no episode is left
/// to start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steady {
    /// CPU time of this process.
    pub cpu: Duration,
    /// Steps and resets answered.
    pub steps: u64,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    cpu: Duration,
    steps: u64,
}

impl Meter {
    /// Nothing measured yet.
    ///
    /// # Errors
    ///
    /// Only if the bounds of the histograms were wrong.
    pub fn new() -> Result<Self, hdrhistogram::CreationError> {
        let histogram = || Histogram::new_with_max(LATENCY_US_MAX, 3);
        Ok(Self {
            connect: histogram()?,
            reset: histogram()?,
            step: histogram()?,
            began: None,
            ended: None,
        })
    }

    pub(super) fn latency(&mut self, latency: &Latency) {
        let histogram = match latency.phase {
            Phase::Connect => &mut self.connect,
            Phase::FirstReset | Phase::Reset => &mut self.reset,
            _ => &mut self.step,
        };
        let micros = u64::try_from(latency.took.as_micros()).unwrap_or(u64::MAX);
        histogram.saturating_record(micros);
    }

    /// Looks whether the steady part begins or ends here. It ends, too, where the run is told to.
    pub(super) fn look(&mut self, core: &Core, is_ending: bool) {
        if self.ended.is_some() {
            return;
        }
        let counts = core.counts();
        let steps = counts.steps + counts.resets;
        let is_last = is_ending || core.unstarted() == 0;
        match self.began {
            None if !is_last && core.admission_settled() => {
                self.began = Some(Mark { cpu: cpu(), steps });
            }
            Some(_) if is_last => self.ended = Some(Mark { cpu: cpu(), steps }),
            _ => {}
        }
    }

    /// The steady part; `None` if the run had none (as many sessions as episodes, or a run that was
    /// interrupted before).
    #[must_use]
    pub fn steady(&self) -> Option<Steady> {
        let (began, ended) = (self.began?, self.ended?);
        let steps = ended.steps - began.steps;
        (steps > 0).then(|| Steady { cpu: ended.cpu.saturating_sub(began.cpu), steps })
    }
}

/// CPU time of this process so far, all threads, user and system.
pub(crate) fn cpu() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(spent.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(spent.tv_nsec).unwrap_or(0))
}
