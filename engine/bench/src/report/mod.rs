//! What a benchmark has found, as plain data: what `--json` writes and `--compare` reads, and what the
//! terminal's table and the page are made of. `docs/bench.md` documents it.

mod distribution;
mod point;
mod target;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::{
    distribution::{Bucket, Distribution},
    point::{Latencies, Loop, Point, Requests, Sessions, Tick, Traffic, Usage, Where},
    target::{Bottleneck, Kind, Knee, Largest, Peer, PeerPoint, Stop, Target},
};

/// The version of the report's form. It grows when a key changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// One benchmark of one or several targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Envmill's version.
    pub envmill_version: String,
    /// The command as it was given, word by word.
    pub command: Vec<String>,
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// How long it took, in seconds.
    pub took_s: f64,
    /// Whether it was ended before its time (Ctrl-C): what is here is what was measured until then.
    pub interrupted: bool,
    /// Where it ran.
    pub machine: Machine,
    /// How it was measured.
    pub settings: Settings,
    /// What was measured.
    pub targets: Vec<Target>,
}

/// Where a benchmark ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name as the system tells it.
    pub processor: String,
    /// Hardware threads that this process may use.
    pub threads: u32,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The system and its version.
    pub system: String,
    /// The load average of the last minute, before the benchmark began.
    pub load_before: f64,
}

/// How a benchmark measures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Follow from it: actions, the order of things, the seeds of resets.
    pub seed: u64,
    /// Who takes the actions: `random` or `constant:JSON`.
    pub policy: String,
    /// Seconds at each point before anything counts.
    pub warm_up_s: f64,
    /// Seconds at each point that count.
    pub measure_s: f64,
    /// An episode is left after so many steps, unless it ended before.
    pub max_steps: Option<u32>,
    /// The settings that are not told by the keys above, by flag.
    pub other: BTreeMap<String, serde_json::Value>,
}
