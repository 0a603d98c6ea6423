//! One target from its start to its verdict.

use std::time::{Duration, Instant};

use envmill_bench::{
    About, Deadlines, Load, Measured, Plan, Sweep, bottleneck, knee, largest, peer, processes,
    report::{Kind, Machine, Peer, Point, Stop, Target},
    session_cap, success,
};
use serde_json::{Map, Value};

use super::{BenchOptions, BenchTarget, News, actions::Actor, local, versions::versions};
use crate::{
    children::{Children, Ended},
    config::{Local, Source},
    driver::Control,
    fleet::{Fleet, FleetWorker, Remote},
    policy::PolicySpec,
    run::{self, RunError},
};

/// A share of success with which a number of sessions is still supported.
const ALMOST_ALL: f64 = 0.95;
/// A server whose connections have broken has so long to be seen to have ended.
const END_SEEN_WITHIN: Duration = Duration::from_millis(500);

impl Measured for FleetWorker {
    fn traffic(&self) -> Option<(u64, u64)> {
        match self {
            Self::Remote(worker) => {
                let metrics = worker.metrics();
                Some((metrics.bytes_in, metrics.bytes_out))
            }
            Self::Native(_) | Self::Python(_) => None,
        }
    }

    fn is_settled(&self) -> bool {
        match self {
            Self::Remote(worker) => worker.metrics().sockets_closing == 0,
            Self::Native(_) | Self::Python(_) => true,
        }
    }
}

/// A target that is to be measured, and how.
#[derive(Clone, Copy)]
pub(super) struct Bench<'a> {
    pub(super) target: &'a BenchTarget,
    pub(super) options: &'a BenchOptions,
    pub(super) machine: &'a Machine,
    pub(super) control: &'a Control,
    /// When the benchmark began.
    pub(super) origin: Instant,
}

/// Starts a target, measures it and ends it. What goes wrong stands in its `error`.
pub(super) fn measure(bench: Bench<'_>, tell: &mut dyn FnMut(News<'_>)) -> Target {
    let Bench { target, options, machine, control, .. } = bench;
    let kind = kind(target);
    let about = About {
        kind,
        threads: machine.threads,
        is_local: target.run.sources.iter().all(|source| match source {
            Source::Url(url) => local::is_local(url),
            _ => true,
        }),
        storm: options.storm,
    };
    let mut found = Target {
        name: target.name.clone(),
        kind,
        url: None,
        environment: None,
        fingerprint: None,
        versions: Vec::new(),
        points: Vec::new(),
        stop: Stop::Error,
        knee: None,
        largest_95: None,
        largest_100: None,
        session_cap: None,
        bottleneck: bottleneck(&[], about),
        peers: Vec::new(),
        error: None,
    };
    let measured = sweep(bench, &mut found, tell);
    if let Err(error) = measured {
        let error = error.to_string();
        found.stop = if control.interrupts() > 0 { Stop::Interrupted } else { Stop::Error };
        tell(News::Fails(&error));
        found.error = Some(error);
    }
    found.knee = knee(&found.points);
    found.largest_95 = largest(&found.points, ALMOST_ALL);
    found.largest_100 = largest(&found.points, 1.0);
    found.session_cap = session_cap(&found.points);
    found.bottleneck = bottleneck(&found.points, about);
    found
}

