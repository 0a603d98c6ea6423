//! What many records come to.

mod about;
mod json;
mod text;

use std::collections::HashSet;

use envmill_protocol::{GeneratedKind, Observed, PolicyVersion, Trajectory};

pub use self::about::{About, FileAbout, GroupLines, JobAbout};
use crate::{Groups, Sample, Tally};

/// So many seeds are told apart.
const SEEDS_MAX: usize = 1 << 20;

/// What many records come to, in bounded memory: [`add`](Self::add) takes them one by one.
/// [`text`](Self::text) is for people, [`json`](Self::json) for programs (`docs/inspect.md` has its keys).
#[derive(Clone, Debug, Default)]
pub struct Summary {
    records: u64,
    /// By kind and cause.
    ends: Tally<String>,
    steps: u64,
    lengths: Sample,
    returns: Sample,
    unscored: u64,
    components: Tally<String>,
    step_rewards: StepRewards,
    episode_us: Sample,
    environment_us: Sample,
    policy_us: Sample,
    attempts: Attempts,
    environments: Tally<String>,
    servers: Tally<String>,
    /// By environment.
    fingerprints: Tally<(String, String)>,
    jobs: Tally<String>,
    tasks: Tally<String>,
    seeds: HashSet<u64>,
    seeds_left_out: u64,
    unseeded: u64,
    groups: Groups,
    tokens: Tokens,
    /// Sampled tokens by the version that sampled them; episodes by the version that they began with
    /// where no tokens are known.
    versions: Tally<u64>,
    branched: u64,
}

/// What stood where a reward belongs, of resets and steps.
#[derive(Clone, Debug, Default)]
struct StepRewards {
    integers: u64,
    floats: u64,
    booleans: u64,
    nulls: u64,
    missing: u64,
    others: u64,
}

#[derive(Clone, Debug, Default)]
struct Attempts {
    all: u64,
    /// Episodes with more than one.
    retried: u64,
    causes: Tally<String>,
}

#[derive(Clone, Debug, Default)]
struct Tokens {
    /// Records with tokens.
    records: u64,
    all: u64,
    prompt: u64,
    sampled: u64,
    trained: u64,
    with_logprobs: u64,
    generations: u64,
    auxiliary: u64,
    discarded: u64,
}

impl Summary {
    /// Takes a record into account.
    pub fn add(&mut self, record: &Trajectory) {
        self.records += 1;
        let end = format!("{}: {}", record.end.name(), record.end.cause());
        self.ends.add(&end, 1);
        self.steps += record.steps.len() as u64;
        self.lengths.add(record.steps.len() as f64);
        match record.reward {
            Some(reward) => self.returns.add(reward),
            None => self.unscored += 1,
        }
        for (name, _) in &record.reward_components {
            self.components.add(name, 1);
        }
        if let Some(reset) = &record.reset {
            self.step_rewards.add(reset, true);
        }
        for step in &record.steps {
            self.step_rewards.add(&step.observed, false);
            self.environment_us.add(f64::from(step.environment_us));
            self.policy_us.add(f64::from(step.policy_us));
        }
        let timing = &record.timing;
        if timing.ended_us > 0 && !record.attempts.is_empty() {
            self.episode_us.add(timing.ended_us.saturating_sub(timing.started_us) as f64);
        }
        self.attempts.add(record);
        self.add_places(record);
        self.groups.add(record);
        self.tokens.add(record);
        self.add_versions(record);
        let forks = record.branch_id > 0 || record.parent_branch.is_some();
        self.branched += u64::from(forks);
    }

    /// How many records there were.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    fn add_places(&mut self, record: &Trajectory) {
        let provenance = &record.provenance;
        for (tally, name) in [
            (&mut self.environments, &record.environment),
            (&mut self.servers, &provenance.server),
            (&mut self.jobs, &record.job_id),
            (&mut self.tasks, &record.task_id),
        ] {
            if !name.is_empty() {
                tally.add(name, 1);
            }
        }
        if !provenance.environment_fingerprint.is_empty() {
            let fingerprint = &provenance.environment_fingerprint;
            self.fingerprints.add(&(record.environment.clone(), fingerprint.clone()), 1);
        }
        match record.seed {
            None => self.unseeded += 1,
            Some(seed) if self.seeds.len() < SEEDS_MAX || self.seeds.contains(&seed) => {
                self.seeds.insert(seed);
            }
            Some(_) => self.seeds_left_out += 1,
        }
    }

    fn add_versions(&mut self, record: &Trajectory) {
        let agents = record.generations.iter().filter(|it| it.kind == GeneratedKind::Agent);
        let mut spans = agents.flat_map(|it| &it.policy_versions).peekable();
        if spans.peek().is_some() {
            for span in spans {
                self.versions.add(&span.version.0, u64::from(span.tokens));
            }
        } else if record.tokens.token_ids.is_empty() {
            let PolicyVersion(version) = record.timing.policy_version_started;
            if version > 0 {
                self.versions.add(&version, 0);
            }
        } else {
            for span in &record.tokens.policy_versions {
                self.versions.add(&span.version.0, u64::from(span.tokens));
            }
        }
    }
}

