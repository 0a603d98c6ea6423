//! One point: a number of sessions opened, played for a while and closed, on the thread that calls.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use envmill_protocol::Generation;
use envmill_workers::Worker;

use crate::{
    Actions, Plan, Watch,
    meter::Meter,
    processes::{Snapshot, machine_busy_s},
    report::{Loop, Point, Sessions, Traffic, Usage},
    round::Round,
};

/// A worker whose load is measured.
pub trait Measured: Worker {
    /// Bytes that have come from the target, and gone to it, framing included; `None` where none cross a wire.
    fn traffic(&self) -> Option<(u64, u64)>;

    /// Whether everything that was closed is gone on the other side, too, as far as that is known.
    fn is_settled(&self) -> bool;
}

/// No point can be measured here.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The histograms cannot be made.
    #[error("cannot measure: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    /// The system gives no thread.
    #[error("cannot start the thread that tells when steps are due: {0}")]
    Thread(#[from] std::io::Error),
}

/// What came of a point.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was measured.
    pub point: Point,
    /// Of each cause of failures, the words of the first.
    pub words: BTreeMap<String, String>,
    /// Whether it was ended before its time: the point tells of what was until then.
    pub interrupted: bool,
}

/// How a point stands, for displays.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// What is being done: `opening`, `warming up`, `measuring`, `ending`.
    pub stage: &'static str,
    /// Sessions that the point is to have.
    pub asked: u32,
    /// Those that are open.
    pub open: u32,
    /// Those that were refused, or failed.
    pub refused: u32,
}

/// A worker and who says what its sessions do.
///
/// Each point opens its sessions anew, and all of them before the first step is taken; it ends when they are
/// closed on both sides. So what a server admits is what it admits from nothing, and no point inherits another's
/// environments.
pub struct Load<'a, W, A> {
    pub(crate) worker: &'a mut W,
    pub(crate) actions: &'a mut A,
    pub(crate) plan: Plan,
    /// When the benchmark began.
    pub(crate) origin: Instant,
    /// How often an end was asked for: the first time a point is ended with what it has, the second time at once.
    pub(crate) interrupts: &'a dyn Fn() -> u8,
    /// The processes that serve the target, whose descendants count with them.
    roots: Vec<u32>,
    /// The generations of slots go on from point to point.
    pub(crate) generations: Vec<Generation>,
    /// The first slot that is used: those before have not let go of their session.
    pub(crate) first_slot: u32,
}

impl<W, A> std::fmt::Debug for Load<'_, W, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Load")
            .field("plan", &self.plan)
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}

/// What this process, the wire and the target had cost by one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    at: Instant,
    process_cpu: Duration,
    thread_cpu: Duration,
    machine_busy_s: Option<f64>,
    traffic: Option<(u64, u64)>,
}

impl Mark {
    pub(crate) fn now<W: Measured>(worker: &W) -> Self {
        use rustix::time::{ClockId, clock_gettime};
        let spent = |clock| {
            let time = clock_gettime(clock);
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
        };
        Self {
            at: Instant::now(),
            process_cpu: spent(ClockId::ProcessCPUTime),
            thread_cpu: spent(ClockId::ThreadCPUTime),
            machine_busy_s: machine_busy_s(),
            traffic: worker.traffic(),
        }
    }
}

impl<'a, W: Measured, A: Actions> Load<'a, W, A> {
    /// A load on `worker`, whose target is served by the processes `roots` and their descendants, if that is known.
    pub fn new(
        worker: &'a mut W,
        actions: &'a mut A,
        plan: Plan,
        roots: &[u32],
        origin: Instant,
        interrupts: &'a dyn Fn() -> u8,
    ) -> Self {
        let roots = roots.to_vec();
        let (generations, first_slot) = (Vec::new(), 0);
        Self { worker, actions, plan, origin, interrupts, roots, generations, first_slot }
    }

