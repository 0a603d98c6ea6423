//! Environments without a server: native ones in this process, Python ones in processes of their own.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use envmill_native::{JsonEdge as _, NativeWorker};
use envmill_openenv::{Tool, ToolsError};
use envmill_protocol::{
    FailureKind, Outcome, Request,
    openenv::tasks::{TaskError, TaskMethod, task_result},
};
use envmill_python_worker::{Gymnasium, Log, OpenEnvClass, Options, PythonWorker, Target};
use envmill_workers::{Asker, ToolSteps};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Fleet, FleetWorker, Member};
use crate::{
    config::{Local, Native, RunOptions},
    harness::{Ends, HarnessOptions},
    run::RunError,
    tasks::Told,
};

/// How long an environment may take to tell of its tasks or tools, its making included.
const ASKED_WITHIN: Duration = Duration::from_mins(2);

/// How many digits of the hash make a fingerprint.
const FINGERPRINT_DIGITS: usize = 32;

/// A native environment, as `copies` servers of the core over one worker.
pub(super) fn native(native: &Native, copies: usize) -> Result<(Fleet, FleetWorker), RunError> {
    let environment = envmill_native::environment(&native.name, &native.parameters)
        .map_err(|error| RunError::Native(Box::new(error)))?;
    let schemas = environment.schemas();
    let fingerprint =
        fingerprint(&[native.to_string().as_bytes(), &schemas.action, &schemas.observation]);
    let member = Member { name: native.to_string(), fingerprint };
    let fleet = Fleet {
        members: vec![member; copies],
        action_schema: schemas.action.clone(),
        remote: None,
    };
    Ok((fleet, FleetWorker::Native(Box::new(environment.worker()))))
}

/// A Python environment, each of whose processes is a server.
pub(super) fn python(
    source: &Local,
    options: &RunOptions,
    logs: &Path,
) -> Result<(Fleet, FleetWorker), RunError> {
    let python = python_options(source, options.python.as_deref(), &options.python_path);
    let Some(mut python) = python else {
        return Err(RunError::Io(std::io::ErrorKind::Unsupported.into()));
    };
    python.production = options.rules.production;
    python.truncated_from.clone_from(&options.truncated_from);
    python.log = Log::File(super::log(logs, 0));
    if let Some(processes) = options.replicas {
        python.set_processes(processes);
    }
    python.start_timeout = options.limits.start;
    // The core says how many go where.
    python.sessions_per_process = options.limits.sessions;
    let processes = python.processes;
    let (worker, description) = PythonWorker::start(python)?;
    let fingerprint = fingerprint(&[
        source.to_string().as_bytes(),
        &description.action_schema,
        &description.observation_schema,
        &description.versions,
    ]);
    let members = (0..processes)
        .map(|number| Member {
            name: format!("{source}#{number}"),
            fingerprint: fingerprint.clone(),
        })
        .collect();
    let fleet = Fleet { members, action_schema: description.action_schema, remote: None };
    Ok((fleet, FleetWorker::Python(Box::new(ToolSteps::new(worker)))))
}

/// The environment of a harness, whose sessions are places for programs.
pub(super) fn harness(options: &HarnessOptions) -> (Fleet, FleetWorker) {
    let environment = Ends::default();
    let action_schema = environment.schemas().action;
    let fingerprint = fingerprint(&[options.to_string().as_bytes(), &action_schema]);
    let members = vec![Member { name: "harness".into(), fingerprint }];
    let worker = FleetWorker::Native(Box::new(NativeWorker::of(environment)));
    (Fleet { members, action_schema, remote: None }, worker)
}

/// How many tasks a split of the environment has, which an environment made for that tells.
pub(super) fn num_tasks(split: &str, worker: &mut FleetWorker) -> Result<u64, RunError> {
    let none = || "it has no tasks of its own; give them with --tasks FILE".to_owned();
    let params = json!({ "split": split });
    match ask_tasks(TaskMethod::NumTasks, &params, worker) {
        Ok(count) => read_tasks(split, &count),
        Err(TaskError::Unsupported) => Err(of_split(split, none())),
        Err(error) => Err(of_split(split, error.to_string())),
    }
}