impl StepRewards {
    fn add(&mut self, observed: &Observed, is_reset: bool) {
        let raw = &observed.reward.raw;
        // A reset rewards nobody in most environments: that it says nothing says nothing.
        if is_reset && observed.reward.value.is_none() {
            return;
        }
        *match (raw.first(), observed.reward.value) {
            (None, _) => &mut self.missing,
            (Some(b'n'), _) => &mut self.nulls,
            (Some(b't' | b'f'), _) => &mut self.booleans,
            (Some(_), Some(_)) if raw.iter().any(|byte| b".eE".contains(byte)) => &mut self.floats,
            (Some(_), Some(_)) => &mut self.integers,
            (Some(_), None) => &mut self.others,
        } += 1;
    }
}

impl Attempts {
    fn add(&mut self, record: &Trajectory) {
        self.all += record.attempts.len() as u64;
        self.retried += u64::from(record.attempts.len() > 1);
        for attempt in record.attempts.iter().filter(|attempt| !attempt.cause.is_empty()) {
            self.causes.add(&attempt.cause, 1);
        }
    }
}

impl Tokens {
    fn add(&mut self, record: &Trajectory) {
        for it in &record.generations {
            self.generations += 1;
            self.auxiliary += u64::from(it.kind == GeneratedKind::Auxiliary);
            self.discarded += u64::from(it.kind == GeneratedKind::Discarded);
            self.sampled += it.token_ids.len() as u64;
        }
        let tokens = &record.tokens;
        if tokens.token_ids.is_empty() {
            return;
        }
        let trained = tokens.loss_mask.iter().filter(|mask| **mask > 0).count() as u64;
        if record.generations.is_empty() {
            self.sampled += trained;
        }
        self.records += 1;
        self.all += tokens.token_ids.len() as u64;
        self.prompt += u64::from(tokens.prompt_len);
        self.trained += trained;
        self.with_logprobs += u64::from(tokens.logprobs.len() == tokens.token_ids.len());
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::{
        Paint,
        testing::{cartpole, changed, conversation},
    };

    fn summary() -> (Summary, About) {
        let mut summary = Summary::default();
        summary.add(&conversation());
        summary.add(&cartpole());
        summary.add(&changed(|it| {
            it["trajectory_id"] = json!("maze-3-0");
            it["reward"] = json!(-2);
            it["provenance"]["environment_fingerprint"] = json!("\u{1b}[31mother");
            it["reset"]["observation"]["text"] = json!("a door");
            it["end"] = json!({"kind": "failed", "cause": "disconnected", "message": "gone",
                "session_lost": true});
        }));
        let about = About {
            files: vec![FileAbout {
                path: "run/trajectories.jsonl".into(),
                form: "jsonl",
                bytes: 12_345,
                records: 4,
                problem: Some("the last line is not whole".into()),
                is_torn: true,
            }],
            read: 4,
            ..About::default()
        };
        (summary, about)
    }

    #[test]
    fn people_read_what_records_come_to() {
        let (summary, about) = summary();
        expect![[r#"
            records     3 of 4 in 1 file (jsonl), 12.1 KiB
            torn        run/trajectories.jsonl: the last line is not whole; 4 records before it
            ended       1 completed: terminated
            ended       1 failed: disconnected
            ended       1 truncated: max_steps
            attempts    5 for 2 episodes with more than one: 2 × disconnected
            steps       5
            lengths     mean 1.6667, sd 0.5774; min 1, p10 1, median 2, p90 2, max 2
                        1 ▄                              █ 2
            returns     mean -0.75, sd 1.7678; min -2, p10 -2, median -2, p90 0.5, max 0.5
                        -2 █                              █ 0.5
            unscored    1 episode without a reward, which is not 0
            rewards     of steps: 2 integers, 2 floats, 1 null
            components  2 × door, 2 × wall
            played      2 × maze, 1 × native:cartpole
            servers     2 × ws://10.0.0.7:8000, 1 × native:cartpole
            fingerprint 2 DIFFERENT ONES: maze has changed: 1 × \x1b[31mother, 1 × 9f2c61d0
            fingerprint 1 × 00aa11bb
            seeds       2 seeds
            tasks       1: 2 × corridor
            groups      1 of 2 members
            seeds       1 group began differently under one seed: the server may drop it
            tokens      12 sampled, 12 trained on; 20 in conversations, 6 of them prompt
            logprobs    known of 2 of 2 conversations
            generated   4
            versions    12 (12 tokens)
            episode     269.78 ms median, 269.78 ms p90, 269.78 ms p99, 269.78 ms max
            step        5.12 ms median, 5.12 ms p90, 5.12 ms p99, 5.12 ms max
            policy      80.21 ms median, 80.21 ms p90, 80.21 ms p99, 80.21 ms max
        "#]]
        .assert_eq(&summary.text(&about, Paint::default()));
        assert_eq!(
            Summary::default().text(&About::default(), Paint::default()),
            "records     none\n"
        );
    }

    #[test]
    fn programs_read_it_too() {
        let (summary, about) = summary();
        expect![[r#"
            {
              "attempts": {
                "all": 5,
                "causes": {
                  "disconnected": 2
                },
                "retried": 2
              },
              "branched": 0,
              "ends": {
                "completed": {
                  "terminated": 1
                },
                "failed": {
                  "disconnected": 1
                },
                "truncated": {
                  "max_steps": 1
                }
              },
              "environments": {
                "maze": 2,
                "native:cartpole": 1
              },
              "episode_us": {
                "count": 3,
                "is_exact": true,
                "max": 269780.0,
                "mean": 269780.0,
                "min": 269780.0,
                "p10": 269780.0,
                "p50": 269780.0,
                "p90": 269780.0,
                "p99": 269780.0,
                "sd": 0.0
              },
              "files": [
                {
                  "bytes": 12345,
                  "form": "jsonl",
                  "is_torn": true,
                  "path": "run/trajectories.jsonl",
                  "problem": "the last line is not whole",
                  "records": 4
                }
              ],
              "fingerprints": {
                "maze": {
                  "\u001b[31mother": 1,
                  "9f2c61d0": 1
                },
                "native:cartpole": {
                  "00aa11bb": 1
                }
              },
              "groups": {
                "begin_differently": 1,
                "count": 1,
                "lines": {
                  "begin_differently": 0,
                  "complete": 0,
                  "count": 0,
                  "filtered": 0,
                  "filters": {},
                  "refilled": 0,
                  "short": 0,
                  "steps_used": 0,
                  "steps_wasted": 0
                },
                "members_max": 2,
                "members_min": 2,
                "records_left_out": 0,
                "scored": 0,
                "zero_variance": 0
              },
              "is_interrupted": false,
              "job_ids": {
                "cart": 1,
                "maze": 2
              },
              "jobs": [],
              "lengths": {
                "count": 3,
                "is_exact": true,
                "max": 2.0,
                "mean": 1.6666666666666667,
                "min": 1.0,
                "p10": 1.0,
                "p50": 2.0,
                "p90": 2.0,
                "p99": 2.0,
                "sd": 0.5773502691896257
              },
              "policy_us": {
                "count": 5,
                "is_exact": true,
                "max": 80210.0,
                "mean": 78250.0,
                "min": 75310.0,
                "p10": 75310.0,
                "p50": 80210.0,
                "p90": 80210.0,
                "p99": 80210.0,
                "sd": 2683.840531775313
              },
              "policy_versions": [
                {
                  "tokens": 12,
                  "version": 12
                }
              ],
              "read": 4,
              "records": 3,
              "returns": {
                "figures": {
                  "count": 2,
                  "is_exact": true,
                  "max": 0.5,
                  "mean": -0.75,
                  "min": -2.0,
                  "p10": -2.0,
                  "p50": -2.0,
                  "p90": 0.5,
                  "p99": 0.5,
                  "sd": 1.7677669529663689
                },
                "histogram": [
                  1,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  0,
                  1
                ],
                "scored": 2,
                "unscored": 1
              },
              "reward_components": {
                "door": 2,
                "wall": 2
              },
              "seeds": {
                "different": 2,
                "unseeded": 0
              },
              "servers": {
                "native:cartpole": 1,
                "ws://10.0.0.7:8000": 2
              },
              "step_rewards": {
                "booleans": 0,
                "floats": 2,
                "integers": 2,
                "missing": 0,
                "no_numbers": 0,
                "null": 1
              },
              "step_us": {
                "count": 5,
                "is_exact": true,
                "max": 5120.0,
                "mean": 5020.0,
                "min": 4870.0,
                "p10": 4870.0,
                "p50": 5120.0,
                "p90": 5120.0,
                "p99": 5120.0,
                "sd": 136.93063937629148
              },
              "steps": 5,
              "tasks": {
                "corridor": 2
              },
              "tokens": {
                "all": 20,
                "auxiliary": 0,
                "discarded": 0,
                "generations": 4,
                "prompt": 6,
                "records": 2,
                "sampled": 12,
                "trained": 12,
                "with_logprobs": 2
              }
            }"#]]
        .assert_eq(&format!("{:#}", summary.json(&about)));
    }
}
