//! A group as one line of JSON. `docs/record.md` describes the form.

use serde::Deserialize;

use super::{
    FIRST_OBSERVATIONS, OUTCOMES,
    end::{self, EndTwin},
    meaning,
    read::{check_version, unknown},
    values::Number,
    word,
    write::{Object, list, number},
};
use crate::record::{GroupRecord, MemberAttempt, MemberRecord, ReadError, SCHEMA_VERSION};

/// Appends the record of a group as one line, with its newline.
pub fn write_group_line(out: &mut Vec<u8>, group: &GroupRecord) {
    // Taken apart, so that a new field cannot be forgotten here.
    let GroupRecord {
        job_id,
        group_id,
        task_id,
        environment,
        seed,
        asked,
        oversampled,
        complete_at,
        used,
        outcome,
        filter,
        refill_of,
        first_observations,
        duplicates,
        steps_used,
        steps_wasted,
        tokens_used,
        tokens_wasted,
        started_us,
        ended_us,
        members,
    } = group;
    let mut line = Object::open(out);
    line.field("schema_version", &SCHEMA_VERSION);
    line.string("job_id", job_id);
    line.field("group_id", group_id);
    line.string("task_id", task_id);
    line.string("environment", environment);
    line.field("seed", seed);
    line.field("asked", asked);
    line.field("oversampled", oversampled);
    line.field("complete_at", complete_at);
    line.field("used", used);
    line.string("outcome", word(&OUTCOMES, outcome));
    line.string("filter", filter);
    line.field("refill_of", refill_of);
    line.string("first_observations", word(&FIRST_OBSERVATIONS, first_observations));
    line.field("duplicates", duplicates);
    line.field("steps_used", steps_used);
    line.field("steps_wasted", steps_wasted);
    line.field("tokens_used", tokens_used);
    line.field("tokens_wasted", tokens_wasted);
    line.field("started_us", started_us);
    line.field("ended_us", ended_us);
    list(line.key("members"), members, write_member);
    line.close();
    out.push(b'\n');
}

fn write_member(out: &mut Vec<u8>, member: &MemberRecord) {
    let MemberRecord {
        trajectory_id,
        sample_index,
        used,
        end,
        reward,
        steps,
        tokens,
        first_observation,
        attempts,
    } = member;
    let mut object = Object::open(out);
    object.string("trajectory_id", trajectory_id);
    object.field("sample_index", sample_index);
    object.field("used", used);
    end::write(object.key("end"), end);
    match reward {
        Some(reward) => number(object.key("reward"), *reward),
        None => object.raw("reward", b""),
    }
    object.field("steps", steps);
    object.field("tokens", tokens);
    match first_observation {
        // As text: JSON's readers take integers of 64 bits for floats.
        Some(hash) => object.string("first_observation", &format!("{hash:016x}")),
        None => object.raw("first_observation", b""),
    }
    list(object.key("attempts"), attempts, write_attempt);
    object.close();
}

fn write_attempt(out: &mut Vec<u8>, attempt: &MemberAttempt) {
    let MemberAttempt { cause, steps, tokens } = attempt;
    let mut object = Object::open(out);
    object.string("cause", cause);
    object.field("steps", steps);
    object.field("tokens", tokens);
    object.close();
}

/// Reads what [`write_group_line`] wrote: one line, with or without its newline. Unknown fields are
/// ignored.
///
/// # Errors
///
/// The line is not a group's record of a version that is known here; what to do is in
/// [`ReadError`].
pub fn read_group_line(line: &[u8]) -> Result<GroupRecord, ReadError> {
    check_version(line)?;
    serde_json::from_slice::<Line>(line)?.group()
}

#[derive(Deserialize)]
struct Line {
    job_id: String,
    group_id: u64,
    task_id: String,
    environment: String,
    seed: Option<u64>,
    asked: u32,
    oversampled: u32,
    complete_at: u32,
    used: u32,
    outcome: String,
    filter: String,
    refill_of: Option<u64>,
    first_observations: String,
    duplicates: u32,
    steps_used: u64,
    steps_wasted: u64,
    tokens_used: u64,
    tokens_wasted: u64,
    started_us: u64,
    ended_us: u64,
    members: Vec<MemberTwin>,
}

impl Line {
    fn group(self) -> Result<GroupRecord, ReadError> {
        let outcome = meaning(&OUTCOMES, &self.outcome).ok_or(self.outcome);
        let first = meaning(&FIRST_OBSERVATIONS, &self.first_observations);
        let first = first.ok_or(self.first_observations);
        Ok(GroupRecord {
            job_id: self.job_id,
            group_id: self.group_id,
            task_id: self.task_id,
            environment: self.environment,
            seed: self.seed,
            asked: self.asked,
            oversampled: self.oversampled,
            complete_at: self.complete_at,
            used: self.used,
            outcome: outcome.map_err(unknown("outcome"))?,
            filter: self.filter,
            refill_of: self.refill_of,
            first_observations: first.map_err(unknown("first_observations"))?,
            duplicates: self.duplicates,
            steps_used: self.steps_used,
            steps_wasted: self.steps_wasted,
            tokens_used: self.tokens_used,
            tokens_wasted: self.tokens_wasted,
            started_us: self.started_us,
            ended_us: self.ended_us,
            members: self.members.into_iter().map(MemberTwin::member).collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Deserialize)]
struct MemberTwin {
    trajectory_id: String,
    sample_index: u32,
    used: bool,
    end: EndTwin,
    reward: Option<Number>,
    steps: u64,
    tokens: u64,
    first_observation: Option<String>,
    attempts: Vec<AttemptTwin>,
}

impl MemberTwin {
    fn member(self) -> Result<MemberRecord, ReadError> {
        let first_observation = match self.first_observation {
            None => None,
            Some(text) => match hash(&text) {
                Some(hash) => Some(hash),
                None => return Err(unknown("first_observation")(text)),
            },
        };
        Ok(MemberRecord {
            trajectory_id: self.trajectory_id,
            sample_index: self.sample_index,
            used: self.used,
            end: self.end.end().map_err(unknown("end"))?,
            reward: self.reward.map(|Number(reward)| reward),
            steps: self.steps,
            tokens: self.tokens,
            first_observation,
            attempts: self.attempts.into_iter().map(AttemptTwin::attempt).collect(),
        })
    }
}

/// What `{:016x}` writes, and nothing else.
fn hash(text: &str) -> Option<u64> {
    let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if plain { u64::from_str_radix(text, 16).ok() } else { None }
}

#[derive(Deserialize)]
struct AttemptTwin {
    cause: String,
    steps: u64,
    tokens: u64,
}

impl AttemptTwin {
    fn attempt(self) -> MemberAttempt {
        let Self { cause, steps, tokens } = self;
        MemberAttempt { cause, steps, tokens }
    }
}
