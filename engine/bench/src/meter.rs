//! What is counted of one point while it goes on.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::{CreationError, Histogram};

use crate::{
    distribution::{corrected, distribution, histogram},
    report::{Latencies, Requests, Tick, Where},
    session::{Next, State},
};

/// Ticks of a timeline, about.
const TICKS: u32 = 40;
/// No tick is shorter, but for the last.
const TICK_MIN: Duration = Duration::from_millis(50);

/// A request that has come to an end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) is_step: bool,
    /// When it was due, sent, and answered or given up.
    pub(crate) due_at: u64,
    pub(crate) sent_at: u64,
    pub(crate) ended_at: u64,
}

/// Histograms, counts and the timeline. Times are nanoseconds from the load's origin.
#[derive(Debug)]
pub(crate) struct Meter {
    connect: Histogram<u64>,
    first_reset: Histogram<u64>,
    reset: Histogram<u64>,
    step: Histogram<u64>,
    /// Steps from when they were due; of an open loop only.
    step_due: Option<Histogram<u64>>,
    tick: Histogram<u64>,
    tick_ns: u64,
    first_step: u64,
    /// What counts: from and until.
    window: Option<(u64, u64)>,
    pub(crate) steps: u64,
    pub(crate) episodes: u64,
    answered: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    /// Nanoseconds of sessions: steps, resets, client, idle.
    spent: [u64; 4],
    open_tick: Tick,
    ticks: Vec<Tick>,
}

impl Meter {
    pub(crate) fn new(is_open: bool, lasts: Duration) -> Result<Self, CreationError> {
        Ok(Self {
            connect: histogram()?,
            first_reset: histogram()?,
            reset: histogram()?,
            step: histogram()?,
            step_due: if is_open { Some(histogram()?) } else { None },
            tick: histogram()?,
            tick_ns: (lasts / TICKS).max(TICK_MIN).as_nanos() as u64,
            first_step: 0,
            window: None,
            steps: 0,
            episodes: 0,
            answered: 0,
            failures: BTreeMap::new(),
            spent: [0; 4],
            open_tick: Tick::default(),
            ticks: Vec::new(),
        })
    }

    pub(crate) fn connected(&mut self, took_ns: u64) {
        self.connect.saturating_record(took_ns);
    }

    pub(crate) fn first_reset(&mut self, took_ns: u64) {
        self.first_reset.saturating_record(took_ns);
    }

    /// The first step is about to be sent.
    pub(crate) fn begin(&mut self, now: u64) {
        self.first_step = now;
        self.open_tick = Tick { warm_up: true, ..Tick::default() };
    }

    /// From `from` on it counts, for so long.
    pub(crate) fn count(&mut self, from: u64, lasts: Duration, sessions: u32) {
        self.end_tick(from, sessions);
        self.open_tick.warm_up = false;
        self.window = Some((from, from + lasts.as_nanos() as u64));
    }

    /// It counts no longer than this.
    pub(crate) fn cut(&mut self, at: u64, sessions: u32) {
        if let Some((from, until)) = &mut self.window {
            *until = (*until).min(at).max(*from);
        }
        self.end_tick(at, sessions);
    }

    /// How long was counted.
    pub(crate) fn measured(&self) -> Duration {
        self.window.map_or(Duration::ZERO, |(from, until)| Duration::from_nanos(until - from))
    }

    fn counts_at(&self, at: u64) -> bool {
        self.window.is_some_and(|(from, until)| (from..until).contains(&at))
    }

    /// A request was answered. It is a step of the part that counts if it was answered within; its latency is
    /// one of that part if it was due within, whenever it was answered.
    pub(crate) fn answered(&mut self, request: Request, ends_episode: bool) {
        let took = request.ended_at - request.sent_at;
        if self.counts_at(request.due_at) {
            self.answered += 1;
            if request.is_step {
                self.step.saturating_record(took);
                if let Some(due) = &mut self.step_due {
                    due.saturating_record(request.ended_at - request.due_at);
                }
            } else {
                self.reset.saturating_record(took);
            }
        }
        // What comes after the end is in no tick.
        let is_late = self.window.is_some_and(|(_, until)| request.ended_at >= until);
        if request.is_step && !is_late {
            self.open_tick.steps += 1;
            self.tick.saturating_record(took);
            if self.counts_at(request.ended_at) {
                self.steps += 1;
                self.episodes += u64::from(ends_episode);
            }
        }
    }

    pub(crate) fn failed(&mut self, cause: String) {
        self.open_tick.failures += 1;
        *self.failures.entry(cause).or_default() += 1;
    }

    /// A session was in this state for this time.
    pub(crate) fn spent(&mut self, state: State, from: u64, until: u64) {
        let Some((begin, end)) = self.window else { return };
        let time = until.min(end).saturating_sub(from.max(begin));
        let place = match state {
            State::Stepping => 0,
            State::Resetting => 1,
            State::Turn(Next::Step | Next::Reset) => 2,
            State::Idle | State::Closing | State::Gone => 3,
            // They were never admitted, or not yet.
            State::Unasked | State::Opening | State::FirstReset | State::Turn(Next::FirstReset) => {
                return;
            }
        };
        self.spent[place] += time;
    }

