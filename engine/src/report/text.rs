//! The summary as people read it.

use std::fmt;

use crate::{
    replay::Replayed,
    report::{Percentiles, Summary, TaskFigures},
};

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let episodes = &self.episodes;
        writeln!(
            f,
            "episodes   {} requested: {} completed, {} truncated, {} failed, {} cancelled",
            episodes.requested,
            episodes.completed,
            episodes.truncated,
            episodes.failed,
            episodes.cancelled
        )?;
        if episodes.recorded_before > 0 {
            writeln!(f, "resumed    {} were recorded before", episodes.recorded_before)?;
        }
        writeln!(
            f,
            "steps      {} in {:.2} s: {:.0} steps/s",
            self.steps, self.wall_s, self.steps_per_s
        )?;
        writeln!(
            f,
            "sessions   {} built for {} attempts, {} open at the peak, {} refused",
            self.sessions_built, self.attempts, self.sessions_peak, self.refusals
        )?;
        for (name, percentiles) in [
            ("connect", &self.latency_ms.connect),
            ("reset", &self.latency_ms.reset),
            ("step", &self.latency_ms.step),
        ] {
            let Percentiles { p50, p90, p99, max } = percentiles;
            writeln!(f, "{name:<10} {p50:.2} ms median, {p90:.2} p90, {p99:.2} p99, {max:.2} max")?;
        }
        write!(f, "cpu        {:.2} s of this process", self.cpu_s)?;
        if let Some(steady) = self.cpu_steady_us_per_step {
            write!(f, ", {steady:.1} µs a step")?;
        }
        write!(f, "; memory {} at the peak", mebibytes(self.rss_peak_bytes))?;
        if self.children.rss_peak_bytes > 0 {
            write!(
                f,
                "\nservers    {:.2} s of CPU, memory {} at the peak",
                self.children.cpu_s,
                mebibytes(self.children.rss_peak_bytes)
            )?;
        }
        if let Some(text) = super::model::text(&self.policy, self.wall_s) {
            write!(f, "\nmodel      {text}")?;
        }
        for (url, channel) in &self.channels {
            write!(f, "\nchannel    {url} over {channel}")?;
        }
        for server in self.servers.iter().filter(|server| server.limit.is_some()) {
            let limit = server.limit.unwrap_or_default();
            write!(f, "\nlimit      {} holds {limit} sessions", server.url)?;
        }
        if let Some(scores) = &self.scores {
            write!(f, "\nscores     {scores}")?;
        }
        let groups = &self.groups;
        if groups.count() > 0 {
            write!(
                f,
                "\ngroups     {} complete, {} short, {} filtered ({} refilled), {} members cut",
                groups.complete, groups.short, groups.filtered, groups.refilled, groups.cut
            )?;
        }
        if let Some(TaskFigures { kept_length: Some(kept), cut_length: Some(cut), .. }) =
            groups.tasks.as_ref().map(|tasks| &tasks.all)
        {
            write!(f, "\nlengths    {kept:.1} steps kept on average, {cut:.1} where cut")?;
        }
        if groups.first_observations_differ > 0 {
            write!(
                f,
                "\nseeds      {} groups began differently under one seed: the server may drop it",
                groups.first_observations_differ
            )?;
        }
        for server in self.servers.iter().filter(|server| server.ejections > 0) {
            write!(f, "\nejected    {} × {}", server.ejections, server.url)?;
        }
        if self.budget_refusals > 0 {
            write!(
                f,
                "\nbudget     {} failures were not tried again: see --retry-budget",
                self.budget_refusals
            )?;
        }
        if let Some(replay) = &self.replay {
            let Replayed { matched, differed, missing } = replay;
            write!(f, "\nreplay     {matched} matched, {differed} differed, {missing} missing")?;
        }
        for (cause, count) in &self.failures {
            write!(f, "\nfailed     {count} × {cause}")?;
        }
        Ok(())
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}
