//! What was found of one target.

use serde::{Deserialize, Serialize};

use super::Point;

/// One target of a benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The target as it was given.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The URL that was measured, where it is a server.
    pub url: Option<String>,
    /// The environment's name, as the server tells it.
    pub environment: Option<String>,
    /// What tells its environment from a changed one.
    pub fingerprint: Option<String>,
    /// What it says of itself that matters for comparing: versions of OpenEnv, of the environment.
    pub versions: Vec<String>,
    /// The points in the order they were measured.
    pub points: Vec<Point>,
    /// Why there are no more.
    pub stop: Stop,
    /// Where more sessions stop paying; `null` where there are too few points.
    pub knee: Option<Knee>,
    /// The largest number of sessions with which at least 95 % of what was asked for went well.
    pub largest_95: Option<Largest>,
    /// The largest number of sessions with which all went well.
    pub largest_100: Option<Largest>,
    /// The number of sessions that the target was seen to hold when it refused another; `null` if it never
    /// refused one.
    pub session_cap: Option<u32>,
    /// What holds it back, and how that is known.
    pub bottleneck: Bottleneck,
    /// Other clients on the same target.
    pub peers: Vec<Peer>,
    /// What went wrong with the target as a whole; nothing was measured after it.
    pub error: Option<String>,
}

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A server that ran already.
    Url,
    /// A server that the benchmark has started.
    Served,
    /// A native environment in this process.
    Native,
    /// A Python environment in worker processes.
    Python,
    /// An OpenEnv class in worker processes.
    OpenenvClass,
}

/// Why a sweep has no more points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It has reached the largest number of sessions that was asked for.
    Max,
    /// The target refused sessions.
    Refused,
    /// Too much failed.
    Failures,
    /// More sessions brought no more steps for several points on end.
    Saturated,
    /// It was told to stop.
    Interrupted,
    /// The target could not be measured, or is gone.
    Error,
}

/// Where more sessions stop paying.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// The number of sessions.
    pub sessions: u32,
    /// Steps a second there.
    pub steps_per_s: f64,
    /// The 99th percentile of steps there, in milliseconds.
    pub step_p99_ms: f64,
    /// How it was found, in words.
    pub why: String,
}

/// The largest number of sessions with a success that is good enough.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Largest {
    /// The number of sessions.
    pub sessions: u32,
    /// The share that went well there.
    pub success: f64,
    /// Whether a larger number was tried and was not good enough. Otherwise there may be more.
    pub is_bounded: bool,
}

/// What holds a target back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bottleneck {
    /// One of `server_cpu`, `server_thread`, `environment_time`, `session_cap`, `connect_storm`, `client`,
    /// `machine`, `network`, `none`, `unknown`.
    pub what: String,
    /// What that means, in a sentence.
    pub summary: String,
    /// The figures that it is concluded from, one a line.
    pub evidence: Vec<String>,
    /// What may be done about it.
    pub remedy: String,
}

/// Another client on the same target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it measured.
    pub points: Vec<PeerPoint>,
    /// Why there are no points, or no more.
    pub error: Option<String>,
}

/// What another client measured with one number of sessions, by its own clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerPoint {
    /// The number of sessions.
    pub sessions: u32,
    /// Steps a second.
    pub steps_per_s: f64,
    /// The median latency of a step, in milliseconds.
    pub step_p50_ms: f64,
    /// The 99th percentile.
    pub step_p99_ms: f64,
    /// CPU time of the client, in microseconds a step.
    pub client_cpu_us_per_step: f64,
    /// CPU time of the server, in microseconds a step, where its processes are known.
    pub server_cpu_us_per_step: Option<f64>,
    /// What failed, by cause.
    pub failures: u64,
}
