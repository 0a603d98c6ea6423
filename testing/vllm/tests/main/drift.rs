//! Episodes of many turns whose records are compared with what vLLM's engine has seen, and scored again.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use crate::rig::{self, Server};

/// Weights are exchanged once so many prompts have reached the engine.
const SWAPPED_AFTER: usize = 40;

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |it| it.parse().unwrap())
}

#[test]
fn records_say_what_the_model_saw_and_said() {
    let (episodes, sessions) =
        (number("ENVMILL_DRIFT_EPISODES", 60), number("ENVMILL_DRIFT_SESSIONS", 32));
    let folder = std::env::temp_dir().join(format!("envmill-drift-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let server = rig::python();
    rig::exchange_weights(&server, "tiny-qwen2", 0);
    let log = rig::engine_log();
    std::fs::write(&log, "").unwrap();
    let agent = folder.join("agent.toml");
    let options = "system = \"You answer.\"\n[action.parser.text]\nfield = \"message\"\ntrim = false\n\
        [limits]\nturn_tokens = 24\n";
    std::fs::write(&agent, options).unwrap();
    let mut run = Command::new(rig::envmill())
        .args(["run", "--env", "openenv-class:words_env:WordsEnv", "--quiet", "--overwrite"])
        .args(["--episodes", &episodes.to_string(), "--sessions", &sessions.to_string()])
        .arg("--python")
        .arg(repository().join(".venv/bin/python"))
        .arg("--python-path")
        .arg(repository().join("testing/python/servers"))
        .args(["--policy", &format!("vllm-http:{}", server.url())])
        .arg("--agent")
        .arg(&agent)
        .arg("--out")
        .arg(&folder)
        .stdout(Stdio::inherit())
        .spawn()
        .unwrap();
    while rig::lines(&log) < SWAPPED_AFTER {
        assert!(
            run.try_wait().unwrap().is_none(),
            "the run ended before there were weights to exchange"
        );
        thread::sleep(Duration::from_millis(20));
    }
    rig::exchange_weights(&server, "tiny-qwen2-b", 1);
    assert!(run.wait().unwrap().success());
    let records = folder.join("trajectories.jsonl");
    assert_eq!(rig::lines(&records), episodes);
    // What checks asks the same engine, and must not add to what it has seen.
    let seen = folder.join("seen.jsonl");
    std::fs::copy(&log, &seen).unwrap();
    let check = |plant: &[&str]| check(&server, &records, &seen, plant);
    let clean = check(&[]);
    println!("{}", String::from_utf8_lossy(&clean.stdout));
    assert!(clean.status.success(), "{}", String::from_utf8_lossy(&clean.stderr));
    for spoiled in ["mask", "turn", "version"] {
        let said = check(&["--plant", spoiled]);
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(
            !said.status.success() && text.contains("WRONG"),
            "a wrong {spoiled} went unnoticed: {text}"
        );
    }
    rig::exchange_weights(&server, "tiny-qwen2", 0);
    std::fs::remove_dir_all(&folder).unwrap();
}

fn check(server: &Server, records: &Path, log: &Path, more: &[&str]) -> Output {
    let weights = |name: &str| rig::folder().join(name).to_str().unwrap().to_owned();
    Command::new("python3")
        .arg(repository().join("testing/python/vllm/drift.py"))
        .arg(records)
        .arg(log)
        .arg(server.url())
        .args(["--weights", &format!("0={}", weights("tiny-qwen2"))])
        .args(["--weights", &format!("1={}", weights("tiny-qwen2-b"))])
        .args(more)
        .output()
        .unwrap()
}
