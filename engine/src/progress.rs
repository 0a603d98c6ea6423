//! How a run shows that it goes on: on standard error, never on standard output.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use envmill_core::{Counts, State};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::driver::Look;

/// How often the display on a terminal changes.
const SHOWN_EVERY: Duration = Duration::from_millis(200);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A bar on a terminal, a line now and then elsewhere, or nothing.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    next: Duration,
    steps: u64,
    at: Duration,
    model: Model,
}

impl Progress {
    /// For `episodes` episodes.
    #[must_use]
    pub fn new(episodes: u64, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(episodes), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} episodes {msg}") {
                bar.set_style(style);
            }
            bar
        });
        let next = if bar.is_some() { Duration::ZERO } else { LINE_EVERY };
        Self { bar, quiet, next, steps: 0, at: Duration::ZERO, model: Model::default() }
    }

    /// Shows how things stand, if it is time.
    pub fn show<W>(&mut self, look: &Look<'_, W>) {
        if self.quiet || look.elapsed < self.next {
            return;
        }
        let counts = look.core.counts();
        let passed = look.elapsed.saturating_sub(self.at).as_secs_f64();
        let rate = (counts.steps - self.steps) as f64 / passed.max(1e-3);
        (self.steps, self.at) = (counts.steps, look.elapsed);
        let median = look.meter.step.value_at_quantile(0.5) as f64 / 1e3;
        let p99 = look.meter.step.value_at_quantile(0.99) as f64 / 1e3;
        let mut text = format!(
            "{rate:.0} steps/s, step {median:.1} ms median {p99:.1} p99, {}",
            sessions(counts)
        );
        if counts.scoring > 0 {
            text.push_str(&format!(", {} wait for their score", counts.scoring));
        }
        if let Some(model) = self.model.show(&look.policies.numbers(), passed) {
            text.push_str(&model);
        }
        for (cause, count) in look.failures {
            text.push_str(&format!(", {count} failed ({cause})"));
        }
        if let Some(bar) = &self.bar {
            // Tasks say how many there are only once they are known.
            bar.set_length(counts.requested);
            bar.set_position(counts.recorded());
            bar.set_message(text);
            self.next = look.elapsed + SHOWN_EVERY;
        } else {
            let recorded = counts.recorded();
            say(&format!("{recorded}/{} episodes, {text}", counts.requested));
            self.next = look.elapsed + LINE_EVERY;
        }
    }

    /// Takes the display away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Lines that stay, and one that moves where there is a terminal.
#[derive(Debug)]
pub(crate) struct Showing {
    spinner: Option<ProgressBar>,
    quiet: bool,
}

impl Showing {
    /// Shows nothing if `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let spinner = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                spinner.set_style(style);
            }
            spinner
        });
        Self { spinner, quiet }
    }

    /// A line that stays.
    pub(crate) fn line(&mut self, line: &str) {
        match &self.spinner {
            _ if self.quiet => {}
            Some(spinner) => spinner.suspend(|| say(line)),
            None => say(line),
        }
    }

    /// What the moving line says now.
    pub(crate) fn moves(&mut self, text: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(text.to_owned());
            spinner.tick();
        }
    }

    /// Takes the moving line away.
    pub(crate) fn clear(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// How a language model does, since the last look.
#[derive(Debug, Default)]
struct Model {
    sampled_tokens: f64,
    prompt_tokens: f64,
    cached_tokens: f64,
}

impl Model {
    fn show(&mut self, numbers: &[(&'static str, f64)], passed: f64) -> Option<String> {
        let get = |name| numbers.iter().find(|it| it.0 == name).map_or(0.0, |it| it.1);
        let sampled = numbers.iter().find(|it| it.0 == "sampled_tokens")?.1;
        let (prompt, cached) = (get("prefix_queries"), get("prefix_hits"));
        let rate = (sampled - self.sampled_tokens) / passed.max(1e-3);
        let share = (cached - self.cached_tokens) / (prompt - self.prompt_tokens).max(1.0);
        let first = self.prompt_tokens == 0.0;
        *self = Self { sampled_tokens: sampled, prompt_tokens: prompt, cached_tokens: cached };
        let mut text = format!(", {rate:.0} tokens/s, {:.0} turns at the model", get("under_way"));
        if get("inference_waiting") > 0.0 {
            text.push_str(&format!(" ({:.0} queued)", get("inference_waiting")));
        }
        if get("replicas") > 0.0 && get("replicas_ready") == 0.0 {
            text.push_str(", NO INFERENCE ENGINE ANSWERS");
        }
        if prompt > 0.0 && !first {
            text.push_str(&format!(", {:.0} % of prompts cached", share.clamp(0.0, 1.0) * 100.0));
        }
        Some(text)
    }
}

fn sessions(counts: &Counts) -> String {
    let shown = [
        (State::Opening, "opening"),
        (State::Resetting, "resetting"),
        (State::Stepping, "stepping"),
        (State::Paused, "held back"),
    ];
    let shown = shown.map(|(state, name)| (counts.in_state(state), name));
    // Held back is what a busy server has only while it builds sessions.
    let shown: Vec<String> = shown
        .into_iter()
        .filter(|(count, name)| *count > 0 || *name != "held back")
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    format!("{} sessions ({})", counts.sessions, shown.join(", "))
}

/// A line on standard error. One that cannot be written is not worth ending for.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
