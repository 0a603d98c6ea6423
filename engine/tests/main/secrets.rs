//! A server that wants to know who asks, and every command that reaches servers with a token that is in a file.

use std::{fs, path::Path};

use envmill_client::wire;
use envmill_testing::{EnvmillCommand, Finished, PythonServer, Watchdog};
use tempfile::TempDir;

use crate::{
    gateway::Serving,
    rig::{BOUND, ENVMILL, server_with},
    service::rig::{Service, play, with_runtime},
};

/// A server, and the file of its token.
struct Guarded {
    server: PythonServer,
    directory: TempDir,
}

impl Guarded {
    fn start() -> Self {
        let (server, directory) =
            (server_with("guarded_env", &[("TOKEN", "s3cret")]), TempDir::new().unwrap());
        fs::write(directory.path().join("token"), "s3cret\n").unwrap();
        Self { server, directory }
    }

    fn token(&self) -> String {
        self.directory.path().join("token").display().to_string()
    }
}

/// Runs a command, none of which may say the secret.
fn run(line: &str, more: &[&str], directory: &Path) -> Finished {
    let command = EnvmillCommand::new(ENVMILL).args(line.split_whitespace()).args(more);
    let finished = command.current_dir(directory).run().unwrap();
    assert!(!format!("{finished:?}").contains("s3cret"), "{line}: {finished:?}");
    finished
}

#[test]
fn every_command_finds_its_token_in_a_file() {
    let _watchdog = Watchdog::start("tokens in files", BOUND);
    let guarded = Guarded::start();
    let (url, token, directory) = (guarded.server.url(), guarded.token(), guarded.directory.path());
    let played =
        format!("run --quiet --env {url} --policy constant:{{}} --episodes 4 --max-steps 3");
    for line in [
        format!("{played} --out known"),
        format!("inspect known --replay {url}"),
        format!("bench {url} --policy constant:{{}} --sessions 1 --measure-s 0.1 --warm-up-s 0"),
        format!("check {url} --actions [{{}},{{}}] --only protocol --quick --quiet"),
    ] {
        let finished = run(&line, &["--bearer-file", &token], directory);
        assert_eq!(finished.code(), Some(0), "{line}: {finished:?}");
    }
    let unknown = run(&format!("{played} --attempts 1 --out unknown"), &[], directory);
    assert_ne!(unknown.code(), Some(0), "{unknown:?}");
    let gateway = Serving::start(&[&guarded.server], &["--bearer-file", &token]);
    let line = played.replace(&url, &gateway.url());
    let behind = run(&format!("{line} --out behind"), &[], directory);
    assert_eq!(behind.code(), Some(0), "{behind:?}");
}

#[test]
fn a_service_finds_the_token_of_an_environment_in_a_file() {
    let _watchdog = Watchdog::start("the token of an environment", BOUND);
    let guarded = Guarded::start();
    let (url, token) = (guarded.server.url(), guarded.token());
    let table = format!("[environments.guarded]\nenv = {url:?}\nbearer-file = {token:?}\n");
    let service = Service::start(&table);
    let action = Some(wire::policy::Policy::Constant("{}".into()));
    let job = wire::SubmitJob {
        environment: "guarded".into(),
        episodes: 2,
        policy: Some(wire::Policy { policy: action }),
        limits: Some(wire::Limits { max_steps: 3, ..wire::Limits::default() }),
        ..wire::SubmitJob::default()
    };
    let records = with_runtime(async { play(service.client(), job).await });
    let steps: Vec<_> = records.iter().map(|record| record.steps.len()).collect();
    assert_eq!(steps, [3, 3]);
}

#[test]
fn what_is_wrong_with_a_file_is_said_and_its_content_is_not() {
    let directory = TempDir::new().unwrap();
    for (name, bytes) in
        [("empty", b"\n".as_slice()), ("lines", b"s3cret\ns3cret\n"), ("bytes", b"s3cret\xff\n")]
    {
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    for flag in ["none", "empty", "lines", "bytes"].map(|name| ["--bearer-file", name]) {
        let expected = match flag[1] {
            "none" => "--bearer-file: cannot read none: ",
            "empty" => "--bearer-file: empty is empty: write the secret there",
            "lines" => "--bearer-file: lines has several lines: a secret is one",
            _ => "--bearer-file: bytes is no text in UTF-8",
        };
        for line in [
            "run --env http://127.0.0.1:1 --out none",
            "bench http://127.0.0.1:1",
            "check http://127.0.0.1:1",
            "env serve http://127.0.0.1:1",
        ] {
            let finished = run(line, &flag, directory.path());
            assert_eq!(finished.code(), Some(2), "{line} {flag:?}: {finished:?}");
            assert!(finished.stderr.contains(expected), "{line} {flag:?}: {finished:?}");
        }
    }
    let capture = "capture --policy vllm:http://127.0.0.1:1 --listen 0.0.0.0:0";
    for (more, expected) in [
        (&[][..], "--token-env VARIABLE or --token-file FILE"),
        (&["--token-file", "lines"], "--token-file: lines has several lines"),
        (&["--token-file", "lines", "--token-env", "X"], "either `token-env` or `token-file`"),
        (&["--token-env", "NO_SUCH"], "--token-env: the environment variable NO_SUCH is not set"),
    ] {
        let finished = run(capture, more, directory.path());
        assert_eq!(finished.code(), Some(2), "{more:?}: {finished:?}");
        assert!(finished.stderr.contains(expected), "{more:?}: {finished:?}");
    }
    let command = EnvmillCommand::new(ENVMILL)
        .args([
            "run",
            "--policy",
            "vllm:http://127.0.0.1:1",
            "--env",
            "native:echo",
            "--out",
            "none",
        ])
        .env("VLLM_API_KEY_FILE", "lines")
        .current_dir(directory.path());
    let finished = command.run().unwrap();
    let expected = "--policy: VLLM_API_KEY_FILE: lines has several lines";
    assert!(finished.stderr.contains(expected), "{finished:?}");
    assert!(!format!("{finished:?}").contains("s3cret"), "{finished:?}");
}
