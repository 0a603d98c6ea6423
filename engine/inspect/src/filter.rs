//! Which records count.

use std::str::FromStr;

use envmill_protocol::{PolicyVersion, Trajectory, record::End};

use crate::{Interval, IntervalError};

/// The ends that there are.
const ENDS: [&str; 6] = ["completed", "truncated", "failed", "cancelled", "stale", "filtered"];

/// What a record must be to count. Conditions of different kinds must all hold, and of several of one
/// kind any. Without conditions every record counts.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// How it ended: [`check`](Self::check) knows the words.
    pub ends: Vec<String>,
    /// Stands somewhere in why it ended so, or in the failure's message.
    pub cause: Option<String>,
    /// What it was worth.
    pub reward: Option<RewardFilter>,
    /// How many steps it has.
    pub steps: Option<Interval>,
    /// Its task.
    pub tasks: Vec<String>,
    /// Its group.
    pub groups: Vec<u64>,
    /// Its number, or its id.
    pub episodes: Vec<Episodes>,
    /// The server that it was played on, with or without scheme.
    pub servers: Vec<String>,
    /// The seed that it was reset with.
    pub seeds: Vec<u64>,
    /// A version of the policy that played some of it.
    pub versions: Vec<Version>,
}

/// A condition cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// There is no such end.
    #[error(
        "no episode ends as `{0}`: write completed, truncated, failed, cancelled, stale or filtered"
    )]
    End(String),
    /// This names no episodes.
    #[error("write numbers of episodes, as in 3 or 3,7-9, or a trajectory's id, not `{0}`")]
    Episodes(String),
    /// This is no version.
    #[error("write a policy version as STEP or LINEAGE:STEP, not `{0}`")]
    Version(String),
}

/// A condition on the reward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RewardFilter {
    /// There is none, which is not 0.
    Unscored,
    /// There is one.
    Scored,
    /// There is one, and it is in here.
    In(Interval),
}

impl FromStr for RewardFilter {
    type Err = IntervalError;

    fn from_str(text: &str) -> Result<Self, IntervalError> {
        match text {
            "unscored" => Ok(Self::Unscored),
            "scored" => Ok(Self::Scored),
            other => other.parse().map(Self::In),
        }
    }
}

/// Episodes by their numbers, or one by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Episodes {
    /// From one number to another, both included.
    Numbers(u64, u64),
    /// This one.
    Id(String),
}

impl Episodes {
    /// Whether a record is of one of them.
    #[must_use]
    pub fn hold(&self, record: &Trajectory) -> bool {
        match self {
            Self::Numbers(from, to) => {
                episode_number(record).is_some_and(|it| (*from..=*to).contains(&it))
            }
            Self::Id(id) => record.trajectory_id == *id,
        }
    }
}

impl FromStr for Episodes {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let text = text.trim();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        let wrong = || FilterError::Episodes(text.to_owned());
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        match text.split_once('-') {
            Some((from, to)) if is_number(from) && is_number(to) => {
                let (from, to) = (number(from)?, number(to)?);
                if from <= to { Ok(Self::Numbers(from, to)) } else { Err(wrong()) }
            }
            _ if is_number(text) => number(text).map(|it| Self::Numbers(it, it)),
            _ if text.is_empty() => Err(wrong()),
            _ => Ok(Self::Id(text.to_owned())),
        }
    }
}

/// A version of the policy as users write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub PolicyVersion);

impl FromStr for Version {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let wrong = || FilterError::Version(text.to_owned());
        let version = match text.split_once(':') {
            None => PolicyVersion(text.parse().map_err(|_| wrong())?),
            Some((lineage, step)) => PolicyVersion::new(
                lineage.parse().map_err(|_| wrong())?,
                step.parse().map_err(|_| wrong())?,
            )
            .ok_or_else(wrong)?,
        };
        Ok(Self(version))
    }
}

/// The number of a record's episode within its job: the digits that its id ends with.
#[must_use]
pub fn episode_number(record: &Trajectory) -> Option<u64> {
    record.trajectory_id.rsplit('-').next()?.parse().ok()
}

impl Filter {
    /// Whether its words are known.
    ///
    /// # Errors
    ///
    /// There is no such end; the message names those that there are.
    pub fn check(&self) -> Result<(), FilterError> {
        let unknown = self.ends.iter().find(|end| !ENDS.contains(&end.as_str()));
        unknown.map_or(Ok(()), |end| Err(FilterError::End(end.clone())))
    }

