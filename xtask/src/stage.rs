//! Running one stage after another, timing each, and telling how it went.

use std::{
    fmt::Write as _,
    io::{Write as _, stderr, stdout},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::cargo::{Counts, root};

/// A stage that was run: how long it took, and the gigabytes that the disk had left after it.
struct Done {
    name: &'static str,
    took: Duration,
    disk_left: Option<f64>,
}

/// The stages run so far.
pub(crate) struct Stages {
    done: Vec<Done>,
    skipped: Vec<(&'static str, String)>,
    failed: Vec<&'static str>,
    counts: Option<Counts>,
}

impl Stages {
    pub(crate) const fn new() -> Self {
        Self { done: Vec::new(), skipped: Vec::new(), failed: Vec::new(), counts: None }
    }

    /// Runs a stage; if it fails, those after it still run.
    pub(crate) fn stage(&mut self, name: &'static str, run: impl FnOnce() -> Result<()>) {
        // The failure is remembered, and comes out of `finish`.
        let _ = self.timed(name, run);
    }

    /// Runs a stage without which those after it make no sense.
    pub(crate) fn essential(
        &mut self,
        name: &'static str,
        run: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        match self.timed(name, run) {
            Some(()) => Ok(()),
            None => self.report(),
        }
    }

    /// Runs tests and adds their counts to those so far.
    pub(crate) fn tests(&mut self, name: &'static str, run: impl FnOnce() -> Result<Counts>) {
        let counts = self.timed(name, run).unwrap_or_default();
        self.counts = Some(self.counts.map_or(counts, |before| before.and(counts)));
        if !counts.succeeded && !self.failed.contains(&name) {
            self.failed.push(name);
        }
    }

    /// Tells that this machine has not what a stage needs.
    pub(crate) fn skip(&mut self, name: &'static str, why: String) {
        say(&format!("=== {name}\nskipped: {why}"));
        self.skipped.push((name, why));
    }

    /// The verdict: minutes per stage, and last the counts.
    pub(crate) fn finish(self) -> Result<()> {
        self.report()
    }

    fn timed<T>(&mut self, name: &'static str, run: impl FnOnce() -> Result<T>) -> Option<T> {
        say(&format!("=== {name}"));
        let start = Instant::now();
        let outcome = run();
        self.done.push(Done { name, took: start.elapsed(), disk_left: disk_left() });
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                say_error(&format!("{name} failed: {error:#}"));
                self.failed.push(name);
                None
            }
        }
    }

    fn report(&self) -> Result<()> {
        let mut text =
            String::from("\n=== minutes per stage, and GB that the disk had left after it\n");
        for Done { name, took, disk_left } in &self.done {
            let left = disk_left.map_or_else(String::new, |left| format!("{left:8.1}"));
            let verdict = if self.failed.contains(name) { "  FAILED" } else { "" };
            let _ = writeln!(text, "{name:>10} {:6.1}{left}{verdict}", took.as_secs_f64() / 60.0);
        }
        let total: Duration = self.done.iter().map(|it| it.took).sum();
        let _ = writeln!(text, "{:>10} {:6.1}", "total", total.as_secs_f64() / 60.0);
        for (name, why) in &self.skipped {
            let _ = writeln!(text, "{name:>10} skipped: {why}");
        }
        if let Some(counts) = self.counts {
            let _ = write!(text, "\n{counts}");
        }
        say(text.trim_end());
        if self.failed.is_empty() {
            return Ok(());
        }
        bail!("failed: {}", self.failed.join(", "))
    }
}

/// Gigabytes left on the checkout's disk, if `df` knows.
pub(crate) fn disk_left() -> Option<f64> {
    let output = Command::new("df").args(["-Pk", "."]).current_dir(root()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let kib: f64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib * 1024.0 / 1e9)
}

/// Prints a line for whoever called the action.
pub(crate) fn say(text: &str) {
    // A reader who has gone away does not stop a build.
    let _ = writeln!(stdout(), "{text}");
    let _ = stdout().flush();
}

/// Prints a line about what went wrong.
pub(crate) fn say_error(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}
