//! A request for episodes: checked, completed, and as the core and the delivery understand it.

use std::{collections::BTreeMap, time::Duration};

use envmill_core::{
    Deadlines, GroupFilter, GroupOptions, InFlight, JobOptions, OnEnvironmentError, RetryBudget,
    Scoring, SessionReuse, Tasks,
};
use envmill_delivery::{Order, Retention, Terms};
use envmill_protocol::PolicyVersion;
use envmill_wire as wire;
use serde::de::IgnoredAny;

use crate::{
    Desk, Environment, JobPolicy, Weights,
    refusal::Refusal,
    sampling::{self, How},
    tasks,
};

/// Said to whoever gives weights to a job that no model plays.
pub(crate) const NO_WEIGHTS: &str =
    "weights: only the inference engines of a job whose policy is `model` load weights";
/// The longest name of a job.
const NAME_BYTES_MAX: usize = 128;
/// Episodes pause while so many records wait to be sent, where a job does not say.
const WAITING_MAX: u64 = 1024;
/// Episodes pause while records of so many bytes wait to be sent, where a job does not say.
const WAITING_BYTES_MAX: u64 = 256 << 20;
/// What an episode may take in memory at least, where a job does not say: with more sessions than fit, some
/// stay unused.
const EPISODE_BYTES_LEAST: u64 = 1 << 20;
/// The most ranks of a job.
const WORLD_MAX: u32 = 65_536;
/// The most episodes of a job: what is kept of each in memory is a bit.
pub(crate) const EPISODES_MAX: u64 = 1 << 32;

/// A request that was accepted.
#[derive(Debug)]
pub(crate) struct Request {
    /// What was asked for, with everything that will be applied to it.
    pub(crate) job: wire::SubmitJob,
    /// Whether it says what an episode may take in memory.
    pub(crate) states_bytes: bool,
    /// Its tasks are those that its task set has now.
    pub(crate) is_of_set: bool,
    /// The environment's place in the configuration.
    pub(crate) environment: usize,
    pub(crate) options: JobOptions,
    /// How its tasks are sampled, if that is the service's affair.
    pub(crate) sampling: Option<How>,
    pub(crate) terms: Terms,
    pub(crate) in_flight: InFlight,
    pub(crate) version: PolicyVersion,
}

