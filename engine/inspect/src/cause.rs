//! What a difference may come from.

use envmill_protocol::{FailureKind, Trajectory, record::End};

use crate::{Comparison, Difference};

/// What most likely makes an episode come out differently when it is played again. It is a guess from two
/// plays, and the order of the variants is that in which they are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The episode could not be played: nothing is known about it.
    NotPlayed,
    /// The server says otherwise about its environment than it did.
    EnvironmentChanged,
    /// The environment refuses, or breaks, where it did not.
    Fails,
    /// The first observation differs though a seed was given: it is dropped, or something of the
    /// server's own is shown.
    SeedDropped,
    /// The first observation differs, and no seed was given.
    Unseeded,
    /// All else is the same, but rewards are not.
    RewardOnly,
    /// All else is the same, but metadata is not.
    MetadataOnly,
    /// What was shown is the same, and the end came at another time or in another way.
    End,
    /// It began alike, took the same actions, and went elsewhere.
    Nondeterministic,
}

impl Cause {
    /// The word for it in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotPlayed => "not_played",
            Self::EnvironmentChanged => "environment_changed",
            Self::Fails => "fails",
            Self::SeedDropped => "seed_dropped",
            Self::Unseeded => "unseeded",
            Self::RewardOnly => "reward_only",
            Self::MetadataOnly => "metadata_only",
            Self::End => "end",
            Self::Nondeterministic => "nondeterministic",
        }
    }

    /// What it means, for people.
    #[must_use]
    pub const fn explained(self) -> &'static str {
        match self {
            Self::NotPlayed => "could not be played again",
            Self::EnvironmentChanged => "the environment's fingerprint is another than recorded",
            Self::Fails => "the environment refuses or breaks where it did not",
            Self::SeedDropped => {
                "the first observation differs though the seed is the same: the server drops it, or \
                 shows something of its own there (--ignore leaves that out)"
            }
            Self::Unseeded => "the first observation differs, and no seed was given",
            Self::RewardOnly => "the same observations with other rewards",
            Self::MetadataOnly => "only metadata differs",
            Self::End => "the same observations, with another end",
            Self::Nondeterministic => {
                "the same beginning and actions lead elsewhere: the environment draws from something \
                 else than its seed"
            }
        }
    }
}

/// What a difference between two plays of an episode most likely comes from.
#[must_use]
pub fn likely_cause(
    comparison: &Comparison,
    recorded: &Trajectory,
    played: &Trajectory,
    difference: &Difference,
) -> Cause {
    let of = |record: &Trajectory| record.provenance.environment_fingerprint.clone();
    let (was, is) = (of(recorded), of(played));
    let refuses = match &played.end {
        End::Failed(failure) => match failure.kind {
            FailureKind::Environment | FailureKind::Refused | FailureKind::Invalid => true,
            FailureKind::Policy => false,
            _ => return Cause::NotPlayed,
        },
        End::Cancelled(_) => return Cause::NotPlayed,
        _ => false,
    };
    if !was.is_empty() && !is.is_empty() && was != is {
        return Cause::EnvironmentChanged;
    }
    if refuses
        && matches!(difference.what, "length" | "end" | "reset")
        && played.steps.len() <= recorded.steps.len()
    {
        return Cause::Fails;
    }
    let only = |what| {
        let without = comparison.without.iter().copied().chain([what]).collect();
        let apart = Comparison { ignored: comparison.ignored.clone(), without };
        apart.first_difference(recorded, played).is_none()
    };
    match (difference.what, difference.step) {
        ("reset", _) if recorded.seed.is_some() || has_seed(recorded) => Cause::SeedDropped,
        ("reset", _) => Cause::Unseeded,
        ("reward", _) if only("reward") => Cause::RewardOnly,
        ("metadata", _) if only("metadata") => Cause::MetadataOnly,
        ("ended" | "length" | "end", _) => Cause::End,
        _ => Cause::Nondeterministic,
    }
}

fn has_seed(record: &Trajectory) -> bool {
    serde_json::from_slice::<serde_json::Value>(&record.reset_parameters)
        .is_ok_and(|parameters| parameters.get("seed").is_some_and(|seed| !seed.is_null()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{changed, conversation};

    fn cause(change: impl FnOnce(&mut Value)) -> (Cause, String) {
        let (recorded, played) = (conversation(), changed(change));
        let comparison = Comparison::default();
        let found = comparison.first_difference(&recorded, &played).unwrap();
        let pointer = found.pointer().map(|it| it.0).unwrap_or_default();
        (likely_cause(&comparison, &recorded, &played, &found), pointer)
    }

    #[test]
    fn causes_are_told_apart() {
        let first = |it: &mut Value| it["reset"]["observation"]["text"] = json!("a door");
        assert_eq!(cause(first), (Cause::SeedDropped, "/text".into()));
        let changed = cause(|it| {
            first(it);
            it["provenance"]["environment_fingerprint"] = json!("other");
        });
        assert_eq!(changed.0, Cause::EnvironmentChanged);
        let step = cause(|it| it["steps"][1]["observation"]["text"] = json!("a wall"));
        assert_eq!(step, (Cause::Nondeterministic, "/text".into()));
        assert_eq!(cause(|it| it["steps"][0]["reward"] = json!(3)).0, Cause::RewardOnly);
        let both = cause(|it| {
            it["steps"][0]["reward"] = json!(3);
            it["steps"][1]["observation"]["text"] = json!("a wall");
        });
        assert_eq!(both.0, Cause::Nondeterministic);
        let shorter = |it: &mut Value| {
            it["steps"].as_array_mut().unwrap().pop();
        };
        assert_eq!(cause(shorter).0, Cause::End);
        for (kind, expected) in [("environment", Cause::Fails), ("unreachable", Cause::NotPlayed)] {
            let failed = cause(|it| {
                shorter(it);
                it["end"] = json!({"kind": "failed", "cause": kind, "message": "",
                    "session_lost": true});
            });
            assert_eq!(failed.0, expected);
        }
    }

    #[test]
    fn what_is_ignored_makes_no_difference() {
        let (recorded, played) =
            (conversation(), changed(|it| it["reset"]["observation"]["text"] = json!("a door")));
        let comparison = Comparison { ignored: vec!["/text".into()], ..Comparison::default() };
        assert_eq!(comparison.first_difference(&recorded, &played), None);
    }
}