    /// Ends the tick if its time has come.
    pub(crate) fn look(&mut self, now: u64, sessions: u32) {
        let began = self.first_step + (self.open_tick.at_s * 1e9) as u64;
        if now.saturating_sub(began) >= self.tick_ns {
            self.end_tick(now, sessions);
        }
    }

    fn end_tick(&mut self, now: u64, sessions: u32) {
        let until = now.saturating_sub(self.first_step) as f64 / 1e9;
        let warm_up = self.open_tick.warm_up;
        let mut tick = std::mem::replace(
            &mut self.open_tick,
            Tick { at_s: until, warm_up, ..Tick::default() },
        );
        tick.width_s = until - tick.at_s;
        tick.sessions = sessions;
        if !self.tick.is_empty() {
            tick.p50_ms = self.tick.value_at_quantile(0.5) as f64 / 1e6;
            tick.p99_ms = self.tick.value_at_quantile(0.99) as f64 / 1e6;
            tick.max_ms = self.tick.max() as f64 / 1e6;
            self.tick.reset();
        }
        if tick.width_s > 1e-6 {
            self.ticks.push(tick);
        } else {
            // What came at one instant belongs to what follows.
            self.open_tick.steps += tick.steps;
            self.open_tick.failures += tick.failures;
        }
    }

    pub(crate) fn ticks(&mut self) -> Vec<Tick> {
        std::mem::take(&mut self.ticks)
    }

    pub(crate) fn requests(&mut self, not_sent: u64) -> Requests {
        let failures = std::mem::take(&mut self.failures);
        let failed: u64 = failures.values().sum();
        let sent = self.answered + failed;
        let success = if sent == 0 { 1.0 } else { self.answered as f64 / sent as f64 };
        Requests { sent, failures, success, not_sent }
    }

    pub(crate) fn latencies(&self) -> Latencies {
        let step_corrected = match &self.step_due {
            Some(due) => distribution(due),
            None => distribution(&corrected(&self.step)),
        };
        Latencies {
            connect: distribution(&self.connect),
            first_reset: distribution(&self.first_reset),
            reset: distribution(&self.reset),
            step: distribution(&self.step),
            step_corrected,
        }
    }

    pub(crate) fn share_of_time(&self) -> Where {
        let all = self.spent.iter().sum::<u64>();
        if all == 0 {
            return Where { idle: 1.0, ..Where::default() };
        }
        let [step, reset, client, idle] = self.spent.map(|time| time as f64 / all as f64);
        Where { step, reset, connect: 0.0, client, idle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn step(due_at: u64, ended_at: u64) -> Request {
        Request { is_step: true, due_at, sent_at: due_at, ended_at }
    }

    #[test]
    fn steps_count_by_their_end_and_latencies_by_their_beginning() {
        let mut meter = Meter::new(false, Duration::from_secs(3)).unwrap();
        meter.begin(0);
        meter.answered(step(0, S / 2), false); // in the warm-up
        meter.count(S, Duration::from_secs(2), 1);
        meter.answered(step(S / 2, S + 1), true); // sent before, answered within
        meter.answered(step(S + 1, 2 * S), false);
        meter.cut(3 * S, 1);
        meter.answered(step(2 * S, 9 * S), false); // sent within, answered after
        assert_eq!((meter.steps, meter.episodes), (2, 1));
        let latencies = meter.latencies();
        assert_eq!(latencies.step.count, 2);
        assert!(latencies.step.max > 6_990.0, "{latencies:?}");
        assert_eq!(meter.measured(), Duration::from_secs(2));
        let requests = meter.requests(0);
        assert_eq!((requests.sent, requests.failures.len()), (2, 0));
        let ticks = meter.ticks();
        assert_eq!(ticks.iter().map(|tick| tick.steps).sum::<u64>(), 3);
        assert_eq!(ticks.iter().filter(|tick| tick.warm_up).count(), 1);
    }

    #[test]
    fn shares_of_time_are_those_of_the_part_that_counts() {
        let mut meter = Meter::new(false, Duration::from_secs(3)).unwrap();
        meter.begin(0);
        meter.count(S, Duration::from_secs(2), 1);
        meter.spent(State::Stepping, 0, 2 * S);
        meter.spent(State::Turn(Next::Step), 2 * S, 2 * S + S / 2);
        meter.spent(State::Idle, 2 * S + S / 2, 9 * S);
        let shares = meter.share_of_time();
        assert!((shares.step - 0.5).abs() < 1e-9, "{shares:?}");
        assert!(
            (shares.client - 0.25).abs() < 1e-9 && (shares.idle - 0.25).abs() < 1e-9,
            "{shares:?}"
        );
    }
}