impl Request {
    /// Checks and completes a job as a trainer has written it. The task set that it names, if one,
    /// becomes its tasks.
    pub(crate) fn read(
        mut job: wire::SubmitJob,
        environments: &[Environment],
        task_sets: &BTreeMap<String, Tasks>,
        scorers: &BTreeMap<String, Scoring>,
    ) -> Result<Self, Refusal> {
        check_name(&job.name)?;
        let environment =
            environments.iter().position(|it| it.name == job.environment).ok_or_else(|| {
                let names: Vec<_> = environments.iter().map(|it| it.name.as_str()).collect();
                Refusal::argument(format!(
                    "environment: there is no `{}` in the engine's configuration, which has {}",
                    job.environment,
                    names.join(", ")
                ))
            })?;
        let its = &environments[environment];
        let is_of_set = !job.task_set.is_empty() && job.tasks.is_empty();
        let tasks = tasks::read(&mut job, task_sets)?;
        tasks::count_epochs(&mut job, &tasks)?;
        let (group, episodes) = group(&mut job)?;
        let sampling = sampling::read(&mut job, &tasks)?;
        let scoring = scoring(&job, scorers)?;
        check_object("reset_parameters", &job.reset_parameters)?;
        let default: fn() -> wire::policy::Policy = if its.is_harness { model } else { random };
        let policy = job.policy.get_or_insert_default().policy.get_or_insert_with(default);
        if its.is_harness && !matches!(policy, wire::policy::Policy::Model(_)) {
            return Err(Refusal::argument(format!(
                "policy: `{}` is a harness, whose programs play with its language model: say `model`, or \
                 nothing",
                its.name
            )));
        }
        if let wire::policy::Policy::Constant(action) = policy {
            check_object("policy.constant", action)?;
            if action.is_empty() {
                return Err(Refusal::argument("policy.constant: it must be a JSON object"));
            }
        }
        let limits = job.limits.get_or_insert_default();
        let defaults = &its.defaults;
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        limits.sessions = or(limits.sessions, its.sessions_max).min(its.sessions_max);
        limits.attempts = or(limits.attempts, defaults.attempts_max);
        limits.max_steps = or(limits.max_steps, defaults.max_steps.unwrap_or_default());
        limits.session_reuse = or(limits.session_reuse, episodes_in(defaults.session_reuse));
        limits.retry_budget_percent =
            or(limits.retry_budget_percent, defaults.retry_budget.percent);
        if limits.on_env_error.is_empty() {
            limits.on_env_error = defaults.on_environment_error.name().into();
        }
        let on_environment_error = match limits.on_env_error.as_str() {
            "fail" => OnEnvironmentError::Fail,
            "retry" => OnEnvironmentError::Retry,
            "truncate" => OnEnvironmentError::Truncate,
            other => {
                return Err(Refusal::argument(format!(
                    "limits.on_env_error: write fail, retry or truncate, not `{other}`"
                )));
            }
        };
        limits.production |= defaults.production;
        let states_bytes = limits.episode_bytes_max > 0;
        if !states_bytes {
            limits.episode_bytes_max = episode_bytes(its, group.map_or(1, |it| it.members()));
        }
        let limits = limits.clone();
        let deadlines = deadlines(job.deadlines.get_or_insert_default(), &defaults.deadlines);
        job.weight = job.weight.max(1);
        let terms = terms(&mut job)?;
        let version = wire::policy_version(job.version.as_ref())
            .ok_or_else(|| Refusal::argument("version: too large"))?;
        job.version = Some(wire::version(version));
        let in_flight = in_flight(job.in_flight)?;
        let policy = job.policy.as_ref().and_then(|it| it.policy.as_ref());
        if !job.weights.is_empty() && !matches!(policy, Some(wire::policy::Policy::Model(_))) {
            return Err(Refusal::argument(NO_WEIGHTS));
        }
        let options = JobOptions {
            episodes,
            group,
            sessions_max: limits.sessions,
            seed: job.seed,
            send_seed: !job.no_seed,
            reset_parameters: job.reset_parameters.clone(),
            tasks,
            max_steps: (limits.max_steps > 0).then_some(limits.max_steps),
            episode_bytes_max: Some(limits.episode_bytes_max),
            deadlines,
            attempts_max: limits.attempts,
            session_reuse: match limits.session_reuse {
                1 => SessionReuse::Never,
                u32::MAX => SessionReuse::Unlimited,
                most => SessionReuse::Episodes(most),
            },
            on_environment_error,
            production: limits.production,
            retry_budget: RetryBudget {
                percent: limits.retry_budget_percent,
                ..defaults.retry_budget
            },
            weight: job.weight,
            priority: job.priority,
            staleness_max: terms.staleness_max,
            scoring,
            ..defaults.clone()
        };
        options.check().map_err(|error| Refusal::argument(error.to_string()))?;
        options.check_memory(its.steps_bytes_max).map_err(|error| {
            Refusal::argument(format!(
                "limits.episode_bytes_max: {error} (`episodes-mib-max` of `environments.{}`, or its part \
                 of `steps-mib-max`)",
                its.name
            ))
        })?;
        Ok(Self {
            job,
            states_bytes,
            is_of_set,
            environment,
            options,
            sampling,
            terms,
            in_flight,
            version,
        })
    }

    /// Members of each group.
    pub(crate) fn members(&self) -> u64 {
        self.options.group.map_or(1, |group| u64::from(group.members()))
    }

    /// Who plays. A trainer gets a desk of its own.
    pub(crate) fn policy(&self) -> JobPolicy {
        match self.job.policy.as_ref().and_then(|policy| policy.policy.as_ref()) {
            Some(wire::policy::Policy::Constant(action)) => JobPolicy::Constant(action.clone()),
            Some(wire::policy::Policy::Trainer(_)) => JobPolicy::Trainer(Desk::new()),
            Some(wire::policy::Policy::Model(_)) => JobPolicy::Model,
            Some(wire::policy::Policy::Random(_)) | None => JobPolicy::Random,
        }
    }

    /// The weights that it begins with, if they are to be loaded.
    pub(crate) fn weights(&self) -> Option<Weights> {
        let folder = (!self.job.weights.is_empty()).then(|| self.job.weights.clone().into());
        folder.is_some().then(|| Weights {
            version: self.version,
            folder,
            // Nothing of this job is in flight yet.
            in_flight: InFlight::Keep,
            abort: self.job.in_flight() == wire::InFlight::Resume,
        })
    }

    /// Who says what its episodes were worth, if not the environment.
    pub(crate) fn scorer(&self) -> Option<String> {
        (!self.job.scorer.is_empty()).then(|| self.job.scorer.clone())
    }