    /// Measures with so many sessions. `look` is called some times a second.
    ///
    /// # Errors
    ///
    /// Nothing was measured, for want of memory or a thread.
    pub fn point(
        &mut self,
        sessions: u32,
        look: &mut dyn FnMut(Look),
    ) -> Result<Outcome, LoadError> {
        let watch = Watch::start(&self.roots);
        let lasts = self.plan.warm_up + self.plan.measure;
        let meter = Meter::new(self.plan.open.is_some(), lasts)?;
        let mut round = Round::new(self, sessions, meter, watch.as_ref(), look);
        let began = round.now();
        round.play()?;
        let counts = round.counts;
        let mut meter = round.meter;
        let (marks, failures, words) = (round.marks, round.failures, round.words);
        let (not_sent, interrupted) = (round.not_sent, round.interrupted);
        let measured_s = meter.measured().as_secs_f64();
        let rate = |count: u64| if measured_s > 0.0 { count as f64 / measured_s } else { 0.0 };
        let steps = meter.steps;
        let mut timeline = meter.ticks();
        let mut server = None;
        if let Some(watch) = watch {
            let watched = watch.finish();
            server = watched.usage(steps);
            watched.fill(&mut timeline, self.origin + Duration::from_nanos(counts.first_step));
        }
        let point = Point {
            began_s: began as f64 / 1e9,
            pace: self
                .plan
                .open
                .map_or(Loop::Closed, |(steps_per_s, _)| Loop::Open { steps_per_s }),
            sessions: Sessions {
                asked: sessions,
                admitted: counts.admitted,
                refused: counts.refused,
                failed: counts.failed,
                lost: counts.lost,
                opened_in_s: counts.last_admitted.saturating_sub(began) as f64 / 1e9,
                success: f64::from(counts.admitted - counts.lost) / f64::from(sessions.max(1)),
                failures,
            },
            measured_s,
            steps,
            episodes: meter.episodes,
            steps_per_s: rate(steps),
            episodes_per_s: rate(meter.episodes),
            requests: meter.requests(not_sent),
            latency_ms: meter.latencies(),
            server,
            engine: engine(marks, steps),
            machine_cores: machine_cores(marks),
            traffic: traffic(marks, steps),
            share_of_time: meter.share_of_time(),
            timeline,
        };
        Ok(Outcome { point, words, interrupted })
    }
}

/// What this process cost between two marks.
fn engine(marks: Option<(Mark, Mark)>, steps: u64) -> Usage {
    let Some((begin, end)) = marks else { return Usage::default() };
    let passed = (end.at - begin.at).as_secs_f64().max(1e-9);
    let cpu_s = end.process_cpu.saturating_sub(begin.process_cpu).as_secs_f64();
    let thread = end.thread_cpu.saturating_sub(begin.thread_cpu).as_secs_f64();
    let now = Snapshot::of(&[std::process::id()]);
    Usage {
        cpu_s,
        cpu_us_per_step: if steps == 0 { 0.0 } else { cpu_s * 1e6 / steps as f64 },
        cores: cpu_s / passed,
        rss_bytes: now.rss_bytes,
        processes: 1,
        threads: now.threads,
        descriptors: now.descriptors,
        busiest_thread: (thread / passed).min(1.0),
        busiest_process: cpu_s / passed,
    }
}

/// Hardware threads that were busy between two marks.
fn machine_cores(marks: Option<(Mark, Mark)>) -> Option<f64> {
    let (begin, end) = marks?;
    let passed = (end.at - begin.at).as_secs_f64().max(1e-9);
    Some(((end.machine_busy_s? - begin.machine_busy_s?) / passed).max(0.0))
}