    /// Whether a record counts.
    #[must_use]
    pub fn keeps(&self, record: &Trajectory) -> bool {
        fn any<T>(of: &[T], holds: impl Fn(&T) -> bool) -> bool {
            of.is_empty() || of.iter().any(holds)
        }
        any(&self.ends, |end| end == record.end.name())
            && self.cause.as_deref().is_none_or(|cause| has_cause(&record.end, cause))
            && self.reward.is_none_or(|reward| match (reward, record.reward) {
                (RewardFilter::Unscored, reward) => reward.is_none(),
                (RewardFilter::Scored, reward) => reward.is_some(),
                (RewardFilter::In(_), None) => false,
                (RewardFilter::In(interval), Some(reward)) => interval.holds(reward),
            })
            && self.steps.is_none_or(|steps| steps.holds(record.steps.len() as f64))
            && any(&self.tasks, |task| *task == record.task_id)
            && any(&self.groups, |group| *group == record.group_id)
            && any(&self.episodes, |episodes| episodes.hold(record))
            && any(&self.servers, |server| bare(server) == bare(&record.provenance.server))
            && any(&self.seeds, |seed| Some(*seed) == record.seed)
            && any(&self.versions, |version| has_version(record, version.0))
    }
}

fn has_cause(end: &End, cause: &str) -> bool {
    let message = match end {
        End::Failed(failure) => failure.message.as_str(),
        _ => "",
    };
    end.cause().contains(cause) || message.contains(cause)
}

/// A server without its scheme: users copy `http://` from one place and `ws://` from another.
fn bare(server: &str) -> &str {
    let is_url = |scheme: &str| matches!(scheme, "http" | "https" | "ws" | "wss");
    let rest = server.split_once("://").filter(|(scheme, _)| is_url(scheme));
    rest.map_or(server, |(_, rest)| rest).trim_end_matches('/')
}

fn has_version(record: &Trajectory, version: PolicyVersion) -> bool {
    let mut spans = record
        .generations
        .iter()
        .flat_map(|it| &it.policy_versions)
        .chain(&record.tokens.policy_versions)
        .peekable();
    if spans.peek().is_some() {
        return spans.any(|span| span.version == version);
    }
    let timing = &record.timing;
    (timing.policy_version_started..=timing.policy_version_ended).contains(&version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cartpole, conversation};

    fn keeps(change: impl FnOnce(&mut Filter)) -> (bool, bool) {
        let mut filter = Filter::default();
        change(&mut filter);
        filter.check().unwrap();
        (filter.keeps(&cartpole()), filter.keeps(&conversation()))
    }

    #[test]
    fn conditions_of_different_kinds_must_all_hold() {
        assert_eq!(keeps(|_| {}), (true, true));
        assert_eq!(keeps(|it| it.ends = vec!["failed".into()]), (false, false));
        assert_eq!(keeps(|it| it.ends = vec!["failed".into(), "completed".into()]), (false, true));
        assert_eq!(keeps(|it| it.cause = Some("max_st".into())), (true, false));
        assert_eq!(keeps(|it| it.reward = "unscored".parse().ok()), (true, false));
        assert_eq!(keeps(|it| it.reward = "scored".parse().ok()), (false, true));
        assert_eq!(keeps(|it| it.reward = "<1".parse().ok()), (false, true));
        assert_eq!(keeps(|it| it.steps = ">1".parse().ok()), (false, true));
        assert_eq!(keeps(|it| it.tasks = vec!["corridor".into()]), (false, true));
        assert_eq!(keeps(|it| it.seeds = vec![7]), (true, false));
        assert_eq!(keeps(|it| it.groups = vec![3]), (false, true));
        assert_eq!(keeps(|it| it.servers = vec!["http://10.0.0.7:8000/".into()]), (false, true));
        assert_eq!(keeps(|it| it.episodes = vec!["5-9".parse().unwrap()]), (true, false));
        assert_eq!(keeps(|it| it.episodes = vec!["maze-3-1".parse().unwrap()]), (false, true));
        assert_eq!(keeps(|it| it.versions = vec!["12".parse().unwrap()]), (false, true));
        assert_eq!(keeps(|it| it.versions = vec!["1:12".parse().unwrap()]), (false, false));
        let both = keeps(|it| {
            it.tasks = vec!["corridor".into()];
            it.reward = ">1".parse().ok();
        });
        assert_eq!(both, (false, false));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let filter = Filter { ends: vec!["done".into()], ..Filter::default() };
        assert_eq!(filter.check(), Err(FilterError::End("done".into())));
        for wrong in ["", "9-3", "99999999999999999999"] {
            assert!(wrong.parse::<Episodes>().is_err(), "{wrong}");
        }
        for wrong in ["", "x", "1:", "70000:1"] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }
}
