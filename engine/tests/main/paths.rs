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
