//! What holds a target back, concluded from its points.

use crate::{
    largest::success,
    report::{Bottleneck, Kind, Point},
    sweep::session_cap,
    table::ms,
};

/// What is known beside the points.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// What the target is.
    pub kind: Kind,
    /// Hardware threads of this machine.
    pub threads: u32,
    /// Whether the target is on this machine.
    pub is_local: bool,
    /// Whether all sessions were asked for at once.
    pub storm: bool,
}

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
const SUCCESS_MIN: f64 = 0.95;

/// What holds a target back. The rules are tried in this order, at the smallest point with 95 % of the best
/// throughput; the first that fits is the answer. They stand in `docs/bench.md`.
#[must_use]
pub fn bottleneck(points: &[Point], about: About) -> Bottleneck {
    let mut sorted: Vec<&Point> = points.iter().filter(|point| point.measured_s > 0.0).collect();
    sorted.sort_by_key(|point| point.sessions.asked);
    if let Some(found) = storm(&sorted, about) {
        return found;
    }
    let rate = |point: &&Point| point.steps_per_s;
    let best = sorted.iter().map(rate).fold(0.0, f64::max);
    let at = sorted.iter().copied().find(|point| best > 0.0 && rate(point) >= 0.95 * best);
    let Some(at) = at else { return unknown(points) };
    let facts = Facts { points: &sorted, at, about };
    // What is full is full, whether throughput still grows a little or not; the rest only where it does not.
    let full = facts.machine().or_else(|| facts.client()).or_else(|| facts.cpu());
    let waits = || facts.network().or_else(|| facts.queue());
    full.or_else(|| facts.thread())
        .or_else(|| if facts.is_saturated() { waits() } else { None })
        .or_else(|| facts.cap(session_cap(points)))
        .or_else(|| facts.environment())
        .unwrap_or_else(|| facts.none())
}

struct Facts<'a> {
    /// By the number of sessions.
    points: &'a [&'a Point],
    /// Where throughput has come to its end.
    at: &'a Point,
    about: About,
}