    /// The same request with what another says that an episode may take, where this one says nothing: the
    /// default may have been another one when that was made.
    pub(crate) fn shown_beside(&self, other: &wire::SubmitJob) -> wire::SubmitJob {
        let mut shown = self.shown();
        if !self.states_bytes
            && let (Some(limits), Some(others)) = (&mut shown.limits, &other.limits)
        {
            limits.episode_bytes_max = others.episode_bytes_max;
        }
        shown
    }

    /// What a trainer is shown of it: tasks are left out, which it has, or which are many.
    pub(crate) fn shown(&self) -> wire::SubmitJob {
        let tasks = Vec::new();
        wire::SubmitJob { tasks, ..self.job.clone() }
    }
}

/// What an episode may take in memory where its job does not say: what the environment's configuration
/// has, or so much that half of the environment's memory is for a group, and for as many episodes as there
/// are sessions; the other half is for those that wait for their score or their group. A group always fits.
fn episode_bytes(environment: &Environment, members: u32) -> u64 {
    if let Some(bytes) = environment.defaults.episode_bytes_max {
        return bytes;
    }
    let all = environment.steps_bytes_max;
    let beside = u64::from(environment.sessions_max.max(members).max(1));
    let share = (all / 2 / beside).max(EPISODE_BYTES_LEAST);
    share.min(all / u64::from(members.max(1))).max(1)
}

/// What becomes of episodes in flight, as a job or an announcement says.
pub(crate) fn in_flight(code: i32) -> Result<InFlight, Refusal> {
    match wire::InFlight::try_from(code) {
        // Aborting is between the model and its inference engine; the episodes go on.
        Ok(wire::InFlight::Keep | wire::InFlight::Resume) => Ok(InFlight::Keep),
        Ok(wire::InFlight::Drain) => Ok(InFlight::Drain),
        Err(_) => Err(Refusal::argument(format!(
            "in_flight: {code} is none; keep is 0, drain 1, resume 2"
        ))),
    }
}

const fn random() -> wire::policy::Policy {
    wire::policy::Policy::Random(wire::RandomPolicy {})
}

const fn model() -> wire::policy::Policy {
    wire::policy::Policy::Model(wire::ModelPolicy {})
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let is_usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.len() > NAME_BYTES_MAX || !name.chars().all(is_usable) {
        return Err(Refusal::argument(format!(
            "name: letters, digits, `-`, `_` and `.`, at most {NAME_BYTES_MAX}"
        )));
    }
    Ok(())
}

/// How its groups are made up, and how many episodes its samples are.
fn group(job: &mut wire::SubmitJob) -> Result<(Option<GroupOptions>, u64), Refusal> {
    match (job.episodes, job.groups) {
        (0, 0) => {
            return Err(Refusal::argument("episodes: at least 1, or ask for groups or epochs"));
        }
        (1.., 1..) => return Err(Refusal::argument("groups: either episodes or groups")),
        (1.., 0) if job.group_rules.is_some() => {
            return Err(Refusal::argument("group_rules: ask for groups, not for episodes"));
        }
        (1.., 0) => {
            check_episodes(Some(job.episodes))?;
            return Ok((None, job.episodes));
        }
        (0, 1..) => (),
    }
    let rules = job.group_rules.get_or_insert_default();
    rules.samples = rules.samples.max(1);
    let filter = match wire::GroupFilter::try_from(rules.filter) {
        Ok(wire::GroupFilter::None) => GroupFilter::None,
        Ok(wire::GroupFilter::ZeroVariance) => GroupFilter::ZeroVariance,
        Err(_) => {
            return Err(Refusal::argument(format!("group_rules.filter: {} is none", rules.filter)));
        }
    };
    let options = GroupOptions {
        samples: rules.samples,
        oversample: rules.oversample,
        complete_at: (rules.complete_at > 0).then_some(rules.complete_at),
        filter,
        refill_max: rules.refill_max,
        deadline: (rules.deadline_ms > 0).then(|| Duration::from_millis(rules.deadline_ms)),
        duplicate_stragglers: rules.duplicate_stragglers,
        ..GroupOptions::default()
    };
    let all = (job.groups.saturating_add(rules.refill_max.into()))
        .checked_mul(u64::from(options.members()));
    check_episodes(all)?;
    Ok((Some(options), job.groups * u64::from(rules.samples)))
}

fn check_episodes(episodes: Option<u64>) -> Result<(), Refusal> {
    match episodes {
        Some(..=EPISODES_MAX) => Ok(()),
        _ => Err(Refusal::argument(format!(
            "episodes: at most {EPISODES_MAX} in one job, members of all groups together"
        ))),
    }
}