fn traffic(marks: Option<(Mark, Mark)>, steps: u64) -> Option<Traffic> {
    let (begin, end) = marks?;
    let ((in_before, out_before), (in_after, out_after)) = (begin.traffic?, end.traffic?);
    let (bytes_in, bytes_out) = (in_after - in_before, out_after - out_before);
    let bytes = (bytes_in + bytes_out) as f64;
    let bytes_per_step = if steps == 0 { 0.0 } else { bytes / steps as f64 };
    Some(Traffic { bytes_in, bytes_out, bytes_per_step })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use envmill_native::NativeWorker;
    use envmill_protocol::Observed;

    use super::*;
    use crate::{Arrivals, plan::tests::plan};

    impl Measured for NativeWorker {
        fn traffic(&self) -> Option<(u64, u64)> {
            None
        }

        fn is_settled(&self) -> bool {
            true
        }
    }

    struct Always(&'static str);

    impl Actions for Always {
        fn next(&mut self, _: u64, _: u32, _: &Observed) -> Result<Bytes, String> {
            match self.0 {
                "" => Err("out of ideas".into()),
                action => Ok(Bytes::from_static(action.as_bytes())),
            }
        }
    }

    fn measured(
        name: &str,
        parameters: &[(&str, &str)],
        plan: Plan,
        action: &'static str,
        sessions: &[u32],
        interrupts: &dyn Fn() -> u8,
    ) -> Vec<Outcome> {
        let parameters: BTreeMap<String, String> =
            parameters.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let mut worker = envmill_native::environment(name, &parameters).unwrap().worker();
        let mut actions = Always(action);
        let origin = Instant::now();
        let mut load = Load::new(&mut worker, &mut actions, plan, &[], origin, interrupts);
        sessions.iter().map(|&sessions| load.point(sessions, &mut |_| {}).unwrap()).collect()
    }

    #[test]
    fn a_closed_loop_keeps_every_session_busy() {
        let outcomes = measured(
            "synthetic",
            &[("step_ms", "5"), ("episode_steps", "4")],
            plan(),
            "{}",
            &[1, 4],
            &|| 0,
        );
        for (outcome, sessions) in outcomes.iter().zip([1u32, 4]) {
            let point = &outcome.point;
            assert_eq!((point.sessions.asked, point.sessions.admitted), (sessions, sessions));
            assert!(crate::success(point) >= 1.0 && !outcome.interrupted, "{point:?}");
            assert!(point.steps > 0 && point.episodes > 0 && point.steps >= 3 * point.episodes);
            assert!(point.latency_ms.step.min >= 5.0, "{:?}", point.latency_ms.step);
            assert!(point.latency_ms.step_corrected.count >= point.latency_ms.step.count);
            assert!(point.latency_ms.connect.count == u64::from(sessions));
            let shares = &point.share_of_time;
            let sum = shares.step + shares.reset + shares.connect + shares.client + shares.idle;
            assert!((sum - 1.0).abs() < 1e-9 && shares.step > 0.5, "{shares:?}");
            let ticks = &point.timeline;
            let counted: u64 =
                ticks.iter().filter(|tick| !tick.warm_up).map(|tick| tick.steps).sum();
            assert_eq!(counted, point.steps, "{ticks:?}");
            assert!(ticks.iter().any(|tick| tick.warm_up));
        }
    }

    #[test]
    fn an_open_loop_keeps_its_rate_and_counts_from_when_steps_were_due() {
        let plan = Plan {
            open: Some((100.0, Arrivals::Uniform)),
            measure: Duration::from_millis(500),
            ..plan()
        };
        let outcomes = measured("synthetic", &[("step_ms", "5")], plan, "{}", &[4], &|| 0);
        let point = &outcomes[0].point;
        // 50 are due.
        assert!((10..=55).contains(&point.steps), "{point:?}");
        assert!(point.share_of_time.idle > 0.5, "{:?}", point.share_of_time);
        assert!(point.latency_ms.step_corrected.p50 >= point.latency_ms.step.p50);
    }

    #[test]
    fn what_is_due_and_cannot_be_sent_is_counted_and_its_wait_is_in_the_latency() {
        let plan = Plan { open: Some((400.0, Arrivals::Poisson)), ..plan() };
        // One session takes a hundred a second at the most.
        let outcomes = measured("synthetic", &[("step_ms", "10")], plan, "{}", &[1], &|| 0);
        let point = &outcomes[0].point;
        assert!(point.requests.not_sent > 20, "{point:?}");
        assert!(point.latency_ms.step_corrected.max > 3.0 * point.latency_ms.step.max, "{point:?}");
    }

    #[test]
    fn what_hangs_is_given_up_at_its_deadline() {
        let mut plan = plan();
        plan.deadlines.step = Duration::from_millis(100);
        let outcomes = measured("synthetic", &[("step_ms", "60000")], plan, "{}", &[3], &|| 0);
        let point = &outcomes[0].point;
        assert_eq!(point.requests.failures.get("deadline_step"), Some(&3), "{point:?}");
        assert_eq!((point.sessions.admitted, point.sessions.lost), (3, 3));
        assert!(point.steps == 0 && crate::success(point) <= 0.0);
        assert!(outcomes[0].words["deadline_step"].contains("100ms"));
    }

    #[test]
    fn a_policy_without_an_action_loses_its_sessions() {
        let outcomes = measured("cartpole", &[], plan(), "", &[2], &|| 0);
        let point = &outcomes[0].point;
        assert_eq!((point.sessions.lost, point.steps), (2, 0));
        assert_eq!(outcomes[0].words["policy"], "out of ideas");
    }

    #[test]
    fn actions_that_are_refused_are_failures_and_no_hot_loop() {
        let outcomes = measured("cartpole", &[], plan(), r#"{"none":1}"#, &[2], &|| 0);
        let point = &outcomes[0].point;
        assert_eq!(point.requests.failures.values().sum::<u64>(), 6, "{point:?}");
        assert_eq!(point.sessions.lost, 2);
    }

    #[test]
    fn an_interrupt_ends_a_point_with_what_there_is() {
        let plan = Plan { measure: Duration::from_secs(3600), ..plan() };
        let began = Instant::now();
        let interrupts = || u8::from(began.elapsed() > Duration::from_millis(300));
        let outcomes = measured("synthetic", &[("step_ms", "5")], plan, "{}", &[2], &interrupts);
        assert!(outcomes[0].interrupted && outcomes[0].point.steps > 0);
    }
}
