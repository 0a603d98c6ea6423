//! `envmill capture`, as a harness uses it.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use crate::{drift::repository, rig};

#[test]
fn a_harness_plays_by_itself() {
    let server = rig::python();
    let folder = std::env::temp_dir().join(format!("envmill-harness-{}", std::process::id()));
    let mut endpoint = Command::new(rig::envmill())
        .args(["capture", "--policy", &format!("vllm-http:{}", server.url())])
        .args(["--listen", "127.0.0.1:0", "--out"])
        .arg(&folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(endpoint.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let played = Command::new(repository().join(".venv/bin/python"))
        .arg(repository().join("testing/python/vllm/capture_flow.py"))
        .arg(url.trim())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&played.stderr);
    assert!(played.status.success(), "{said}");
    // What is open when it ends is kept, too.
    let opened = Command::new("curl")
        .args(["-sf", "-X", "POST", &format!("{}/episodes", url.trim().trim_end_matches("/v1"))])
        .output()
        .unwrap();
    assert!(opened.status.success());
    let told = Command::new("kill").args(["-INT", &endpoint.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert!(endpoint.wait().unwrap().success());
    assert_eq!(rig::lines(&folder.join("traces.jsonl")), 2);
    std::fs::remove_dir_all(&folder).unwrap();
}
