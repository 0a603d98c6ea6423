//! How a run draws its tasks.

use envmill_core::Revisit;
use serde_json::{Value, json};

use super::{ConfigError, Settings};
use crate::tasks::Weights;

/// What is read where a run does not say.
const EVERY_MAX: u32 = 8;
/// The least that a task may be visited, one in so many times.
const EVERY_LIMIT: u32 = 64;

/// How the tasks of a run are drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskSampling {
    /// So many rounds of the tasks are played, instead of a number of episodes or groups.
    pub epochs: Option<u64>,
    /// What tasks weigh.
    pub weights: Weights,
    /// Visits tasks less whose groups do not vary.
    pub revisit: Option<Revisit>,
}

impl TaskSampling {
    pub(super) fn resolve(settings: &Settings) -> Result<Self, ConfigError> {
        let has_tasks = settings.tasks.is_some() || settings.split.is_some();
        for (name, is_given) in [
            ("epochs", settings.epochs.is_some()),
            ("weight-key", settings.weight_key.is_some()),
            ("weights", !settings.weights.is_empty()),
            ("revisit-after", settings.revisit_after.is_some()),
        ] {
            if is_given && !has_tasks {
                return Err(ConfigError::value(name, "it is about tasks: give --tasks or --split"));
            }
        }
        if settings.weight_key.is_some() && settings.split.is_some() {
            let problem = "a split has no keys; give --weights by the names of its tasks";
            return Err(ConfigError::value("weight-key", problem));
        }
        if settings.epochs.is_some() && (settings.episodes.is_some() || settings.groups.is_some()) {
            let problem = "it says how many episodes or groups there are: leave those away";
            return Err(ConfigError::value("epochs", problem));
        }
        if settings.epochs == Some(0) {
            return Err(ConfigError::value("epochs", "it must be at least 1"));
        }
        let of = settings.weights.iter().map(|text| weight(text)).collect::<Result<_, _>>()?;
        let weights = Weights { key: settings.weight_key.clone(), of };
        Ok(Self { epochs: settings.epochs, weights, revisit: revisit(settings)? })
    }

    /// As it goes into `job.json`.
    pub(super) fn to_json(&self) -> Vec<(&'static str, Value)> {
        let Self { epochs, weights, revisit } = self;
        let weight = (!weights.of.is_empty()).then(|| json!(weights.of));
        vec![
            ("epochs", json!(epochs)),
            ("weight-key", json!(weights.key)),
            ("weights", json!(weight)),
            ("revisit-after", json!(revisit.map(|it| it.after))),
            ("revisit-at-least-one-in", json!(revisit.map(|it| it.every_max))),
        ]
    }
}

fn weight(text: &str) -> Result<(String, f64), ConfigError> {
    // A name may have a sign of its own.
    let (name, weight) = text.rsplit_once('=').unwrap_or((text, ""));
    let number = weight.trim().parse().ok().filter(|_| !name.is_empty());
    let number = number.ok_or_else(|| {
        ConfigError::value("weights", format!("`{text}`: write NAME=WEIGHT, such as train/17=0.5"))
    })?;
    Ok((name.to_owned(), number))
}

fn revisit(settings: &Settings) -> Result<Option<Revisit>, ConfigError> {
    let Some(after) = settings.revisit_after else {
        if settings.revisit_at_least_one_in.is_some() {
            let problem = "it goes with --revisit-after";
            return Err(ConfigError::value("revisit-at-least-one-in", problem));
        }
        return Ok(None);
    };
    let wrong = |problem: &str| Err(ConfigError::value("revisit-after", problem));
    if after == 0 {
        return wrong("it must be at least 1");
    }
    if settings.samples.is_none_or(|samples| samples < 2) {
        return wrong("groups of one sample have no variance to go by: give --samples 2 or more");
    }
    if settings.epochs.is_some() {
        return wrong("how long a round is, is not known beforehand: give --groups, not --epochs");
    }
    let every_max = settings.revisit_at_least_one_in.unwrap_or(EVERY_MAX);
    if every_max == 0 || every_max > EVERY_LIMIT {
        let problem = format!("write a number from 1 to {EVERY_LIMIT}");
        return Err(ConfigError::value("revisit-at-least-one-in", problem));
    }
    Ok(Some(Revisit { after, every_max }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_together_is_named() {
        let tasks = || Settings { tasks: Some("t".into()), ..Settings::default() };
        let of = |settings: Settings| TaskSampling::resolve(&settings).unwrap_err().to_string();
        for (settings, expected) in [
            (Settings { epochs: Some(1), ..Settings::default() }, "--epochs: it is about tasks"),
            (Settings { epochs: Some(1), episodes: Some(2), ..tasks() }, "leave those away"),
            (Settings { epochs: Some(0), ..tasks() }, "at least 1"),
            (Settings { weights: vec!["a".into()], ..tasks() }, "NAME=WEIGHT"),
            (Settings { weights: vec!["=1".into()], ..tasks() }, "NAME=WEIGHT"),
            (Settings { revisit_after: Some(1), ..tasks() }, "--samples 2"),
            (
                Settings { revisit_after: Some(1), samples: Some(2), epochs: Some(1), ..tasks() },
                "give --groups",
            ),
            (
                Settings {
                    revisit_after: Some(1),
                    samples: Some(2),
                    revisit_at_least_one_in: Some(65),
                    ..tasks()
                },
                "from 1 to 64",
            ),
            (Settings { revisit_at_least_one_in: Some(2), ..tasks() }, "goes with --revisit-after"),
            (
                Settings {
                    split: Some("s".into()),
                    weight_key: Some("w".into()),
                    ..Settings::default()
                },
                "a split has no keys",
            ),
        ] {
            let message = of(settings);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn weights_are_named() {
        let weights = vec!["a=b=0.5".into(), "c=2".into()];
        let settings = Settings { tasks: Some("t".into()), weights, ..Settings::default() };
        let sampling = TaskSampling::resolve(&settings).unwrap();
        assert_eq!(sampling.weights.of, [("a=b".into(), 0.5), ("c".into(), 2.0)].into());
        assert_eq!(sampling.revisit, None);
    }
}
