//! Groups, retries and what else decides how episodes are played rather than where.

use std::time::Duration;

use envmill_core::{GroupFilter, GroupOptions, GroupPlacement, OnEnvironmentError};
use serde_json::{Value, json};

use super::{ConfigError, Settings};

/// By which rules a job is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Groups of episodes, if they were asked for.
    pub group: Option<GroupOptions>,
    /// What becomes of an episode whose environment raised an exception in a step.
    pub on_environment_error: OnEnvironmentError,
    /// Retries and duplicates that there may be, in percent of the attempts: for the job, and for each
    /// server.
    pub retry_budget_percent: u32,
    /// Nothing is tried again once a reset or a step has been sent.
    pub production: bool,
    /// Doing the same twice does no harm, whatever `production` says.
    pub idempotent: bool,
    /// The share of the servers that may be ejected at one time, in percent.
    pub ejected_percent_max: u32,
}

impl Rules {
    /// The rules, and how many episodes were asked for.
    pub(super) fn resolve(settings: &Settings) -> Result<(Self, u64), ConfigError> {
        let (group, episodes) = group(settings)?;
        let on_environment_error = choice(
            "on-env-error",
            settings.on_env_error.as_deref(),
            [OnEnvironmentError::Fail, OnEnvironmentError::Retry, OnEnvironmentError::Truncate],
            OnEnvironmentError::name,
        )?;
        let ejected_percent_max = settings.ejected_percent_max.unwrap_or(34);
        if ejected_percent_max > 100 {
            return Err(ConfigError::value("ejected-percent-max", "write a number from 0 to 100"));
        }
        let rules = Self {
            group,
            on_environment_error,
            retry_budget_percent: settings.retry_budget.unwrap_or(10),
            production: settings.production,
            idempotent: settings.idempotent,
            ejected_percent_max,
        };
        Ok((rules, episodes))
    }

    /// The rules as they go into `job.json`.
    pub(super) fn to_json(self) -> Vec<(&'static str, Value)> {
        let mut all = vec![
            ("on-env-error", json!(self.on_environment_error.name())),
            ("retry-budget", json!(self.retry_budget_percent)),
            ("production", json!(self.production)),
            ("idempotent", json!(self.idempotent)),
            ("ejected-percent-max", json!(self.ejected_percent_max)),
        ];
        if let Some(group) = self.group {
            all.extend([
                ("samples", json!(group.samples)),
                ("oversample", json!(group.oversample)),
                ("complete-at", json!(group.complete_at.unwrap_or(group.samples))),
                ("group-filter", json!(group.filter.name())),
                ("refill-max", json!(group.refill_max)),
                ("group-deadline-ms", json!(group.deadline.map(|it| it.as_millis() as u64))),
                ("duplicate-stragglers", json!(group.duplicate_stragglers)),
                ("group-placement", json!(group.placement.name())),
            ]);
        } else {
            // Named, so that a job that goes on is seen to have had groups.
            all.push(("samples", Value::Null));
        }
        all
    }
}

fn group(settings: &Settings) -> Result<(Option<GroupOptions>, u64), ConfigError> {
    if settings.groups.is_none() && settings.samples.is_none() {
        let alone: Option<&'static str> = [
            ("complete-at", settings.complete_at.is_some()),
            ("oversample", settings.oversample.is_some()),
            ("group-filter", settings.group_filter.is_some()),
            ("refill-max", settings.refill_max.is_some()),
            ("group-deadline-ms", settings.group_deadline_ms.is_some()),
            ("duplicate-stragglers", settings.duplicate_stragglers),
            ("group-placement", settings.group_placement.is_some()),
        ]
        .into_iter()
        .find_map(|(name, is_given)| is_given.then_some(name));
        if let Some(name) = alone {
            return Err(ConfigError::value(name, "it goes with --samples N: there are no groups"));
        }
        return Ok((None, settings.episodes.unwrap_or(1000)));
    }
    let samples = settings.samples.unwrap_or(1);
    if samples == 0 {
        return Err(ConfigError::value("samples", "it must be at least 1"));
    }
    let episodes = match (settings.groups, settings.episodes) {
        (Some(groups), None) => groups.saturating_mul(u64::from(samples)),
        (None, Some(episodes)) => episodes,
        (None, None) => 1000_u64.next_multiple_of(u64::from(samples)),
        (Some(groups), Some(episodes))
            if groups.checked_mul(u64::from(samples)) == Some(episodes) =>
        {
            episodes
        }
        (Some(groups), Some(_)) => {
            let problem =
                format!("{groups} groups of {samples} are another number: leave one away");
            return Err(ConfigError::value("episodes", problem));
        }
    };
    if settings.groups == Some(0) {
        return Err(ConfigError::value("groups", "it must be at least 1"));
    }
    let filter = choice(
        "group-filter",
        settings.group_filter.as_deref(),
        [GroupFilter::None, GroupFilter::ZeroVariance],
        GroupFilter::name,
    )?;
    let placement = choice(
        "group-placement",
        settings.group_placement.as_deref(),
        [GroupPlacement::Any, GroupPlacement::Spread, GroupPlacement::Together],
        GroupPlacement::name,
    )?;
    let group = GroupOptions {
        samples,
        oversample: settings.oversample.unwrap_or(0),
        complete_at: settings.complete_at,
        filter,
        refill_max: settings.refill_max.unwrap_or(0),
        deadline: settings.group_deadline_ms.filter(|&ms| ms > 0).map(Duration::from_millis),
        duplicate_stragglers: settings.duplicate_stragglers,
        placement,
    };
    Ok((Some(group), episodes))
}

/// The choice that is called `given`; the first where nothing was given.
fn choice<T: Copy, const N: usize>(
    setting: &'static str,
    given: Option<&str>,
    choices: [T; N],
    name: fn(T) -> &'static str,
) -> Result<T, ConfigError> {
    let given = given.unwrap_or_else(|| name(choices[0]));
    choices.into_iter().find(|&choice| name(choice) == given).ok_or_else(|| {
        let names = choices.map(name).join(", ");
        ConfigError::value(setting, format!("write one of {names}, not `{given}`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn episodes_are_groups_times_samples() {
        let asked = |groups, samples, episodes| {
            let settings = Settings { groups, samples, episodes, ..Settings::default() };
            Rules::resolve(&settings).map(|(rules, episodes)| (rules.group.is_some(), episodes))
        };
        assert_eq!(asked(Some(5), Some(4), None).unwrap(), (true, 20));
        assert_eq!(asked(None, Some(4), Some(8)).unwrap(), (true, 8));
        assert_eq!(asked(None, Some(16), None).unwrap(), (true, 1008));
        assert_eq!(asked(Some(5), None, None).unwrap(), (true, 5));
        assert_eq!(asked(None, None, None).unwrap(), (false, 1000));
        let message = asked(Some(5), Some(4), Some(21)).unwrap_err().to_string();
        assert!(message.contains("--episodes"), "{message}");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let of = |settings: Settings| Rules::resolve(&settings).unwrap_err().to_string();
        let message = of(Settings { oversample: Some(2), ..Settings::default() });
        assert!(message.contains("--oversample") && message.contains("--samples"), "{message}");
        let message = of(Settings {
            samples: Some(2),
            group_filter: Some("variance".into()),
            ..Settings::default()
        });
        assert!(message.contains("zero-variance"), "{message}");
        let message = of(Settings { on_env_error: Some("ignore".into()), ..Settings::default() });
        assert!(message.contains("fail, retry, truncate"), "{message}");
    }
}