/// What it says of the tasks from one index up to another.
pub(super) fn task_range(
    split: &str,
    range: Range<u64>,
    worker: &mut FleetWorker,
) -> Result<Told<RunError>, RunError> {
    let params = json!({"split": split, "start": range.start, "stop": range.end});
    match ask_tasks(TaskMethod::GetTaskRange, &params, worker) {
        Ok(tasks) => read_tasks(split, &tasks).map(Told::Bodies),
        Err(TaskError::Unsupported) => Ok(Told::Nothing),
        Err(error @ TaskError::TooLarge(_)) => {
            Ok(Told::TooLarge(of_split(split, error.to_string())))
        }
        Err(error) => Err(of_split(split, error.to_string())),
    }
}

/// The answer of an environment that is made for it.
fn ask_tasks(
    method: TaskMethod,
    params: &Value,
    worker: &mut FleetWorker,
) -> Result<Bytes, TaskError> {
    let request = method.request(&params.to_string());
    let mut asker = Asker::new(worker, ASKED_WITHIN);
    let answer = asker.open().and_then(|()| asker.ask(Request::ToolCall { request }));
    asker.close();
    match answer {
        Ok(Outcome::ToolResult(response)) => task_result(&response),
        // What it has no method for, it refuses.
        Ok(_) => Err(TaskError::Unsupported),
        Err(failure) => Err(match failure.kind {
            FailureKind::Refused => TaskError::Unsupported,
            FailureKind::TooLarge => TaskError::TooLarge(failure.to_string()),
            _ => TaskError::Failed(failure.to_string()),
        }),
    }
}

fn read_tasks<'a, T: Deserialize<'a>>(split: &str, answer: &'a [u8]) -> Result<T, RunError> {
    serde_json::from_slice(answer).map_err(|error| of_split(split, error.to_string()))
}

fn of_split(split: &str, problem: String) -> RunError {
    RunError::Split { split: split.to_owned(), problem }
}

/// The tools of the environment, which one made for that tells.
pub(super) fn tools(members: &[Member], worker: &mut FleetWorker) -> Result<Vec<Tool>, RunError> {
    let mut asker = Asker::new(worker, ASKED_WITHIN);
    let tools = envmill_openenv::list_tools(&mut asker);
    asker.close();
    tools.map_err(|failure| {
        let url = members.first().map(|member| member.name.clone()).unwrap_or_default();
        RunError::Tools(ToolsError::Session { url, failure })
    })
}

/// What the worker of a Python environment is told; `None` if it is none.
pub(crate) fn python_options(
    source: &Local,
    python: Option<&Path>,
    path: &[PathBuf],
) -> Option<Options> {
    let mut options = match source {
        Local::Native(_) => return None,
        Local::OpenEnvClass(source) => {
            let mut options = Options::new(Target::OpenEnvClass(OpenEnvClass {
                class: source.class.clone(),
                action: source.action.clone(),
                observation: source.observation.clone(),
                state: source.state.clone(),
                arguments: source.arguments.clone(),
            }));
            options.threads = source.threads;
            options.start = source.start;
            options
        }
        Local::Gymnasium(source) => {
            let mut options = Options::new(Target::Gymnasium(Gymnasium {
                name: source.name.clone(),
                arguments: source.arguments.clone(),
                vector: source.vector,
            }));
            options.start = source.start;
            if source.vector.is_some() {
                options.set_processes(1);
            }
            options
        }
    };
    if let Some(python) = python {
        options.python = python.to_owned();
    }
    options.path = path.to_vec();
    Some(options)
}

/// What tells an environment from a changed one: 32 hexadecimal digits of BLAKE3.
fn fingerprint(parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut digits = hasher.finalize().to_hex().to_string();
    digits.truncate(FINGERPRINT_DIGITS);
    digits
}
