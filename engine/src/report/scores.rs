//! What scorers have said, on average.

use std::{collections::BTreeMap, fmt};

use envmill_protocol::{Trajectory, record::End};
use serde::Serialize;

/// The most components that are told of by name.
const COMPONENTS_MAX: usize = 1024;
/// So many of them stand in the text for people.
const COMPONENTS_SHOWN: usize = 12;

/// The scores of a run's episodes. Those that an earlier run has recorded are not among them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Episodes that were scored.
    pub episodes: u64,
    /// Those of them that have no reward, which is not 0.
    pub missing: u64,
    /// The mean of the rewards that there are; `null` if there are none.
    pub reward_mean: Option<f64>,
    /// The components, by name: the first 1,024 that came.
    pub components: BTreeMap<String, ComponentMean>,
}

/// One component on average.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ComponentMean {
    /// Episodes that have it.
    pub episodes: u64,
    /// Its mean over these.
    pub mean: f64,
}

impl Scores {
    /// Counts a record in, if it has its scorers' word.
    pub(crate) fn add(&mut self, record: &Trajectory) {
        if matches!(record.end, End::Completed { .. } | End::Truncated(_) | End::Filtered(_)) {
            self.count(record.reward, &record.reward_components);
        }
    }

    fn count(&mut self, reward: Option<f64>, components: &[(String, f64)]) {
        self.episodes += 1;
        match reward {
            None => self.missing += 1,
            Some(reward) => {
                let before = self.reward_mean.unwrap_or(0.0);
                self.reward_mean = Some(moved(before, reward, self.episodes - self.missing));
            }
        }
        for (name, value) in components {
            if self.components.len() >= COMPONENTS_MAX && !self.components.contains_key(name) {
                continue;
            }
            let its = self.components.entry(name.clone()).or_default();
            its.episodes += 1;
            its.mean = moved(its.mean, *value, its.episodes);
        }
    }
}

/// The mean of `count` numbers, given the last of them and the mean of those before it.
fn moved(before: f64, last: f64, count: u64) -> f64 {
    before + (last - before) / count as f64
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} episodes", self.episodes)?;
        if self.missing > 0 {
            write!(f, ", {} without a reward", self.missing)?;
        }
        if let Some(mean) = self.reward_mean {
            write!(f, "; reward {mean:.4} on average")?;
        }
        for (name, ComponentMean { mean, .. }) in self.components.iter().take(COMPONENTS_SHOWN) {
            write!(f, ", {name} {mean:.4}")?;
        }
        match self.components.len().saturating_sub(COMPONENTS_SHOWN) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_what_is_there() {
        let mut scores = Scores::default();
        scores.count(Some(1.0), &[("a".into(), 2.0)]);
        scores.count(Some(4.0), &[("a".into(), 4.0), ("b".into(), 1.5)]);
        scores.count(None, &[]);
        assert_eq!((scores.episodes, scores.missing, scores.reward_mean), (3, 1, Some(2.5)));
        let of = |name: &str| scores.components.get(name).map(|it| (it.episodes, it.mean));
        assert_eq!((of("a"), of("b")), (Some((2, 3.0)), Some((1, 1.5))));
        assert_eq!(
            scores.to_string(),
            "3 episodes, 1 without a reward; reward 2.5000 on average, a 3.0000, b 1.5000"
        );
    }
}
