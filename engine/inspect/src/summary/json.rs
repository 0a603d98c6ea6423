//! The summary as programs read it.

use serde_json::{Map, Value, json};

use super::{About, Summary};
use crate::{Sample, Tally};

/// The bins of the returns' histogram.
const BINS: usize = 32;

impl Summary {
    /// The summary as an object. `docs/inspect.md` describes its keys.
    #[must_use]
    pub fn json(&self, about: &About) -> Value {
        let mut ends = Map::new();
        for (end, count) in self.ends.iter() {
            let (kind, cause) = end.split_once(": ").unwrap_or((end, ""));
            ends.entry(kind).or_insert_with(|| json!({}))[cause] = count.into();
        }
        let files: Vec<_> = about
            .files
            .iter()
            .map(|file| {
                json!({"path": file.path, "form": file.form, "bytes": file.bytes,
                    "records": file.records, "problem": file.problem, "is_torn": file.is_torn})
            })
            .collect();
        let jobs: Vec<_> = about
            .jobs
            .iter()
            .map(|job| {
                json!({"name": job.name, "env": job.environments, "policy": job.policy,
                    "episodes": job.episodes})
            })
            .collect();
        let versions: Vec<_> = self
            .versions
            .iter()
            .map(|(version, tokens)| json!({"version": version, "tokens": tokens}))
            .collect();
        let mut fingerprints = Map::new();
        for ((environment, fingerprint), count) in self.fingerprints.iter() {
            let of = fingerprints.entry(environment.clone()).or_insert_with(|| json!({}));
            of[fingerprint.as_str()] = count.into();
        }
        let (rewards, tokens, groups) = (&self.step_rewards, &self.tokens, &self.groups);
        let lined = &about.group_lines;
        json!({
            "records": self.records,
            "read": about.read,
            "is_interrupted": about.is_interrupted,
            "files": files,
            "jobs": jobs,
            "ends": ends,
            "attempts": {"all": self.attempts.all, "retried": self.attempts.retried,
                "causes": tally(&self.attempts.causes)},
            "steps": self.steps,
            "lengths": sample(&self.lengths),
            "returns": {
                "scored": self.returns.count(),
                "unscored": self.unscored,
                "figures": sample(&self.returns),
                "histogram": self.returns.histogram(BINS),
            },
            "reward_components": tally(&self.components),
            "step_rewards": {"integers": rewards.integers, "floats": rewards.floats,
                "booleans": rewards.booleans, "null": rewards.nulls, "missing": rewards.missing,
                "no_numbers": rewards.others},
            "environments": tally(&self.environments),
            "servers": tally(&self.servers),
            "fingerprints": fingerprints,
            "job_ids": tally(&self.jobs),
            "tasks": tally(&self.tasks),
            "seeds": {"different": self.seeds.len(), "unseeded": self.unseeded},
            "groups": {
                "count": groups.count(),
                "members_min": groups.sizes().0,
                "members_max": groups.sizes().1,
                "scored": groups.scored(),
                "zero_variance": groups.zero_variance(),
                "begin_differently": groups.begin_differently(),
                "records_left_out": groups.left_out(),
                "lines": {"count": lined.count(), "complete": lined.complete, "short": lined.short,
                    "filtered": lined.filtered, "refilled": lined.refills,
                    "begin_differently": lined.begin_differently, "steps_used": lined.steps_used,
                    "steps_wasted": lined.steps_wasted, "filters": tally(&lined.filters)},
            },
            "tokens": {"records": tokens.records, "all": tokens.all, "prompt": tokens.prompt,
                "sampled": tokens.sampled, "trained": tokens.trained,
                "with_logprobs": tokens.with_logprobs, "generations": tokens.generations,
                "auxiliary": tokens.auxiliary, "discarded": tokens.discarded},
            "policy_versions": versions,
            "branched": self.branched,
            "episode_us": sample(&self.episode_us),
            "step_us": sample(&self.environment_us),
            "policy_us": sample(&self.policy_us),
        })
    }
}

fn sample(sample: &Sample) -> Value {
    if sample.count() == 0 {
        return Value::Null;
    }
    let [p10, p50, p90, p99] = sample.quantiles([0.1, 0.5, 0.9, 0.99]);
    json!({"count": sample.count(), "mean": sample.mean(), "sd": sample.deviation(),
        "min": sample.least(), "p10": p10, "p50": p50, "p90": p90, "p99": p99,
        "max": sample.most(), "is_exact": sample.is_exact()})
}

fn tally(tally: &Tally<String>) -> Value {
    let mut all: Map<String, Value> =
        tally.iter().map(|(name, count)| (name.clone(), count.into())).collect();
    if tally.others() > 0 {
        all.insert("others".into(), tally.others().into());
    }
    Value::Object(all)
}
