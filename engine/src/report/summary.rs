//! The summary of a run.

use std::{collections::BTreeMap, time::Duration};

use envmill_core::Core;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{groups::Groups, scores::Scores};
use crate::{
    driver::{Finished, cpu},
    replay::Replayed,
};

/// One run in figures. Serialised, it is the object that `--json` prints; scripts rely on its keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The requested episodes by their end.
    pub episodes: Episodes,
    /// Steps answered, in all attempts.
    pub steps: u64,
    /// From the first command to the last record being kept, in seconds.
    pub wall_s: f64,
    /// `steps / wall_s`.
    pub steps_per_s: f64,
    /// CPU time of this process, user and system, all threads, children excluded, in seconds.
    pub cpu_s: f64,
    /// CPU microseconds of this process for each step in the steady part of the run: from all
    /// sessions having had their first reset until no episode is left to start. Resets count as
    /// steps, and everything the run does is in it, records included. `null` where a run has no such
    /// part.
    pub cpu_steady_us_per_step: Option<f64>,
    /// The most commands that waited for their answer at once.
    pub requests_in_flight_peak: u32,
    /// The most memory this process held (resident set), in bytes.
    pub rss_peak_bytes: u64,
    /// The servers that this run started.
    pub children: Children,
    /// The most sessions that were open at once, pooled idle ones included.
    pub sessions_peak: u64,
    /// How long commands took, in milliseconds.
    pub latency_ms: LatencyMs,
    /// Episodes that failed, by cause.
    pub failures: BTreeMap<String, u64>,
    /// Sessions that were admitted by a server.
    pub sessions_built: u64,
    /// Episodes that got as far as a reset, in all attempts.
    pub attempts: u64,
    /// Attempts that failed and were followed by another.
    pub retries: u64,
    /// Retries and duplicates that did not take place because a budget was spent.
    pub budget_refusals: u64,
    /// Episodes that failed because servers died while at their task.
    pub quarantined: u64,
    /// The groups.
    pub groups: Groups,
    /// What scorers have said; `null` where there were none.
    pub scores: Option<Scores>,
    /// Sessions refused before they began.
    pub refusals: u64,
    /// Events that came too late or twice and changed nothing.
    pub ignored: u64,
    /// Records known to be kept.
    pub recorded: u64,
    /// How a replay came out, over all records of the directory; `null` where none was played.
    pub replay: Option<Replayed>,
    /// What the policy has counted, where it counts: for a language model its tokens, and how its
    /// inference engines are used.
    pub policy: BTreeMap<&'static str, f64>,
    /// How the inference engines at these URLs were spoken with in the end, where that was found out
    /// (`vllm:URL`).
    pub channels: BTreeMap<String, String>,
    /// Each server, in the order of the configuration.
    pub servers: Vec<ServerSummary>,
}

/// The requested episodes by their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Episodes {
    /// Asked for, those of oversampling and refills included.
    pub requested: u64,
    /// Those of oversampling and refills.
    pub extra: u64,
    /// Recorded by an earlier run, which this one went on with: they count nowhere else below.
    pub recorded_before: u64,
    /// The environment ended them.
    pub completed: u64,
    /// A limit ended them.
    pub truncated: u64,
    /// Every attempt failed.
    pub failed: u64,
    /// They were given up on request, or cut with their group.
    pub cancelled: u64,
    /// They were dropped with their group.
    pub filtered: u64,
}

/// The servers that a run started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Children {
    /// Their CPU time, in seconds.
    pub cpu_s: f64,
    /// The sum of the most memory each held, in bytes.
    pub rss_peak_bytes: u64,
}

/// Latencies by kind of command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencyMs {
    /// From asking for a session to its connection standing.
    pub connect: Percentiles,
    /// Resets, first ones included.
    pub reset: Percentiles,
    /// Steps.
    pub step: Percentiles,
}

/// A distribution in milliseconds; all 0 where nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Percentiles {
    /// Of a histogram of microseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: histogram.max() as f64 / 1e3 }
    }
}

/// One server at the end of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServerSummary {
    /// Its URL.
    pub url: String,
    /// The number of sessions it was seen to hold when it refused one; `null` if it never did.
    pub limit: Option<u32>,
    /// Sessions abandoned in mid-command and not yet known to be gone.
    pub ghosts: u32,
    /// Sessions it refused.
    pub refusals: u64,
    /// Failures to reach it, and sessions it lost.
    pub failures: u64,
    /// Whether it was given up for the time being.
    pub down: bool,
    /// How often it got no new sessions for a while because it did unlike its pool.
    pub ejections: u64,
}

impl Summary {
    /// The summary of a finished run. `sessions_peak` is the worker's; `recorded_before` says how many
    /// episodes an earlier run has recorded.
    #[must_use]
    pub fn new<W>(
        finished: &Finished<W>,
        sessions_peak: u64,
        children: Children,
        recorded_before: u64,
    ) -> Self {
        let counts = finished.core.counts();
        let wall_s = finished.wall.as_secs_f64();
        let meter = &finished.meter;
        let requested = counts.requested + recorded_before;
        let asked: u64 = finished.core.jobs().map(|job| job.episodes).sum();
        Self {
            episodes: Episodes {
                requested,
                extra: requested.saturating_sub(asked),
                recorded_before,
                completed: counts.completed,
                truncated: counts.truncated,
                failed: counts.failed,
                cancelled: counts.cancelled,
                filtered: counts.filtered,
            },
            steps: counts.steps,
            wall_s,
            steps_per_s: counts.steps as f64 / wall_s.max(f64::MIN_POSITIVE),
            cpu_s: cpu().as_secs_f64(),
            cpu_steady_us_per_step: meter
                .steady()
                .map(|steady| micros(steady.cpu) / steady.steps as f64),
            requests_in_flight_peak: counts.requests_in_flight_peak,
            rss_peak_bytes: rss_peak_bytes(),
            children,
            sessions_peak,
            latency_ms: LatencyMs {
                connect: Percentiles::of(&meter.connect),
                reset: Percentiles::of(&meter.reset),
                step: Percentiles::of(&meter.step),
            },
            failures: finished.failures.clone(),
            sessions_built: counts.sessions_built,
            attempts: counts.attempts,
            retries: counts.retries,
            budget_refusals: counts.budget_refusals,
            quarantined: counts.quarantined,
            groups: Groups::new(
                counts,
                finished.core.task_statistics(),
                finished.groups_written.unwrap_or(0),
            ),
            scores: None,
            refusals: counts.refusals,
            ignored: counts.ignored,
            recorded: finished.written,
            replay: None,
            policy: finished.policy.iter().copied().collect(),
            channels: finished.channels.iter().cloned().collect(),
            servers: servers(&finished.core),
        }
    }

    /// Whether every requested episode and every group has a record that is kept.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.recorded + self.episodes.recorded_before == self.episodes.requested
            && self.groups.recorded == self.groups.count()
    }
}

fn servers(core: &Core) -> Vec<ServerSummary> {
    core.servers()
        .map(|(options, status)| ServerSummary {
            url: options.name.clone(),
            limit: status.limit,
            ghosts: status.ghosts,
            refusals: status.refusals,
            failures: status.failures,
            down: status.down,
            ejections: status.ejections,
        })
        .collect()
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The most memory this process has held so far (resident set), in bytes; 0 where the system does
/// not say.
#[must_use]
pub fn rss_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
