//! The summary as people read it.

use std::fmt::Write as _;

use super::{About, Summary};
use crate::{
    Paint, Sample, Tally, escaped,
    text::{counted, number, time},
};

/// So many names of one kind are listed.
const NAMES_MAX: usize = 8;
/// The width of a histogram.
const BINS: usize = 32;

impl Summary {
    /// Lines for people, each with its end. What came from outside is escaped.
    #[must_use]
    pub fn text(&self, about: &About, paint: Paint) -> String {
        let mut lines = Lines { text: String::new(), paint };
        self.files(&mut lines, about);
        if self.records > 0 {
            self.ends(&mut lines);
            self.play(&mut lines);
            self.rewards(&mut lines);
            self.places(&mut lines);
            self.groups(&mut lines, about);
            self.model(&mut lines);
            self.times(&mut lines);
        }
        lines.text
    }

    fn files(&self, lines: &mut Lines, about: &About) {
        let bytes = about.files.iter().map(|file| file.bytes).sum();
        let mut forms: Vec<_> = about.files.iter().map(|file| file.form).collect();
        forms.dedup();
        let mut text = if self.records == 0 { "none".to_owned() } else { self.records.to_string() };
        if self.records < about.read {
            let _ = write!(text, " of {}", about.read);
        }
        if !about.files.is_empty() {
            let files = counted(about.files.len() as u64, "file");
            let _ = write!(text, " in {files} ({}), {}", forms.join(", "), size(bytes));
        }
        lines.add("records", &text);
        for job in about.jobs.iter().take(NAMES_MAX) {
            let asked = job.episodes.map_or_else(String::new, |it| format!("{it} episodes of "));
            let played = job.environments.join(", ");
            let text = format!("{}: {asked}{played}, played by {}", job.name, job.policy);
            lines.add("job", &escaped(&text));
        }
        if about.jobs.len() > NAMES_MAX {
            lines.add("", &format!("and {} more", about.jobs.len() - NAMES_MAX));
        }
        for file in &about.files {
            let Some(problem) = &file.problem else { continue };
            let text =
                format!("{}: {problem}; {} before it", file.path, counted(file.records, "record"));
            lines.shout(if file.is_torn { "torn" } else { "DAMAGED" }, &escaped(&text));
        }
        if about.is_interrupted {
            lines.shout("cut", "interrupted: these are the records that were read until then");
        }
    }

    fn ends(&self, lines: &mut Lines) {
        for (end, count) in self.ends.most_frequent() {
            let text = format!("{count} {}", escaped(end));
            if end.starts_with("failed") {
                lines.shout("ended", &text);
            } else {
                lines.add("ended", &text);
            }
        }
        let attempts = &self.attempts;
        if attempts.retried > 0 {
            let retried = counted(attempts.retried, "episode");
            let text = format!(
                "{} for {retried} with more than one: {}",
                attempts.all,
                names(&attempts.causes)
            );
            lines.add("attempts", &text);
        }
    }

    fn play(&self, lines: &mut Lines) {
        lines.add("steps", &self.steps.to_string());
        lines.add("lengths", &figures(&self.lengths, |it| format!("{it:.0}")));
        lines.histogram(&self.lengths);
        if self.returns.count() > 0 {
            lines.add("returns", &figures(&self.returns, number));
            lines.histogram(&self.returns);
        }
    }

