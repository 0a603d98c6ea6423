//! A job's tasks, as a trainer asks for them.

use std::collections::BTreeMap;

use envmill_core::{Task, Tasks, Weight};
use envmill_wire as wire;

use crate::{
    refusal::Refusal,
    request::{EPISODES_MAX, check_object},
};

/// The tasks of a job. Those of the task set that it names, if one, become its own: they go into the journal
/// with it, since the file may change, and the job may not. What has no weight is left out.
pub(crate) fn read(
    job: &mut wire::SubmitJob,
    task_sets: &BTreeMap<String, Tasks>,
) -> Result<Tasks, Refusal> {
    if !job.task_set.is_empty() && job.tasks.is_empty() {
        let set = task_sets.get(&job.task_set).ok_or_else(|| {
            let names: Vec<_> = task_sets.keys().map(String::as_str).collect();
            Refusal::argument(format!(
                "task_set: there is no `{}` in the engine's configuration, which has {}",
                job.task_set,
                if names.is_empty() { "none".into() } else { names.join(", ") }
            ))
        })?;
        job.tasks = set.as_slice().iter().map(message).collect();
        return Ok(set.clone());
    }
    let asked = job.tasks.len();
    let tasks = job.tasks.iter().enumerate().map(|(number, task)| one(number, task));
    let tasks = Tasks::new(tasks.collect::<Result<_, _>>()?);
    if asked > 0 && tasks.is_empty() {
        return Err(Refusal::argument("tasks: all of them have the weight 0"));
    }
    job.tasks.retain(|task| task.weight != Some(0.0));
    tasks.check().map_err(|error| Refusal::argument(format!("tasks: {error}")))?;
    Ok(tasks)
}

fn one(number: usize, task: &wire::Task) -> Result<Task, Refusal> {
    check_object(&format!("tasks[{number}].parameters"), &task.parameters)?;
    let weight = task.weight.map_or(Ok(Weight::ONE), Weight::new);
    let weight =
        weight.map_err(|error| Refusal::argument(format!("tasks[{number}].weight: {error}")))?;
    Ok(Task { id: task.id.clone(), parameters: task.parameters.clone(), weight })
}

fn message(task: &Task) -> wire::Task {
    wire::Task {
        id: task.id.clone(),
        parameters: task.parameters.clone(),
        weight: (task.weight != Weight::ONE).then(|| task.weight.as_f64()),
    }
}

/// Turns rounds into the groups, or the episodes, that they have.
pub(crate) fn count_epochs(job: &mut wire::SubmitJob, tasks: &Tasks) -> Result<(), Refusal> {
    if job.epochs == 0 {
        return Ok(());
    }
    if tasks.is_empty() {
        return Err(Refusal::argument("epochs: rounds of tasks: give `tasks` or a `task_set`"));
    }
    let plays = match tasks.plays(job.seed, job.epochs) {
        Some(0) => {
            return Err(Refusal::argument(format!(
                "epochs: {} rounds of tasks of such small weights have nothing to play",
                job.epochs
            )));
        }
        Some(plays @ ..=EPISODES_MAX) => plays,
        _ => {
            return Err(Refusal::argument(format!(
                "epochs: at most {EPISODES_MAX} episodes in one job"
            )));
        }
    };
    let has_groups = job.groups > 0 || job.group_rules.is_some();
    let (what, said) = match has_groups {
        true => ("groups", &mut job.groups),
        false => ("episodes", &mut job.episodes),
    };
    if *said != 0 && *said != plays {
        return Err(Refusal::argument(format!(
            "epochs: {} of them are {plays} {what}, and `{what}` says {said}: say one of the two",
            job.epochs
        )));
    }
    *said = plays;
    Ok(())
}
