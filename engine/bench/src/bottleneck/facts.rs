//! The rules, one a function, over what is known at one point.

use super::{About, SUCCESS_MIN};
use crate::{
    largest::success,
    report::{Bottleneck, Kind, Loop, Point},
    table::ms,
};

/// A thread, or an interpreter's process, that is busy for this share has no more to give.
const BUSY: f64 = 0.85;
/// All cores are busy from this share on.
const FULL: f64 = 0.9;
/// A part of the machine that counts.
const PART: f64 = 0.3;
/// Throughput that grows by less when sessions double has reached its end.
const GROWTH: f64 = 1.25;
/// Latency within this factor of that of a single session is flat.
const FLAT: f64 = 1.5;
/// Shares of one core below this are idle.
const IDLE: f64 = 0.5;
/// Bytes a second that fill a network of one gigabit a second.
const NETWORK_BYTES_PER_S: f64 = 100e6;

/// The points, and the one that is looked at.
pub(super) struct Facts<'a> {
    /// By the number of sessions.
    pub(super) points: &'a [&'a Point],
    /// Where throughput has come to its end.
    pub(super) at: &'a Point,
    pub(super) about: About,
}

impl Facts<'_> {
    /// Whether twice the sessions brought little more, or nothing more was tried and the way there was flat.
    pub(super) fn is_saturated(&self) -> bool {
        let sessions = self.at.sessions.admitted;
        let half = self.points.iter().rfind(|point| 2 * point.sessions.admitted <= sessions);
        let beyond = self.points.iter().any(|point| point.sessions.admitted >= 2 * sessions);
        let is_single = sessions == 1 && self.points.len() == 1;
        matches!(self.at.pace, Loop::Open { .. })
            || beyond
            || is_single
            || half.is_some_and(|half| {
                let doublings =
                    (f64::from(sessions) / f64::from(half.sessions.admitted.max(1))).log2();
                self.at.steps_per_s < half.steps_per_s * GROWTH.powf(doublings)
            })
    }

    fn single(&self) -> Option<&Point> {
        self.points.first().copied().filter(|point| point.sessions.admitted == 1)
    }

    fn throughput(&self) -> String {
        let best = self.points.iter().max_by(|a, b| a.steps_per_s.total_cmp(&b.steps_per_s));
        let best = best.map_or(self.at, |best| best);
        format!(
            "{:.0} steps/s with {} sessions; the best is {:.0} with {}",
            self.at.steps_per_s, self.at.sessions.asked, best.steps_per_s, best.sessions.asked
        )
    }

    fn busy(&self) -> String {
        let server = self.at.server.as_ref().map_or_else(
            || "unknown".into(),
            |it| {
                format!(
                    "{:.2} cores, its busiest process {:.2}, its busiest thread {:.2}",
                    it.cores, it.busiest_process, it.busiest_thread
                )
            },
        );
        let engine = &self.at.engine;
        let all = self
            .at
            .machine_cores
            .map_or_else(String::new, |all| format!("; all together {all:.2}"));
        format!(
            "busy of {} hardware threads: server {server}; envmill {:.2}, its busiest thread {:.2}{all}",
            self.about.threads, engine.cores, engine.busiest_thread
        )
    }

    fn latency(&self) -> String {
        let single = self.single().map_or_else(String::new, |single| {
            format!("; a single session's is {} ms", ms(single.latency_ms.step.p50))
        });
        format!("a step's median is {} ms there{single}", ms(self.at.latency_ms.step.p50))
    }

    fn told(&self, what: &str, summary: String, remedy: &str) -> Bottleneck {
        let mut evidence = vec![self.throughput(), self.busy(), self.latency()];
        let shares = &self.at.share_of_time;
        evidence.push(format!(
            "of the sessions' time {:.0} % waits for steps, {:.0} % for resets, {:.0} % for envmill",
            100.0 * shares.step,
            100.0 * shares.reset,
            100.0 * shares.client
        ));
        Bottleneck { what: what.into(), summary, evidence, remedy: remedy.into() }
    }

    fn server_cores(&self) -> f64 {
        self.at.server.as_ref().map_or(0.0, |server| server.cores)
    }

    fn threads(&self) -> f64 {
        f64::from(self.about.threads.max(1))
    }

    /// An open loop asks for no more than it was told to.
    pub(super) fn keeps_up(&self) -> Option<Bottleneck> {
        let last = self.points.last()?;
        let Loop::Open { steps_per_s } = last.pace else { return None };
        (last.requests.not_sent == 0 && success(last) >= SUCCESS_MIN).then(|| {
            let summary = format!(
                "The target keeps up with {steps_per_s} steps/s over {} sessions: nothing holds it back at that rate.",
                last.sessions.asked
            );
            self.told("none", summary, "Ask for more (--rate), or measure in a closed loop.")
        })
    }

    pub(super) fn machine(&self) -> Option<Bottleneck> {
        let (server, engine) = (self.server_cores(), self.at.engine.cores);
        if let Some(all) = self.at.machine_cores
            && all >= FULL * self.threads()
            && all - server - engine >= PART * self.threads()
            && (self.about.is_local || engine >= PART)
        {
            let summary = format!(
                "Other work keeps {:.1} of this machine's {} hardware threads busy: figures are those of what it leaves.",
                all - server - engine,
                self.about.threads
            );
            return Some(self.told(
                "machine",
                summary,
                "Measure on a machine that does nothing else.",
            ));
        }
        let is_shared = server >= PART && engine >= PART * server;
        (self.about.is_local && is_shared && server + engine >= FULL * self.threads()).then(|| {
            let summary = format!(
                "Server and client together use all {} hardware threads of this machine: what is measured is both.",
                self.about.threads
            );
            self.told("machine", summary, "Run the server on another machine, or give this one more cores.")
        })
    }

    pub(super) fn client(&self) -> Option<Bottleneck> {
        (self.at.engine.busiest_thread >= BUSY).then(|| {
            let (summary, remedy) = if self.about.kind == Kind::Native {
                (
                    "The environment runs in this process, and its thread is busy: this is what environment and \
                     client can do together on one core.",
                    "Nothing, if that is enough: put serve: before the target to have a process of its own.",
                )
            } else {
                (
                    "Envmill's own thread is busy all the time: the target can do more than is measured here.",
                    "Run several envmill bench at a time, or a constant policy, which costs less to draw from.",
                )
            };
            self.told("client", summary.into(), remedy)
        })
    }

    pub(super) fn cpu(&self) -> Option<Bottleneck> {
        let cores = self.server_cores();
        (cores >= BUSY * self.threads() && self.threads() > 1.0).then(|| {
            let summary = format!(
                "The server uses {cores:.2} of this machine's {} hardware threads: it has no more to take.",
                self.about.threads
            );
            self.told("server_cpu", summary, "A machine with more cores, or several behind one URL (envmill env serve URL URL), or less work in a step.")
        })
    }

    pub(super) fn thread(&self) -> Option<Bottleneck> {
        // Where it is full it may be busier yet with more sessions than are needed for the throughput.
        let there = self.at.sessions.admitted;
        let beyond = self.points.iter().filter(|point| point.sessions.admitted >= there);
        let server = beyond
            .filter_map(|point| point.server.as_ref())
            .max_by(|a, b| a.busiest_process.total_cmp(&b.busiest_process))?;
        if server.busiest_thread >= BUSY {
            let summary =
                "One thread of the server is busy all the time, and the others wait for it.";
            return Some(self.told("server_thread", summary.into(), MORE_WORKERS));
        }
        let is_interpreter = server.threads > server.processes && server.busiest_process >= BUSY;
        (is_interpreter && server.busiest_process < 1.5).then(|| {
            let summary = format!(
                "One process of the server is at {:.2} cores with several threads, and gets no further: in Python \
                 they run one at a time (the global interpreter lock).",
                server.busiest_process
            );
            self.told("server_thread", summary, MORE_WORKERS)
        })
    }

    pub(super) fn network(&self) -> Option<Bottleneck> {
        let traffic = self.at.traffic?;
        let per_s = (traffic.bytes_in.max(traffic.bytes_out)) as f64 / self.at.measured_s;
        (!self.about.is_local && per_s >= NETWORK_BYTES_PER_S).then(|| {
            let summary = format!(
                "{:.0} MB/s cross the network, about what one gigabit a second carries.",
                per_s / 1e6
            );
            self.told(
                "network",
                summary,
                "A faster network, a client next to the server, or smaller observations.",
            )
        })
    }

    /// Throughput has come to an end, and nobody is busy: steps wait for something that is no CPU.
    pub(super) fn queue(&self) -> Option<Bottleneck> {
        let server = self.at.server.as_ref()?;
        let single = self.single()?.latency_ms.step.p50;
        if server.busiest_process > IDLE || server.cores > IDLE * self.threads() || single <= 0.0 {
            return None;
        }
        let at_once = self.at.steps_per_s * single / 1e3;
        let summary = format!(
            "The server has CPU to spare and yet takes only about {at_once:.1} steps at a time, each of {} ms: \
             the rest wait for a lock, a pool of threads or a device.",
            ms(single)
        );
        Some(self.told(
            "environment_time",
            summary,
            "Look for what steps wait for one after another: a lock, a pool (Python's default has 5 threads more than \
             cores, at most 32), a database, a GPU.",
        ))
    }

    pub(super) fn cap(&self, cap: Option<u32>) -> Option<Bottleneck> {
        let cap = cap?;
        let summary = format!(
            "The server holds {cap} sessions and refuses more; throughput was still growing there."
        );
        let mut told = self.told(
            "session_cap",
            summary,
            "Raise the server's limit (max_concurrent_envs of create_app, often MAX_CONCURRENT_ENVS), or run more servers.",
        );
        if let Some(refused) = self.points.iter().find(|point| point.sessions.refused > 0) {
            let sessions = &refused.sessions;
            told.evidence.insert(
                0,
                format!(
                    "of {} sessions {} were admitted and {} refused",
                    sessions.asked, sessions.admitted, sessions.refused
                ),
            );
        }
        Some(told)
    }

    /// Nothing is full, and steps take what they take alone.
    pub(super) fn environment(&self) -> Option<Bottleneck> {
        let single = self.single()?.latency_ms.step.p50;
        let p50 = self.at.latency_ms.step.p50;
        let idle =
            self.at.server.as_ref().is_none_or(|server| server.cores < IDLE * self.threads());
        (self.points.len() > 1 && p50 <= FLAT * single && idle && self.at.share_of_time.client < 0.2).then(|| {
            let server = self.at.server.as_ref();
            let of_that = server.map_or_else(String::new, |it| {
                format!(" ({} ms of it are CPU of the server)", ms(it.cpu_us_per_step / 1e3))
            });
            let summary = format!(
                "A step takes about {} ms{of_that} however many sessions there are: throughput is sessions over that \
                 time, and nothing is full yet.",
                ms(single)
            );
            self.told(
                "environment_time",
                summary,
                "More sessions (--max), until something else is full; or a faster step.",
            )
        })
    }

    pub(super) fn none(&self) -> Bottleneck {
        if self.at.server.is_none() && self.about.kind != Kind::Native && self.is_saturated() {
            let summary = "Throughput has come to its end, and the server's processes cannot be seen from here.";
            return self.told(
                "unknown",
                summary.into(),
                "Run envmill bench on the server's machine, or look there at what its processes use (--server-pid).",
            );
        }
        let summary = if self.is_saturated() {
            "Throughput has come to its end, and no single part is seen to be full."
        } else {
            "Throughput was still growing at the largest number of sessions that was measured."
        };
        self.told("none", summary.into(), "Measure with more sessions (--max).")
    }
}

const MORE_WORKERS: &str = "Several processes: uvicorn --workers N (each with its own limit of sessions), --replicas N \
                            with --serve, or openenv-class: in envmill's worker processes, one a core.";