    fn rewards(&self, lines: &mut Lines) {
        if self.unscored > 0 {
            let text =
                format!("{} without a reward, which is not 0", counted(self.unscored, "episode"));
            lines.add("unscored", &text);
        }
        let it = &self.step_rewards;
        let kinds = [
            (it.integers, "integers"),
            (it.floats, "floats"),
            (it.booleans, "booleans"),
            (it.nulls, "null"),
            (it.missing, "missing"),
            (it.others, "no numbers"),
        ];
        let kinds: Vec<_> = kinds
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, kind)| format!("{count} {kind}"))
            .collect();
        if !kinds.is_empty() {
            lines.add("rewards", &format!("of steps: {}", kinds.join(", ")));
        }
        if !self.components.is_empty() {
            lines.add("components", &names(&self.components));
        }
    }

    fn places(&self, lines: &mut Lines) {
        for (name, tally) in [("played", &self.environments), ("servers", &self.servers)] {
            if !tally.is_empty() {
                lines.add(name, &names(tally));
            }
        }
        let mut before: Option<&str> = None;
        for ((environment, fingerprint), count) in self.fingerprints.iter() {
            let of: Vec<_> =
                self.fingerprints.iter().filter(|((it, _), _)| it == environment).collect();
            if of.len() == 1 {
                let text = format!("{count} × {}", crate::folded(fingerprint, Some(100)));
                lines.add("fingerprint", &text);
            } else if before != Some(environment) {
                let all: Vec<_> = of
                    .iter()
                    .take(NAMES_MAX)
                    .map(|((_, it), count)| format!("{count} × {}", crate::folded(it, Some(100))))
                    .collect();
                let text = format!(
                    "{} DIFFERENT ONES: {} has changed: {}",
                    of.len(),
                    crate::folded(environment, Some(100)),
                    all.join(", ")
                );
                lines.shout("fingerprint", &text);
            }
            before = Some(environment);
        }
        let seeds = self.seeds.len() as u64;
        let more = if self.seeds_left_out > 0 { "at least " } else { "" };
        let mut text = format!("{more}{}", counted(seeds, "seed"));
        if self.unseeded > 0 {
            let _ = write!(text, ", {} without one", counted(self.unseeded, "episode"));
        }
        lines.add("seeds", &text);
        if !self.tasks.is_empty() {
            let text = format!("{}: {}", self.tasks.len(), names(&self.tasks));
            lines.add("tasks", &text);
        }
    }

    fn groups(&self, lines: &mut Lines, about: &About) {
        let groups = &self.groups;
        if groups.count() > 0 {
            let (least, most) = groups.sizes();
            let members =
                if least == most { most.to_string() } else { format!("{least} to {most}") };
            let mut text = format!("{} of {members} members", groups.count());
            if groups.scored() > 0 {
                let (flat, scored) = (groups.zero_variance(), groups.scored());
                let percent = 100.0 * flat as f64 / scored as f64;
                let _ = write!(
                    text,
                    "; {flat} of {scored} scored ones have zero variance ({percent:.0} %)"
                );
            }
            lines.add("groups", &text);
            if groups.left_out() > 0 {
                let text = format!(
                    "{} of further groups not looked at",
                    counted(groups.left_out(), "record")
                );
                lines.add("", &text);
            }
        }
        if groups.begin_differently() > 0 {
            let text = format!(
                "{} began differently under one seed: the server may drop it",
                counted(groups.begin_differently(), "group")
            );
            lines.shout("seeds", &text);
        }
        let lined = &about.group_lines;
        if lined.count() > 0 {
            let text = format!(
                "{} complete, {} short, {} filtered ({} refilled); {} steps used, {} wasted",
                lined.complete,
                lined.short,
                lined.filtered,
                lined.refills,
                lined.steps_used,
                lined.steps_wasted
            );
            lines.add("outcomes", &text);
        }
    }

    fn model(&self, lines: &mut Lines) {
        let tokens = &self.tokens;
        if tokens.records > 0 || tokens.generations > 0 {
            let text = format!(
                "{} sampled, {} trained on; {} in conversations, {} of them prompt",
                tokens.sampled, tokens.trained, tokens.all, tokens.prompt
            );
            lines.add("tokens", &text);
            let text =
                format!("known of {} of {} conversations", tokens.with_logprobs, tokens.records);
            lines.add("logprobs", &text);
            let mut text = tokens.generations.to_string();
            if tokens.auxiliary + tokens.discarded > 0 {
                let _ = write!(
                    text,
                    ", {} auxiliary, {} discarded",
                    tokens.auxiliary, tokens.discarded
                );
            }
            lines.add("generated", &text);
        }
        if self.branched > 0 {
            let text =
                format!("{} on a branch of their conversation", counted(self.branched, "episode"));
            lines.add("branches", &text);
        }
        if !self.versions.is_empty() {
            let versions: Vec<_> = self
                .versions
                .iter()
                .map(|(version, tokens)| match tokens {
                    0 => self::version(*version),
                    tokens => format!("{} ({tokens} tokens)", self::version(*version)),
                })
                .collect();
            let shown = versions.len().min(NAMES_MAX);
            let mut text = versions[..shown].join(", ");
            if versions.len() > shown {
                let _ = write!(
                    text,
                    ", … {} in all, to {}",
                    versions.len(),
                    versions[versions.len() - 1]
                );
            }
            lines.add("versions", &text);
        }
    }

    fn times(&self, lines: &mut Lines) {
        for (name, sample) in [
            ("episode", &self.episode_us),
            ("step", &self.environment_us),
            ("policy", &self.policy_us),
        ] {
            if sample.count() == 0 || sample.most() <= 0.0 {
                continue;
            }
            let [p50, p90, p99] = sample.quantiles([0.5, 0.9, 0.99]).map(time);
            let most = time(sample.most());
            lines.add(name, &format!("{p50} median, {p90} p90, {p99} p99, {most} max"));
        }
    }
}

struct Lines {
    text: String,
    paint: Paint,
}

impl Lines {
    fn add(&mut self, name: &str, text: &str) {
        let _ = writeln!(self.text, "{} {text}", self.paint.strong(format_args!("{name:<11}")));
    }

    fn shout(&mut self, name: &str, text: &str) {
        let (name, text) = (self.paint.bad(format_args!("{name:<11}")), self.paint.bad(text));
        let _ = writeln!(self.text, "{name} {text}");
    }

    fn histogram(&mut self, sample: &Sample) {
        let line = sample.line(BINS);
        if !line.is_empty() {
            let (least, most) = (number(sample.least()), number(sample.most()));
            self.add("", &format!("{least} {} {most}", self.paint.good(line)));
        }
    }
}

fn figures(sample: &Sample, shown: impl Fn(f64) -> String) -> String {
    let [p10, p50, p90] = sample.quantiles([0.1, 0.5, 0.9]).map(&shown);
    let (mean, deviation) = (number(sample.mean()), number(sample.deviation()));
    let (least, most) = (shown(sample.least()), shown(sample.most()));
    let about = if sample.is_exact() { "" } else { "about " };
    format!(
        "mean {mean}, sd {deviation}; min {least}, p10 {about}{p10}, median {about}{p50}, p90 \
         {about}{p90}, max {most}"
    )
}

/// The most frequent names with their counts, escaped.
fn names(tally: &Tally<String>) -> String {
    let all = tally.most_frequent();
    let mut text: Vec<String> = all
        .iter()
        .take(NAMES_MAX)
        .map(|(name, count)| format!("{count} × {}", crate::folded(name, Some(100))))
        .collect();
    if all.len() > NAMES_MAX {
        let rest: u64 = all[NAMES_MAX..].iter().map(|(_, count)| count).sum();
        text.push(format!("{} × others", rest + tally.others()));
    }
    text.join(", ")
}

/// A policy version as `--policy-version` takes it.
fn version(version: u64) -> String {
    let version = envmill_protocol::PolicyVersion(version);
    match version.lineage() {
        0 => version.step().to_string(),
        lineage => format!("{lineage}:{}", version.step()),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}