/// No more of a target can be measured.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error(transparent)]
    Start(#[from] RunError),
    #[error(transparent)]
    Load(#[from] envmill_bench::LoadError),
    #[error("no directory for the servers' output: {0}")]
    Logs(#[from] std::io::Error),
    #[error("--server-pid: there is no process {0}")]
    NoProcess(u32),
    #[error("a session that worked before cannot be opened any more: {0}")]
    Gone(String),
    #[error("with {sessions} sessions: {ended}")]
    Ended { sessions: u32, ended: Ended },
}

fn kind(target: &BenchTarget) -> Kind {
    match target.run.sources.first() {
        Some(Source::Local(Local::Native(_))) => Kind::Native,
        Some(Source::Local(Local::OpenEnvClass(_))) => Kind::OpenenvClass,
        Some(Source::Local(Local::Gymnasium(_))) => Kind::Python,
        Some(Source::Served(_) | Source::Command(_)) => Kind::Served,
        Some(Source::Url(_)) | None => Kind::Url,
    }
}

fn sweep(
    bench: Bench<'_>,
    found: &mut Target,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<(), BenchError> {
    let Bench { target, options, control, .. } = bench;
    let run = &target.run;
    let logs = tempfile::Builder::new().prefix("envmill-bench-").tempdir()?;
    let is_interrupted = || control.interrupts() > 0;
    let (fleet, mut worker) = Fleet::start(run, control, logs.path(), &is_interrupted)?;
    found.fingerprint = fleet.members.first().map(|member| member.fingerprint.clone());
    if let Some(remote) = &fleet.remote {
        found.url = fleet.members.first().map(|member| member.name.clone());
        told_of(&remote.metadata(), found);
    }
    found.versions.extend(versions(run, &is_interrupted));
    let roots = roots(&fleet, &worker, options)?;
    let mut actor = match &run.policy {
        PolicySpec::Constant(action) => Actor::Constant(action.clone()),
        _ => Actor::Random(Box::new(run::sampler(&fleet, &mut worker)?)),
    };
    let children = fleet.remote.as_ref().and_then(Remote::children);
    // What a server that has ended is asked for is not waited for.
    let has_ended = || children.is_some_and(Children::has_ended);
    let interrupts = || control.interrupts().max(u8::from(has_ended()));
    let plan = plan(bench, fleet.members.len());
    let load = Load::new(&mut worker, &mut actor, plan, &roots, bench.origin, &interrupts);
    let ended = |wait| children.and_then(|children| children.ended(wait));
    let result = points(load, &Sweep::new(options.sweep.clone()), found, &ended, tell);
    if result.is_ok() && options.peer && !is_interrupted() {
        tell(News::Peer(peer::NAMES[0]));
        found.peers.push(self::peer(bench, &mut actor, &roots, found));
    }
    fleet.stop(&worker);
    result
}

/// Measures the points that a sweep wants, one after another. `ended` says how a server that was started has ended,
/// if one has, and waits so long for that.
fn points(
    mut load: Load<'_, FleetWorker, Actor>,
    sweep: &Sweep,
    found: &mut Target,
    ended: &dyn Fn(Duration) -> Option<Ended>,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<(), BenchError> {
    loop {
        let sessions = match sweep.next(&found.points) {
            Ok(sessions) => sessions,
            Err(stop) => {
                found.stop = stop;
                return Ok(());
            }
        };
        let outcome = load.point(sessions, &mut |look| tell(News::Goes(look)))?;
        let has_failed = outcome.point.sessions.lost + outcome.point.sessions.failed > 0;
        let wait = if has_failed { END_SEEN_WITHIN } else { Duration::ZERO };
        if let Some(ended) = ended(wait) {
            // Cut off before its sessions broke, it would look as if all had gone well.
            if success(&outcome.point) < 1.0 {
                tell(News::Measured(&outcome.point, &outcome.words));
                found.points.push(outcome.point);
            }
            return Err(BenchError::Ended { sessions, ended });
        }
        let is_useful = !outcome.interrupted || outcome.point.steps > 0;
        if is_useful {
            tell(News::Measured(&outcome.point, &outcome.words));
        }
        let gone = is_gone(&found.points, &outcome.point)
            .then(|| outcome.words.values().next().cloned().unwrap_or_default());
        if is_useful {
            found.points.push(outcome.point);
        }
        if outcome.interrupted {
            found.stop = Stop::Interrupted;
            return Ok(());
        }
        if let Some(words) = gone {
            return Err(BenchError::Gone(words));
        }
    }
}

/// Whether a target that worked before gives no session at all any more, and not for want of room.
fn is_gone(before: &[Point], now: &Point) -> bool {
    let sessions = &now.sessions;
    sessions.admitted == 0
        && sessions.refused == 0
        && before.iter().any(|point| success(point) >= 1.0)
}

fn plan(Bench { target, options, .. }: Bench<'_>, servers: usize) -> Plan {
    let run = &target.run;
    let defaults = Deadlines::default();
    let deadlines = &run.limits.deadlines;
    Plan {
        servers: u32::try_from(servers).unwrap_or(u32::MAX),
        open: options.open,
        warm_up: options.warm_up,
        measure: options.measure,
        deadlines: Deadlines {
            connect: deadlines.connect.unwrap_or(defaults.connect),
            first_reset: deadlines.first_reset.unwrap_or(defaults.first_reset),
            reset: deadlines.reset.unwrap_or(defaults.reset),
            step: deadlines.step.unwrap_or(defaults.step),
            opening: options.opening,
        },
        max_steps: run.limits.max_steps,
        seed: run.seed,
        send_seed: run.send_seed,
        reset_parameters: run.reset_parameters.clone(),
        storm: options.storm,
    }
}

/// The processes that serve a target, as far as that is known.
fn roots(
    fleet: &Fleet,
    worker: &FleetWorker,
    options: &BenchOptions,
) -> Result<Vec<u32>, BenchError> {
    if let Some(pid) = options.server_pid {
        return if processes::exists(pid) {
            Ok(vec![pid])
        } else {
            Err(BenchError::NoProcess(pid))
        };
    }
    Ok(match (worker, &fleet.remote) {
        (FleetWorker::Python(worker), _) => vec![worker.nursery_pid()],
        (_, Some(remote)) => {
            let started = remote.child_ids();
            if started.is_empty() {
                fleet.members.iter().flat_map(|member| local::serving(&member.name)).collect()
            } else {
                started
            }
        }
        _ => Vec::new(),
    })
}

/// The environment's name and version, as its metadata tells them.
fn told_of(metadata: &[u8], found: &mut Target) {
    let Ok(Value::Object(metadata)) = serde_json::from_slice::<Value>(metadata) else { return };
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
    found.environment = text("name");
    found.versions.extend(text("version").map(|version| format!("environment {version}")));
}

/// The stock Python client at the numbers of sessions that were measured and went well.
fn peer(bench: Bench<'_>, actor: &mut Actor, roots: &[u32], found: &Target) -> Peer {
    let Bench { target, options, control, .. } = bench;
    let run = &target.run;
    let Some(url) = &found.url else {
        return Peer {
            name: peer::NAMES[0].into(),
            version: String::new(),
            points: Vec::new(),
            error: Some(
                "--peer: this target has no server that it could speak with: put serve: before it"
                    .into(),
            ),
        };
    };
    let mut sessions: Vec<u32> = found
        .points
        .iter()
        .filter(|point| success(point) >= ALMOST_ALL)
        .map(|point| point.sessions.asked)
        .collect();
    sessions.sort_unstable();
    sessions.dedup();
    let reset: Map<String, Value> =
        serde_json::from_slice(&run.reset_parameters).unwrap_or_default();
    let options = peer::Options {
        python: options.peer_python.clone(),
        url: url.clone(),
        sessions,
        warm_up: options.warm_up,
        measure: options.measure,
        actions: actor.some(run.seed),
        reset,
        seed: run.send_seed.then_some(run.seed),
        max_steps: run.limits.max_steps,
        server_pids: roots.to_vec(),
        headers: run.headers.clone(),
    };
    peer::openenv_client(&options, &|| control.interrupts() > 0)
}
