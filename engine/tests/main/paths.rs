//! The same environment over every path: the same records.

use std::collections::BTreeSet;

use envmill_protocol::record::ContentHash;

use crate::rig::{Job, server_with};

/// What was played: the hashes of all records.
fn played(name: &str, environment: &str, arguments: &str) -> BTreeSet<[u8; 16]> {
    let python = envmill_testing::python().unwrap();
    let played = Job::on(name, environment)
        .words(arguments)
        .args(["--python".as_ref(), python.as_os_str()])
        .env("PYTHONPATH", envmill_testing::script("servers"))
        .play();
    played.all_played();
    played.records.iter().map(|record| record.content_hash).map(|ContentHash(it)| it).collect()
}

#[test]
fn a_native_environment_plays_the_same_in_process_and_over_a_socket() {
    for name in ["cartpole", "wordguess?hints=true", "frozenlake"] {
        let arguments = "--episodes 40 --sessions 8 --seed 5 --max-steps 40";
        let here = played(name, &format!("native:{name}"), arguments);
        assert_eq!(here.len(), 40, "{name}");
        assert_eq!(here, played(name, &format!("serve:{name}"), arguments), "{name}");
    }
}

#[test]
fn a_gymnasium_environment_plays_the_same_in_processes_and_behind_our_front() {
    let environment = "python:gymnasium/CartPole-v1?arguments={\"max_episode_steps\":15}";
    let arguments = "--episodes 40 --sessions 8 --seed 5";
    let processes = played("processes", environment, arguments);
    assert_eq!(processes.len(), 40);
    assert_eq!(processes, played("front", &format!("serve:{environment}"), arguments));
}

#[test]
fn a_vectorised_environment_plays_like_single_ones() {
    let arguments = "--episodes 40 --sessions 8 --seed 5";
    let single = "python:gymnasium/CartPole-v1?arguments={\"max_episode_steps\":15}";
    let single = played("single", single, arguments);
    assert_eq!(single.len(), 40);
    // Rows that can be reset one by one, with a seed each; fewer than there are sessions.
    let rows = "python:gymnasium:make_vec?vector=3&arguments=\
                {\"id\":\"CartPole-v1\",\"vectorization_mode\":\"sync\",\"max_episode_steps\":15}";
    assert_eq!(single, played("rows", rows, arguments));
    let served = format!("serve:{rows}");
    assert_eq!(single, played("served", &served, "--episodes 40 --sessions 3 --seed 5"));
}

#[test]
fn rows_that_begin_by_themselves_make_whole_episodes() {
    let of = |name: &str, arguments: &str| {
        let played = Job::on(name, "python:gymnasium/CartPole-v1?vector=4")
            .words(arguments)
            .args(["--python".as_ref(), envmill_testing::python().unwrap().as_os_str()])
            .play();
        played.all_played();
        played
    };
    // An episode begins near the middle, and ends outside of what is allowed, or is cut.
    let ended = of("ended", "--episodes 60 --sessions 8 --seed 5");
    for record in &ended.records {
        let first: Seen =
            serde_json::from_slice(&record.reset.as_ref().unwrap().observation).unwrap();
        assert!(first.observation.iter().all(|number| number.abs() <= 0.05), "{first:?}");
        let last = &record.steps.last().unwrap().observed.observation;
        let last: Seen = serde_json::from_slice(last).unwrap();
        assert!(last.observation[0].abs() > 2.4 || last.observation[2].abs() > 0.209, "{last:?}");
    }
    let cut = of("cut", "--episodes 60 --sessions 8 --seed 5 --max-steps 4");
    assert_eq!(cut.episodes("truncated"), 60);
}

#[derive(Debug, serde::Deserialize)]
struct Seen {
    observation: [f64; 4],
}

#[test]
fn a_class_plays_the_same_in_processes_behind_our_front_and_behind_its_own_server() {
    let arguments = "--episodes 40 --sessions 8 --seed 5 --max-steps 6 --policy random";
    let server = server_with("choice_env", &[]);
    let theirs = played("its own server", &server.url(), arguments);
    assert_eq!(theirs.len(), 40);
    let class = "openenv-class:choice_env:ChoiceEnv";
    assert_eq!(theirs, played("processes", class, arguments));
    let spawned = format!("{class}?start=spawn&threads=session");
    assert_eq!(theirs, played("threads", &spawned, arguments));
    assert_eq!(theirs, played("our front", &format!("serve:{class}"), arguments));
}

#[test]
fn a_class_tells_its_tasks_and_tools_without_a_server() {
    let server = server_with("tools_env", &[]);
    let arguments = "--episodes 20 --sessions 4 --seed 5 --policy random";
    let theirs = played("its own server", &server.url(), arguments);
    assert_eq!(theirs.len(), 20);
    let class = "openenv-class:tools_env:ToolsEnv?action=tools_env:CallToolAction&observation=\
                 tools_env:CallToolObservation";
    assert_eq!(theirs, played("processes", class, arguments));

    let tasks = Job::on("tasks", "openenv-class:tasks_env:TasksEnv")
        .words("--episodes 5 --split train --max-steps 1 --python")
        .args([envmill_testing::python().unwrap()])
        .env("PYTHONPATH", envmill_testing::script("servers"))
        .play();
    tasks.all_played();
    let ids: BTreeSet<&str> = tasks.records.iter().map(|it| it.task_id.as_str()).collect();
    assert_eq!(ids, BTreeSet::from(["train/0", "train/1", "train/2", "train/3", "train/4"]));
    for record in &tasks.records {
        let first = String::from_utf8_lossy(&record.reset.as_ref().unwrap().observation);
        assert!(first.contains(&format!("\"payload\":\"{}\"", record.task_id)), "{first}");
    }

    let named = Job::on("named tasks", "openenv-class:named_tasks_env:NamedTasksEnv")
        .words("--epochs 1 --split train --max-steps 1 --python")
        .args([envmill_testing::python().unwrap()])
        .env("PYTHONPATH", envmill_testing::script("servers"))
        .play();
    let ids: BTreeSet<&str> = named.records.iter().map(|it| it.task_id.as_str()).collect();
    assert_eq!(ids, BTreeSet::from(["word-0", "word-1", "word-2", "word-3", "word-4"]));

    let none = Job::on("none", "native:echo").words("--split train").refused();
    assert!(none.contains("--tasks FILE"), "{none}");
}
