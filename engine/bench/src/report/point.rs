//! What was measured with one number of sessions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Distribution;

/// One point of a sweep. Everything but `sessions`, `latency_ms.connect` and `latency_ms.first_reset` is about
/// the part that counts, after the warm-up; failures count in the warm-up, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When its first session was asked for, in seconds from the benchmark's start.
    pub began_s: f64,
    /// Who sets the pace.
    #[serde(rename = "loop")]
    pub pace: Loop,
    /// The sessions.
    pub sessions: Sessions,
    /// How long was measured, in seconds.
    pub measured_s: f64,
    /// Steps answered.
    pub steps: u64,
    /// Episodes that came to an end, by the environment or by the limit of steps.
    pub episodes: u64,
    /// `steps / measured_s`.
    pub steps_per_s: f64,
    /// `episodes / measured_s`.
    pub episodes_per_s: f64,
    /// Resets and steps.
    pub requests: Requests,
    /// How long requests took.
    pub latency_ms: Latencies,
    /// What the server cost; `null` where its processes are not on this machine or not known.
    pub server: Option<Usage>,
    /// What this process cost.
    pub engine: Usage,
    /// How many of this machine's hardware threads were busy, with whatever; `null` where the system does not
    /// say. What is more than the server's and the engine's is other work.
    #[serde(default)]
    pub machine_cores: Option<f64>,
    /// What crossed the wire; `null` where there is none.
    pub traffic: Option<Traffic>,
    /// Where the time of sessions went; shares of the time of all sessions, which add up to 1.
    pub share_of_time: Where,
    /// The point as it went, tick by tick, warm-up included.
    pub timeline: Vec<Tick>,
}

/// Who sets the pace.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Loop {
    /// The target: each session sends its next request when it has its answer.
    Closed,
    /// A clock: steps are due at a fixed rate, whether the target keeps up or not, and their latency
    /// counts from when they were due.
    Open {
        /// Steps a second over all sessions.
        steps_per_s: f64,
    },
}

/// The sessions of a point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// How many were to be there.
    pub asked: u32,
    /// How many got the answer to their first reset.
    pub admitted: u32,
    /// How many were refused for want of room.
    pub refused: u32,
    /// How many failed otherwise before they were admitted.
    pub failed: u32,
    /// How many that had been admitted were lost afterwards.
    pub lost: u32,
    /// From the first being asked for to the last being admitted, in seconds.
    pub opened_in_s: f64,
    /// `admitted / asked`, less those that were lost.
    pub success: f64,
    /// Why sessions were not admitted, or lost, by cause; those that were refused apart.
    #[serde(default)]
    pub failures: BTreeMap<String, u64>,
}

/// Resets and steps that were sent in the part that counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Requests {
    /// How many were answered, or failed.
    pub sent: u64,
    /// How many failed, by cause.
    pub failures: BTreeMap<String, u64>,
    /// The share that was answered. 1 where none was sent.
    pub success: f64,
    /// In an open loop, how many were due and not sent, because every session still waited for its answer.
    pub not_sent: u64,
}

/// How long requests took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// From asking for a session to its transport standing.
    pub connect: Distribution,
    /// First resets of sessions, which contain the making of an environment.
    pub first_reset: Distribution,
    /// Later resets.
    pub reset: Distribution,
    /// Steps from when they were sent to their answer.
    pub step: Distribution,
    /// Steps corrected for coordinated omission: in an open loop from when they were due, and in a closed
    /// one as if requests had gone on while a slow one was waited for, at the interval of the median.
    pub step_corrected: Distribution,
}

/// What processes cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time, user and system, in seconds.
    pub cpu_s: f64,
    /// Of that, microseconds for each step.
    pub cpu_us_per_step: f64,
    /// Of that, for each second: how many cores it kept busy.
    pub cores: f64,
    /// Resident memory at the end, in bytes.
    pub rss_bytes: u64,
    /// How many processes there are.
    pub processes: u32,
    /// How many threads they have.
    pub threads: u32,
    /// How many descriptors they have open.
    pub descriptors: u32,
    /// The most that a single one of their threads was busy, as a share of one core: near 1, it is what
    /// holds up the rest.
    pub busiest_thread: f64,
    /// The most that a single one of the processes was busy, all its threads together, in cores: near 1 in
    /// an interpreter whose threads run one at a time, it is what holds up the rest.
    #[serde(default)]
    pub busiest_process: f64,
}

/// What crossed the wire, framing included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// From the target, in bytes.
    pub bytes_in: u64,
    /// To the target, in bytes.
    pub bytes_out: u64,
    /// From and to the target, in bytes a step.
    pub bytes_per_step: f64,
}

/// Where the time of sessions went: shares that add up to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Where {
    /// Waiting for answers to steps.
    pub step: f64,
    /// Waiting for answers to resets.
    pub reset: f64,
    /// Waiting for their connection, or to be admitted.
    pub connect: f64,
    /// Waiting for this process: answers that had arrived and were not yet followed by a request.
    pub client: f64,
    /// Nothing to do: in an open loop no step was due, or the session was gone.
    pub idle: f64,
}

/// A piece of a point's time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// When it began, in seconds from the point's first step.
    pub at_s: f64,
    /// How long it is, in seconds.
    pub width_s: f64,
    /// Whether it belongs to the warm-up.
    pub warm_up: bool,
    /// Steps answered.
    pub steps: u64,
    /// Requests that failed.
    pub failures: u64,
    /// The median latency of its steps, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Sessions that were open.
    pub sessions: u32,
    /// Cores that the server kept busy; `null` where that is not known.
    pub server_cores: Option<f64>,
    /// The server's resident memory, in bytes; `null` where that is not known.
    pub server_rss_bytes: Option<u64>,
}
