//! Running one stage after another, timing each, and telling how it went.

use std::{
    fmt::Write as _,
    io::{Write as _, stderr, stdout},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::cargo::Counts;

/// The stages run so far.
pub(crate) struct Stages {
    done: Vec<(&'static str, Duration)>,
    failed: Vec<&'static str>,
    counts: Option<Counts>,
}

impl Stages {
    pub(crate) const fn new() -> Self {
        Self { done: Vec::new(), failed: Vec::new(), counts: None }
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

    /// The verdict: minutes per stage, and last the counts.
    pub(crate) fn finish(self) -> Result<()> {
        self.report()
    }

    fn timed<T>(&mut self, name: &'static str, run: impl FnOnce() -> Result<T>) -> Option<T> {
        say(&format!("=== {name}"));
        let start = Instant::now();
        let outcome = run();
        self.done.push((name, start.elapsed()));
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
        let mut text = String::from("\n=== minutes per stage\n");
        for (name, took) in &self.done {
            let verdict = if self.failed.contains(name) { "  FAILED" } else { "" };
            let _ = writeln!(text, "{name:>10} {:6.1}{verdict}", took.as_secs_f64() / 60.0);
        }
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        let _ = writeln!(text, "{:>10} {:6.1}", "total", total.as_secs_f64() / 60.0);
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
