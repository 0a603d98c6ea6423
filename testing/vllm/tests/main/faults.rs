//! A run whose inference engines are killed and paused.

use std::{
    collections::HashMap,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use envmill_inference::{Control, PauseMode};
use serde_json::Value;

use crate::{
    drift::repository,
    rig::{self, Server},
};

const EPISODES: usize = 80;

#[test]
fn episodes_outlive_one_of_another_vllm() {
    let mut doomed = Server::start("http", rig::port());
    let other = Server::start("http", rig::port());
    let folder = std::env::temp_dir().join(format!("envmill-faults-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let agent = folder.join("agent.toml");
    let options = "[action.parser.text]\nfield = \"message\"\n[limits]\nturn_tokens = 64\n\
        [sampling]\nstreamed = true\n";
    std::fs::write(&agent, options).unwrap();
    let mut run = Command::new(rig::envmill())
        .args([
            "run",
            "--env",
            "openenv-class:words_env:WordsEnv",
            "--quiet",
            "--overwrite",
            "--json",
        ])
        .args(["--episodes", &EPISODES.to_string(), "--sessions", "32"])
        .arg("--python")
        .arg(repository().join(".venv/bin/python"))
        .arg("--python-path")
        .arg(repository().join("testing/python/servers"))
        .args(["--policy", &format!("vllm:{},{}", doomed.url(), other.url())])
        .arg("--agent")
        .arg(&agent)
        .arg("--out")
        .arg(&folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let records = folder.join("trajectories.jsonl");
    let until = |recorded: usize| {
        while rig::lines(&records) < recorded {
            thread::sleep(Duration::from_millis(50));
        }
    };
    until(8);
    doomed.kill();
    until(20);
    // What is under way stays where it is.
    rig::tell(&other, &[Control::Pause(PauseMode::Keep)]);
    thread::sleep(Duration::from_secs(5));
    rig::tell(&other, &[Control::Resume]);
    until(30);
    // What is under way ends, and goes on from its tokens.
    rig::tell(&other, &[Control::Pause(PauseMode::Abort)]);
    thread::sleep(Duration::from_secs(1));
    rig::tell(&other, &[Control::Resume]);
    let mut output = String::new();
    std::io::Read::read_to_string(run.stdout.as_mut().unwrap(), &mut output).unwrap();
    assert!(run.wait().unwrap().success(), "{output}");
    let summary: Value = serde_json::from_str(output.trim()).unwrap();
    assert!(summary["policy"]["continued"].as_f64().unwrap() > 0.0, "{output}");
    let mut ids = HashMap::new();
    for line in std::fs::read_to_string(&records).unwrap().lines() {
        let record = rig::record(line);
        *ids.entry(record["trajectory_id"].to_string()).or_insert(0) += 1;
        assert_eq!(record["end"]["kind"], "completed", "{line}");
        is_whole(&record);
    }
    assert_eq!(ids.len(), EPISODES);
    assert!(ids.values().all(|it| *it == 1));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Each prompt is the one before and what was sampled, and goes on.
fn is_whole(record: &Value) {
    let list = |it: &Value| -> Vec<u64> {
        it.as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).collect()
    };
    let mut before = Vec::new();
    for it in record["generations"].as_array().unwrap() {
        let (prompt, sampled) = (list(&it["prompt_token_ids"]), list(&it["token_ids"]));
        assert!(prompt.starts_with(&before), "{}", record["trajectory_id"]);
        assert!(sampled.len() <= 64, "{} tokens where 64 were asked for", sampled.len());
        assert_eq!(it["logprobs"].as_array().unwrap().len(), sampled.len());
        before = [prompt, sampled].concat();
    }
    assert_eq!(list(&record["tokens"]["token_ids"]), before);
}
