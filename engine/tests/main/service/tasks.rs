//! Task sets, and how jobs play them.

use std::{collections::BTreeMap, fs};

use envmill_client::{
    Event, RolloutsOptions,
    wire::{self, Record},
};
use envmill_testing::{EnvmillCommand, PythonServer, Watchdog};

use super::rig::{Service, THREE_STEPS, with_runtime};
use crate::rig::{BOUND, ENVMILL};

/// What a job plays to its end, in no order.
async fn play(service: &Service, job: wire::SubmitJob) -> Vec<wire::Trajectory> {
    let client = service.client();
    let mut rollouts = client.submit(job, RolloutsOptions::default()).await.unwrap();
    let mut played = Vec::new();
    loop {
        let Event::Delivered(it) = rollouts.next().await.unwrap().unwrap() else { continue };
        rollouts.taken(it.bytes);
        match it.record {
            Record::Trajectory(trajectory) => played.push(*trajectory),
            Record::End(_) => return played,
            _ => {}
        }
    }
}

/// How often each task was played.
fn counted(played: &[wire::Trajectory]) -> BTreeMap<&str, u32> {
    played.iter().fold(BTreeMap::new(), |mut all, it| {
        *all.entry(it.task_id.as_str()).or_default() += 1;
        all
    })
}

#[test]
fn a_split_of_a_real_server_is_played_in_epochs() {
    let _watchdog = Watchdog::start("a split", BOUND);
    let server = PythonServer::of("tasks_env").unwrap();
    let environments = format!(
        "[environments.tasks]\nenv = \"{}\"\nsessions = 4\n[task-sets.train]\n\
         environment = \"tasks\"\nsplit = \"train\"\nweights = {{ \"train/3\" = 0, \"train/4\" = 2 }}\n",
        server.url()
    );
    let service = Service::start(&environments);
    let action = Some(wire::policy::Policy::Constant(THREE_STEPS.into()));
    let job = wire::SubmitJob {
        environment: "tasks".into(),
        task_set: "train".into(),
        epochs: 3,
        policy: Some(wire::Policy { policy: action }),
        ..wire::SubmitJob::default()
    };
    let played = with_runtime(play(&service, job));
    let expected = [("train/0", 3), ("train/1", 3), ("train/2", 3), ("train/4", 6)];
    assert_eq!(counted(&played), BTreeMap::from(expected));
    for it in &played {
        let first = String::from_utf8_lossy(&it.reset.as_ref().unwrap().observation).into_owned();
        assert!(first.contains(&it.task_id), "{first}");
    }
}

#[test]
fn rows_of_parquet_are_played_as_often_as_they_weigh() {
    let _watchdog = Watchdog::start("parquet", BOUND);
    let rows = concat!(env!("CARGO_MANIFEST_DIR"), "/formats/tests/data/tasks.parquet");
    let service = Service::start(&format!(
        "[environments.any]\nenv = \"native:synthetic\"\n[task-sets.rows]\nfile = \"{rows}\"\n\
         weight-key = \"weight\"\n"
    ));
    let job = wire::SubmitJob {
        environment: "any".into(),
        task_set: "rows".into(),
        epochs: 4,
        seed: 7,
        limits: Some(wire::Limits { max_steps: 3, ..wire::Limits::default() }),
        ..wire::SubmitJob::default()
    };
    let played = with_runtime(play(&service, job));
    assert_eq!(counted(&played), BTreeMap::from([("a", 8), ("c", 2)]));
    let a = played.iter().find(|it| it.task_id == "a").unwrap();
    let parameters: serde_json::Value = serde_json::from_slice(&a.reset_parameters).unwrap();
    assert_eq!(parameters["prompt"][0]["content"], "2 + 2 = “?”\n");
    assert_eq!(parameters["answer"], serde_json::json!({"value": 4.0, "unit": null}));
}

#[test]
fn an_environment_without_tasks_is_named() {
    let _watchdog = Watchdog::start("no tasks", BOUND);
    let server = PythonServer::of("bench_env").unwrap();
    for env in [server.url(), "native:echo"] {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("c.toml");
        let text = format!(
            "[service]\nlisten = \"127.0.0.1:0\"\n[environments.a]\nenv = \"{env}\"\n\
             [task-sets.train]\nenvironment = \"a\"\nsplit = \"train\"\n"
        );
        fs::write(&path, text).unwrap();
        let command = EnvmillCommand::new(ENVMILL).args(["serve", "--config"]).arg(&path);
        let finished = command.run().unwrap();
        assert_ne!(finished.code(), Some(0), "{finished:?}");
        let expected = "give them with a `file` in place of the split";
        assert!(
            finished.stderr.contains("`task-sets.train`: ") && finished.stderr.contains(expected),
            "{}",
            finished.stderr
        );
    }
}
