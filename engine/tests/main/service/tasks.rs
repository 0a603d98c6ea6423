//! Task sets, and how jobs play them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, Mutex},
};

use envmill_client::{
    Event, RolloutsOptions,
    wire::{self, Record, step_batch_response::Response},
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
fn tasks_are_named_as_their_server_names_them() {
    let _watchdog = Watchdog::start("named tasks", BOUND);
    let server = PythonServer::of("named_tasks_env").unwrap();
    let service = Service::start(&format!(
        "[environments.tasks]\nenv = \"{}\"\nsessions = 4\n[task-sets.train]\n\
         environment = \"tasks\"\nsplit = \"train\"\nweights = {{ \"word-3\" = 0 }}\n",
        server.url()
    ));
    let action = Some(wire::policy::Policy::Constant(THREE_STEPS.into()));
    let job = wire::SubmitJob {
        environment: "tasks".into(),
        task_set: "train".into(),
        epochs: 1,
        policy: Some(wire::Policy { policy: action }),
        ..wire::SubmitJob::default()
    };
    let played = with_runtime(play(&service, job));
    let expected = ["word-0", "word-1", "word-2", "word-4"].map(|name| (name, 1));
    assert_eq!(counted(&played), BTreeMap::from(expected));
    for it in &played {
        let first = String::from_utf8_lossy(&it.reset.as_ref().unwrap().observation).into_owned();
        let number: usize = it.task_id.strip_prefix("word-").unwrap().parse().unwrap();
        let payload = format!("\"payload\":\"train/{number}/{}\"", "x".repeat(number));
        assert!(first.contains(&payload), "{first}");
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
    for env in [server.url(), "native:echo".to_owned()] {
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

/// What a trainer has seen of a job in all lives of the engine.
#[derive(Debug, Default)]
struct Seen {
    /// The tasks that groups were started with, as their members showed them to the policy.
    started: BTreeMap<u64, BTreeSet<String>>,
    /// The tasks of episodes, as recorded.
    recorded: BTreeMap<String, (u64, String)>,
    /// Those of groups.
    groups: BTreeMap<u64, String>,
    has_ended: bool,
}

/// Decides for a job until its stream breaks: the first three tasks of the split are always worth 2, and the
/// others 1 or 2.
async fn decide(mut turns: envmill_client::Turns, seen: Arc<Mutex<Seen>>) {
    let answers = turns.answers();
    let mut tasks = BTreeMap::new();
    while let Ok(Some(response)) = turns.next().await {
        let Response::Turns(batch) = response else { continue };
        let mut actions = Vec::new();
        for turn in batch.turns {
            if turn.step == 0 {
                let shown: serde_json::Value = serde_json::from_slice(&turn.observation).unwrap();
                let task = shown["payload"].as_str().unwrap().to_owned();
                seen.lock().unwrap().started.entry(turn.group_id).or_default().insert(task.clone());
                tasks.insert(turn.episode, task);
            }
            let is_dull =
                ["train/0", "train/1", "train/2"].contains(&tasks[&turn.episode].as_str());
            let steps = if is_dull { 2 } else { 1 + turn.episode % 2 };
            actions.push(wire::Action {
                turn: turn.turn,
                action: format!("{{\"sleep_s\":0.0,\"payload_bytes\":0,\"done_at\":{steps}}}")
                    .into(),
                ..wire::Action::default()
            });
        }
        if answers.answer(actions).await.is_err() {
            return;
        }
    }
}

/// Plays a job on until so many of its groups are over, or it has ended.
async fn play_on(service: &Service, job: &wire::SubmitJob, groups: usize, seen: &Arc<Mutex<Seen>>) {
    let client = service.client();
    let mut rollouts = client.submit(job.clone(), RolloutsOptions::default()).await.unwrap();
    let job_id = rollouts.job_id().to_owned();
    let open = wire::OpenStepBatch { job_id, min_batch: 1, ..wire::OpenStepBatch::default() };
    let turns = client.step_batch(open, BOUND).await.unwrap();
    let deciding = tokio::spawn(decide(turns, Arc::clone(seen)));
    loop {
        let Event::Delivered(it) = rollouts.next().await.unwrap().unwrap() else { continue };
        rollouts.taken(it.bytes);
        let mut seen = seen.lock().unwrap();
        match it.record {
            Record::Trajectory(it) => {
                let played = (it.group_id, it.task_id.clone());
                let before = seen.recorded.insert(it.trajectory_id.clone(), played.clone());
                assert!(before.is_none_or(|before| before == played), "{}", it.trajectory_id);
            }
            Record::Group(it) => {
                seen.groups.insert(it.group_id, it.task_id.clone());
            }
            Record::End(_) => seen.has_ended = true,
            Record::Stale(_) => {}
        }
        if seen.has_ended || seen.groups.len() >= groups {
            break;
        }
    }
    deciding.abort();
}

#[test]
fn what_a_group_plays_outlives_the_engine_while_tasks_are_sampled_by_their_rewards() {
    let _watchdog = Watchdog::start("sampled", BOUND);
    let server = PythonServer::of("tasks_env").unwrap();
    let mut service = Service::start(&format!(
        "[environments.tasks]\nenv = \"{}\"\nsessions = 6\n[task-sets.train]\n\
         environment = \"tasks\"\nsplit = \"train\"\n",
        server.url()
    ));
    let revisit = wire::Revisit { after: 1, at_least_one_in: 8 };
    let trainer = wire::policy::Policy::Trainer(wire::TrainerPolicy {});
    let asked = 90;
    let job = wire::SubmitJob {
        name: "sampled".into(),
        environment: "tasks".into(),
        groups: asked,
        group_rules: Some(wire::GroupRules { samples: 2, ..wire::GroupRules::default() }),
        task_set: "train".into(),
        sampling: Some(wire::TaskSampling { revisit: Some(revisit) }),
        policy: Some(wire::Policy { policy: Some(trainer) }),
        ..wire::SubmitJob::default()
    };
    let seen = Arc::new(Mutex::new(Seen::default()));
    for groups in [7, 20, 41, 66] {
        with_runtime(play_on(&service, &job, groups, &seen));
        service.kill();
        service.begin();
    }
    with_runtime(play_on(&service, &job, usize::MAX, &seen));
    let told = with_runtime(async { service.client().tasks("sampled.1", 0, 0).await.unwrap() });
    let figures = service.figures();
    let seen = seen.lock().unwrap();
    assert!(seen.has_ended);
    assert_eq!((seen.recorded.len(), seen.groups.len()), (2 * asked as usize, asked as usize));
    for (group, task) in &seen.groups {
        // Also what was started and lost had been started with the same task.
        assert_eq!(seen.started[group], BTreeSet::from([task.clone()]), "group {group}");
    }
    for (group, task) in seen.recorded.values() {
        assert_eq!(&seen.groups[group], task);
    }
    let mut groups = BTreeMap::<&str, u64>::new();
    seen.groups.values().for_each(|task| *groups.entry(task.as_str()).or_default() += 1);
    for (task, its) in told.tasks.iter().enumerate() {
        assert_eq!(its.groups, groups[its.id.as_str()], "{its:?}");
        assert!(its.visits >= its.groups, "{its:?}");
        let is_dull = task < 3;
        assert_eq!((its.varied == 0, its.unvaried == 0), (is_dull, !is_dull), "{its:?}");
        assert_eq!(its.one_in, if is_dull { 8 } else { 1 }, "{its:?}");
        assert_eq!(its.reward_mean, Some(if is_dull { 2.0 } else { 1.5 }), "{its:?}");
        assert!(if is_dull { its.groups < 15 } else { its.groups > 25 }, "{its:?}");
    }
    let line = |name: &str| figures.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("envmill_tasks_visited_less{environment=\"tasks\"}").ends_with(" 3"), "{figures}");
    assert!(line("envmill_groups_unvaried_total").contains("tasks"));
}
