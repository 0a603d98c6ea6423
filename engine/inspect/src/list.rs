//! One episode a line.

use envmill_protocol::Trajectory;
use serde_json::{Value, json};

use crate::{
    Paint, escaped,
    text::{number, time},
};

/// One line for people, without its end: id, end, steps, reward, time, seed and task.
#[must_use]
pub fn list_line(record: &Trajectory, paint: Paint) -> String {
    let end = format!("{}: {}", record.end.name(), record.end.cause());
    let end = format!("{:<32}", escaped(&end));
    let end = if end.starts_with("failed") { paint.bad(end) } else { end };
    let reward = record.reward.map_or_else(|| "unscored".to_owned(), number);
    let seed = record.seed.map_or_else(|| "-".to_owned(), |seed| seed.to_string());
    let us = record.timing.ended_us.saturating_sub(record.timing.started_us);
    format!(
        "{} {end} {:>6} steps  {reward:>10}  {:>10}  seed {seed}  {}",
        paint.strong(format_args!("{:<24}", escaped(&record.trajectory_id))),
        record.steps.len(),
        time(us as f64),
        crate::folded(&record.task_id, Some(60)),
    )
    .trim_end()
    .to_owned()
}

/// The same for programs, as an object. `docs/inspect.md` describes its keys.
#[must_use]
pub fn list_json(record: &Trajectory) -> Value {
    let timing = &record.timing;
    json!({
        "trajectory_id": record.trajectory_id,
        "job_id": record.job_id,
        "group_id": record.group_id,
        "sample_index": record.sample_index,
        "task_id": record.task_id,
        "seed": record.seed,
        "server": record.provenance.server,
        "end": record.end.name(),
        "cause": record.end.cause(),
        "steps": record.steps.len(),
        "reward": record.reward,
        "attempts": record.attempts.len(),
        "tokens": record.tokens.token_ids.len(),
        "duration_us": timing.ended_us.saturating_sub(timing.started_us),
        "content_hash": record.content_hash.to_string(),
    })
}