fn scoring(job: &wire::SubmitJob, scorers: &BTreeMap<String, Scoring>) -> Result<Scoring, Refusal> {
    if job.scorer.is_empty() {
        return Ok(Scoring::Environment);
    }
    let Some(&scoring) = scorers.get(&job.scorer) else {
        let names: Vec<_> = scorers.keys().map(String::as_str).collect();
        return Err(Refusal::argument(format!(
            "scorer: there is no `{}` in the engine's configuration, which has {}",
            job.scorer,
            if names.is_empty() { "none".into() } else { names.join(", ") }
        )));
    };
    if matches!(scoring, Scoring::External { whole_groups: true, .. }) && job.groups == 0 {
        return Err(Refusal::argument(format!(
            "scorer: `{}` scores whole groups: ask for groups, not for episodes",
            job.scorer
        )));
    }
    Ok(scoring)
}

pub(crate) fn check_object(field: &str, text: &[u8]) -> Result<(), Refusal> {
    if text.is_empty() {
        return Ok(());
    }
    let problem = match serde_json::from_slice::<IgnoredAny>(text) {
        Ok(_) if text.trim_ascii_start().starts_with(b"{") => return Ok(()),
        Ok(_) => "it is no object".into(),
        Err(error) => error.to_string(),
    };
    Err(Refusal::argument(format!("{field}: it must be the text of one JSON object: {problem}")))
}

/// Fills in what is not said.
fn deadlines(asked: &mut wire::Deadlines, defaults: &Deadlines) -> Deadlines {
    fn one(asked: &mut Option<u64>, default: Option<Duration>) -> Option<Duration> {
        let default = || default.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        let ms = *asked.get_or_insert_with(default);
        (ms > 0).then(|| Duration::from_millis(ms))
    }
    Deadlines {
        connect: one(&mut asked.connect_ms, defaults.connect),
        first_reset: one(&mut asked.first_reset_ms, defaults.first_reset),
        reset: one(&mut asked.reset_ms, defaults.reset),
        step: one(&mut asked.step_ms, defaults.step),
        policy: one(&mut asked.policy_ms, defaults.policy),
        episode: one(&mut asked.episode_ms, defaults.episode),
        job: one(&mut asked.job_ms, defaults.job),
        no_server: one(&mut asked.no_server_ms, Some(defaults.no_server))
            .unwrap_or(Duration::MAX / 4),
    }
}

fn terms(job: &mut wire::SubmitJob) -> Result<Terms, Refusal> {
    let asked = job.delivery.get_or_insert_default();
    asked.world = asked.world.max(1);
    if asked.waiting_max == 0 {
        asked.waiting_max = WAITING_MAX;
    }
    if asked.waiting_bytes_max == 0 {
        asked.waiting_bytes_max = WAITING_BYTES_MAX;
    }
    let order = match wire::Order::try_from(asked.order) {
        Ok(wire::Order::AsFinished) => Order::AsFinished,
        Ok(wire::Order::ByGroup) => Order::ByGroup,
        Ok(wire::Order::Batches) => Order::Batches { world: asked.world },
        Err(_) => {
            return Err(Refusal::argument(format!("delivery.order: {} is none", asked.order)));
        }
    };
    if asked.world > WORLD_MAX {
        return Err(Refusal::argument(format!("delivery.world: at most {WORLD_MAX}")));
    }
    if asked.world > 1 && order != (Order::Batches { world: asked.world }) {
        return Err(Refusal::argument("delivery.world: several ranks take ORDER_BATCHES"));
    }
    let retention = match wire::Retention::try_from(asked.retention) {
        Ok(wire::Retention::UntilAcknowledged) => Retention::UntilAcknowledged,
        Ok(wire::Retention::UntilDurable) => Retention::UntilDurable,
        Err(_) => {
            let problem = format!("delivery.retention: {} is none", asked.retention);
            return Err(Refusal::argument(problem));
        }
    };
    Ok(Terms {
        order,
        staleness_max: asked.staleness_max,
        retention,
        waiting_items_max: asked.waiting_max,
        waiting_bytes_max: asked.waiting_bytes_max,
    })
}

const fn episodes_in(reuse: SessionReuse) -> u32 {
    match reuse {
        SessionReuse::Never => 1,
        SessionReuse::Episodes(most) => most,
        SessionReuse::Unlimited => u32::MAX,
    }
}
