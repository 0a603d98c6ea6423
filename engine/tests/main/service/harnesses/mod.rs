//! Harnesses as environments: real programs of the `openai` package, a real service, and a trainer.

mod plays;
mod scores;
mod versions;

use std::{collections::BTreeMap, fs, path::Path};

use envmill_client::{RolloutsOptions, wire};
use envmill_testing::{python, script, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    rig::{Service, play, with_runtime},
    upstream::Upstream,
};
use crate::rig::BOUND;

/// A service with one harness, `agent`, over an inference engine.
struct Rig {
    service: Service,
    upstream: Upstream,
    /// What programs and tests have in common.
    shared: TempDir,
}

impl Rig {
    /// `more` are further keys of the harness, and tables behind it.
    fn start(more: &str) -> Self {
        let (upstream, shared) = (Upstream::start(), TempDir::new().unwrap());
        let command = [
            python().unwrap().display().to_string(),
            script("harness.py").display().to_string(),
            shared.path().display().to_string(),
        ];
        let table = format!(
            "[harnesses.agent]\npolicy = {:?}\ncommand = {command:?}\nsessions = 4\n\
             env = {{ COPY_OF_KEY = \"{{api_key}}\" }}\n{more}\n",
            upstream.policy()
        );
        let secrets = [("VLLM_API_KEY", "s3cret")];
        Self { service: Service::with_variables(&table, &secrets), upstream, shared }
    }

    fn play(&self, job: wire::SubmitJob) -> Vec<wire::Trajectory> {
        with_runtime(async { play(self.service.client(), job).await })
    }

    /// Waits until so many programs have told that they are there: their processes.
    fn processes(&self, name: &str, count: usize) -> Vec<u32> {
        let files = || -> Vec<_> {
            let files = fs::read_dir(self.shared.path()).unwrap().map(|it| it.unwrap().path());
            let is_its = |it: &Path| {
                let name_of = it.file_name().unwrap().to_string_lossy().into_owned();
                name_of.starts_with(name) && it.extension().is_none()
            };
            files.filter(|it| is_its(it)).collect()
        };
        wait_until("programs are there", BOUND, || files().len() >= count);
        let read = |path| fs::read_to_string(path).unwrap();
        let numbers =
            |text: String| -> Vec<u32> { text.split(' ').map(|it| it.parse().unwrap()).collect() };
        files().into_iter().map(read).flat_map(numbers).collect()
    }

    /// The programs of a job that waits, once so many are there and that they have begun is on disk.
    fn begun(&self, job: wire::SubmitJob, count: usize) -> Vec<u32> {
        with_runtime(async {
            let client = self.service.client();
            let rollouts = client.submit(job, RolloutsOptions::default()).await.unwrap();
            let processes = self.processes("waits", count);
            // It changes nothing, and is answered when all before it is on disk.
            rollouts.wishes().resume().await.unwrap();
            processes
        })
    }

    fn forget(&self) {
        for file in fs::read_dir(self.shared.path()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
}

fn all_are_gone(processes: &[u32]) {
    assert!(!processes.is_empty());
    let is_gone = |pid: &u32| {
        // One that has ended may be waited for by nobody yet.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.map_or(true, |it| it.contains(") Z "))
    };
    wait_until("no process is left", BOUND, || processes.iter().all(is_gone));
}

/// A task of each of these kinds, in this order.
fn job(name: &str, tasks: &[(&str, Value)]) -> wire::SubmitJob {
    let tasks = tasks.iter().enumerate().map(|(index, (what, parameters))| {
        let mut parameters = parameters.clone();
        parameters["what"] = json!(what);
        // Told apart by the seed, since they are played in an order of the job's own.
        parameters["seed"] = json!(index);
        let parameters = parameters.to_string().into();
        wire::Task { id: (*what).into(), parameters, weight: None }
    });
    let tasks: Vec<_> = tasks.collect();
    wire::SubmitJob {
        name: name.into(),
        environment: "agent".into(),
        episodes: tasks.len() as u64,
        tasks,
        ..wire::SubmitJob::default()
    }
}

fn by_task(trajectories: Vec<wire::Trajectory>) -> BTreeMap<String, wire::Trajectory> {
    trajectories.into_iter().map(|it| (it.task_id.clone(), it)).collect()
}

fn end(trajectory: &wire::Trajectory) -> (&str, &str) {
    let end = trajectory.end.as_ref().unwrap();
    (&end.kind, &end.cause)
}

fn message(trajectory: &wire::Trajectory) -> &str {
    &trajectory.end.as_ref().unwrap().message
}

/// What its program left.
fn report(trajectory: &wire::Trajectory) -> Value {
    let [step] = &trajectory.steps[..] else { panic!("{trajectory:?}") };
    serde_json::from_slice(&step.action).unwrap()
}
