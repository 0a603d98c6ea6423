//! `envmill capture`, as somebody's harness uses it, and what its page shows.

use std::{fs, net::SocketAddr, path::Path};

use envmill_client::wire;
use envmill_testing::{
    EnvmillCommand, Running, Watchdog, free_port, get, post, python, script, wait_until,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    rig::{BOUND, ENVMILL},
    service::{
        rig::{Service, play, with_runtime},
        upstream::Upstream,
    },
};

/// The command, and where it answers.
struct Endpoint {
    running: Running,
    address: SocketAddr,
}

impl Endpoint {
    fn start(upstream: &Upstream, out: &Path) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let policy = upstream.policy();
        let mut running = EnvmillCommand::new(ENVMILL)
            .args(["capture", "--policy", &policy, "--listen", &address.to_string(), "--out"])
            .arg(out)
            .start()
            .unwrap();
        wait_until("it answers", BOUND, || {
            assert!(running.is_running(), "it has ended");
            get(address, "/v1/models").is_ok()
        });
        Self { running, address }
    }

    fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The key of a new episode.
    fn open(&self) -> String {
        let (status, answer) = post(self.address, "/episodes", "{}").unwrap();
        assert_eq!(status, 201);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["base_url"], self.url());
        answer["api_key"].as_str().unwrap().to_owned()
    }

    fn close(&self, key: &str) -> (u16, Value) {
        let asked = json!({"api_key": key}).to_string();
        let (status, answer) = post(self.address, "/episodes/close", &asked).unwrap();
        (status, serde_json::from_str(&answer).unwrap())
    }
}

#[test]
fn a_harness_plays_by_itself_and_is_written_down() {
    let _watchdog = Watchdog::start("envmill capture", BOUND);
    let (upstream, folder) = (Upstream::start(), TempDir::new().unwrap());
    let endpoint = Endpoint::start(&upstream, folder.path());
    let played = EnvmillCommand::new(python().unwrap())
        .arg(script("vllm/capture_flow.py"))
        .arg(endpoint.url())
        .run()
        .unwrap();
    assert_eq!((played.code(), played.stdout.trim()), (Some(0), "ok"), "{played:?}");
    let (second, _third) = (endpoint.open(), endpoint.open());
    let (status, closed) = endpoint.close(&second);
    assert_eq!((status, &closed["reward"]), (200, &Value::Null), "{closed}");
    assert_eq!(endpoint.close(&second).0, 404);
    assert_eq!(post(endpoint.address, "/episodes/close", "nonsense").unwrap().0, 400);
    let url = endpoint.url();
    endpoint.running.terminate();
    let finished = endpoint.running.wait();
    assert_eq!((finished.code(), finished.stdout.trim()), (Some(0), url.as_str()), "{finished:?}");
    // What was open when it ended is there, too.
    let text = fs::read_to_string(folder.path().join("traces.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["reward"], &lines[0]["branches"]), (&json!(0.5), &json!(1)));
    assert_eq!(lines[0]["trace"]["turns"].as_array().unwrap().len(), 3);
    assert_eq!(lines[1], closed);
}

/// The first fence of this language on the page.
fn shown(language: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/capture.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_program_that_the_page_shows_plays_by_hand_and_for_a_service() {
    let _watchdog = Watchdog::start("the page on capture", BOUND);
    let (upstream, folder) = (Upstream::start(), TempDir::new().unwrap());
    let (program, python) = (folder.path().join("agent.py"), python().unwrap());
    fs::write(&program, shown("python")).unwrap();
    let endpoint = Endpoint::start(&upstream, folder.path());
    let key = endpoint.open();
    let played = EnvmillCommand::new(&python)
        .arg(&program)
        .env("OPENAI_BASE_URL", endpoint.url())
        .env("OPENAI_API_KEY", &key)
        .run()
        .unwrap();
    assert_eq!(played.code(), Some(0), "{played:?}");
    let (_, closed) = endpoint.close(&key);
    assert_eq!(closed["trace"]["turns"].as_array().unwrap().len(), 2, "{closed}");

    let tables = shown("toml")
        .replace("vllm:http://127.0.0.1:8000", &upstream.policy())
        .replace("127.0.0.1:7470", "127.0.0.1:0")
        .replace("\"python\"", &format!("{python:?}"))
        .replace("\"agent.py\"", &format!("{program:?}"));
    let service = Service::start(&tables);
    let parameters = json!({"seed": 1}).to_string().into();
    let job = wire::SubmitJob {
        environment: "coder".into(),
        episodes: 4,
        tasks: vec![wire::Task { id: "products".into(), parameters, weight: None }],
        ..wire::SubmitJob::default()
    };
    let played = with_runtime(async { play(service.client(), job).await });
    assert_eq!(played.len(), 4);
    for it in &played {
        assert_eq!(it.end.as_ref().unwrap().kind, "completed", "{it:?}");
        assert_eq!((it.reward, it.generations.len()), (Some(0.0), 2), "its model counts badly");
        let left: Value = serde_json::from_slice(&it.steps[0].action).unwrap();
        assert_eq!(left["metadata"], json!({"task": "products"}));
    }
}