impl Facts<'_> {
    /// Whether twice the sessions brought little more, or nothing more was tried and the way there was flat.
    fn is_saturated(&self) -> bool {
        let sessions = self.at.sessions.admitted;
        let half = self.points.iter().rfind(|point| 2 * point.sessions.admitted <= sessions);
        let beyond = self.points.iter().any(|point| point.sessions.admitted >= 2 * sessions);
        let is_single = sessions == 1 && self.points.len() == 1;
        beyond
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
        format!(
            "busy of {} hardware threads: server {server}; envmill {:.2}, its busiest thread {:.2}",
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

    fn machine(&self) -> Option<Bottleneck> {
        let (server, engine) = (self.server_cores(), self.at.engine.cores);
        let is_shared = server >= PART && engine >= PART * server;
        (self.about.is_local && is_shared && server + engine >= FULL * self.threads()).then(|| {
            let summary = format!(
                "Server and client together use all {} hardware threads of this machine: what is measured is both.",
                self.about.threads
            );
            self.told("machine", summary, "Run the server on another machine, or give this one more cores.")
        })
    }

    fn client(&self) -> Option<Bottleneck> {
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

    fn cpu(&self) -> Option<Bottleneck> {
        let cores = self.server_cores();
        (cores >= BUSY * self.threads() && self.threads() > 1.0).then(|| {
            let summary = format!(
                "The server uses {cores:.2} of this machine's {} hardware threads: it has no more to take.",
                self.about.threads
            );
            self.told("server_cpu", summary, "A machine with more cores, or several behind one URL (envmill env serve URL URL), or less work in a step.")
        })
    }

    fn thread(&self) -> Option<Bottleneck> {
        let server = self.at.server.as_ref()?;
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

    fn network(&self) -> Option<Bottleneck> {
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
    fn queue(&self) -> Option<Bottleneck> {
        let server = self.at.server.as_ref()?;
        let single = self.single()?.latency_ms.step.p50;
        if server.cores > IDLE * self.threads().min(2.0) || single <= 0.0 {
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

    fn cap(&self, cap: Option<u32>) -> Option<Bottleneck> {
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
    fn environment(&self) -> Option<Bottleneck> {
        let single = self.single()?.latency_ms.step.p50;
        let p50 = self.at.latency_ms.step.p50;
        let idle =
            self.at.server.as_ref().is_none_or(|server| server.cores < IDLE * self.threads());
        (self.points.len() > 1 && p50 <= FLAT * single && idle && self.at.share_of_time.client < 0.2).then(|| {
            let summary = format!(
                "A step takes about {} ms however many sessions there are: throughput is sessions over that \
                 time, and nothing is full yet.",
                ms(single)
            );
            self.told("environment_time", summary, "More sessions (--max), until something else is full; or a faster step.")
        })
    }

    fn none(&self) -> Bottleneck {
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

/// Sessions that were asked for at once, and did not all come through.
fn storm(points: &[&Point], about: About) -> Option<Bottleneck> {
    let failed = points.iter().copied().find(|point| {
        let sessions = &point.sessions;
        f64::from(sessions.failed) > (1.0 - SUCCESS_MIN) * f64::from(sessions.asked)
    })?;
    if !about.storm {
        return None;
    }
    let sessions = &failed.sessions;
    let causes: Vec<String> =
        sessions.failures.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
    Some(Bottleneck {
        what: "connect_storm".into(),
        summary: format!(
            "With {} sessions asked for at once, {} failed before they were admitted.",
            sessions.asked, sessions.failed
        ),
        evidence: vec![
            format!("why: {}", causes.join(", ")),
            format!(
                "connections took {:.0} ms in the median and {:.0} ms at most, first resets {:.0} and {:.0} ms",
                failed.latency_ms.connect.p50,
                failed.latency_ms.connect.max,
                failed.latency_ms.first_reset.p50,
                failed.latency_ms.first_reset.max
            ),
            format!(
                "{} sessions were admitted within {:.1} s",
                sessions.admitted, sessions.opened_in_s
            ),
        ],
        remedy:
            "Open sessions a few at a time, as envmill does without --connect-storm, and keep them."
                .into(),
    })
}

fn unknown(points: &[Point]) -> Bottleneck {
    let failed = points.iter().find(|point| success(point) < SUCCESS_MIN);
    let causes = failed.map_or_else(Vec::new, |point| {
        let sessions = point.sessions.failures.iter();
        let all = sessions.chain(&point.requests.failures);
        all.map(|(cause, count)| format!("with {} sessions: {count} {cause}", point.sessions.asked))
            .collect()
    });
    Bottleneck {
        what: "unknown".into(),
        summary: "No step was answered, so there is nothing to say about what holds it back."
            .into(),
        evidence: causes,
        remedy: "Make one session work first: envmill run --env TARGET --sessions 1 --episodes 1."
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::{Traffic, Usage},
        sweep::tests::{fast, refusing},
    };

    const ABOUT: About = About { kind: Kind::Url, threads: 4, is_local: true, storm: false };

    /// A point with a throughput, a median latency, and cores that the server and envmill use.
    fn at(sessions: u32, steps_per_s: f64, p50: f64, server: f64, engine: f64) -> Point {
        let mut point = fast(sessions, steps_per_s);
        point.latency_ms.step.p50 = p50;
        point.share_of_time.step = 1.0;
        let usage = |cores: f64| Usage {
            cores,
            busiest_process: cores,
            busiest_thread: cores.min(1.0) * 0.6,
            processes: 1,
            threads: 9,
            ..Usage::default()
        };
        point.server = Some(usage(server));
        point.engine = usage(engine);
        point
    }

    fn what(points: &[Point], about: About) -> String {
        let found = bottleneck(points, about);
        assert!(!found.summary.is_empty() && !found.remedy.is_empty());
        found.what
    }

    #[test]
    fn a_python_server_of_one_process_is_held_by_its_interpreter() {
        // As recorded from the stock server under uvicorn, with one worker.
        let points = [
            at(1, 900.0, 1.1, 0.7, 0.05),
            at(2, 1500.0, 1.3, 0.9, 0.08),
            at(4, 1700.0, 2.3, 1.0, 0.1),
            at(8, 1750.0, 4.5, 1.05, 0.1),
        ];
        assert_eq!(what(&points, ABOUT), "server_thread");
    }

    #[test]
    fn several_busy_processes_are_the_servers_cpu() {
        let mut points = [
            at(1, 900.0, 1.0, 0.7, 0.05),
            at(8, 5000.0, 2.0, 3.6, 0.2),
            at(16, 5100.0, 4.0, 3.7, 0.2),
        ];
        assert_eq!(what(&points, ABOUT), "server_cpu");
        for point in &mut points {
            point.engine.cores = 1.6;
        }
        points[1].server = Some(Usage { cores: 2.3, ..points[1].server.clone().unwrap() });
        assert_eq!(what(&points, ABOUT), "machine");
    }

    #[test]
    fn a_busy_client_says_so() {
        let mut points = [
            at(1, 9000.0, 0.1, 0.2, 0.5),
            at(8, 50_000.0, 0.2, 0.5, 1.0),
            at(16, 50_000.0, 0.4, 0.5, 1.0),
        ];
        for point in &mut points[1..] {
            point.engine.busiest_thread = 0.97;
        }
        assert_eq!(what(&points, ABOUT), "client");
        let native = bottleneck(&points, About { kind: Kind::Native, ..ABOUT });
        assert!(native.what == "client" && native.summary.contains("runs in this process"));
    }

    #[test]
    fn sleeping_environments_are_their_own_time() {
        let points = [
            at(1, 20.0, 50.0, 0.01, 0.01),
            at(2, 40.0, 50.1, 0.02, 0.01),
            at(4, 79.0, 50.4, 0.04, 0.02),
        ];
        assert_eq!(what(&points, ABOUT), "environment_time");
    }

    #[test]
    fn a_lock_is_seen_by_what_is_idle() {
        let points = [
            at(1, 100.0, 10.0, 0.02, 0.01),
            at(2, 100.0, 20.0, 0.02, 0.01),
            at(4, 100.0, 40.0, 0.02, 0.01),
        ];
        let found = bottleneck(&points, ABOUT);
        assert_eq!(found.what, "environment_time");
        assert!(found.summary.contains("about 1.0 steps at a time"), "{}", found.summary);
    }

    #[test]
    fn a_cap_holds_back_what_still_grew() {
        let mut capped = refusing(4, 2);
        capped.steps_per_s = 40.0;
        capped.latency_ms.step.p50 = 50.0;
        let points = [at(1, 20.0, 50.0, 0.01, 0.01), at(2, 40.0, 50.0, 0.02, 0.01), capped];
        assert_eq!(what(&points, ABOUT), "session_cap");
    }

    #[test]
    fn far_targets_are_told_by_their_traffic_or_not_at_all() {
        let far = About { is_local: false, ..ABOUT };
        let mut points = [
            at(1, 100.0, 9.0, 0.0, 0.1),
            at(2, 110.0, 18.0, 0.0, 0.1),
            at(4, 111.0, 36.0, 0.0, 0.1),
        ];
        for point in &mut points {
            point.server = None;
        }
        assert_eq!(what(&points, far), "unknown");
        for point in &mut points {
            point.traffic =
                Some(Traffic { bytes_in: 120_000_000, bytes_out: 1, bytes_per_step: 1.0 });
        }
        assert_eq!(what(&points, far), "network");
    }

    #[test]
    fn storms_and_nothing_at_all_are_told() {
        let mut stormy = at(64, 100.0, 1.0, 0.5, 0.1);
        (stormy.sessions.failed, stormy.sessions.success) = (32, 0.5);
        stormy.sessions.failures.insert("deadline_connect".into(), 32);
        assert_eq!(what(&[stormy.clone()], About { storm: true, ..ABOUT }), "connect_storm");
        assert_ne!(what(&[stormy], ABOUT), "connect_storm");
        assert_eq!(what(&[], ABOUT), "unknown");
        let growing = [fast(1, 10.0), fast(2, 20.0), fast(4, 40.0)];
        assert_eq!(what(&growing, About { kind: Kind::Native, ..ABOUT }), "environment_time");
    }
}
