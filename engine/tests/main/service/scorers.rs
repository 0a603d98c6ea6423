//! Rewards from outside: real Python processes, and a real server.

use std::{fs, path::Path, process::Command};

use envmill_client::{Client, Event, RolloutsOptions, wire};
use envmill_testing::{Processes, Watchdog, free_port, python, script, wait_until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::rig::{Service, play, with_runtime};
use crate::rig::BOUND;

/// What these functions are called with is an episode's number, which is that of its group.
pub(crate) const REWARDS: &str = r#"
import asyncio, os, pathlib, sys, time

here = pathlib.Path(__file__).parent

def parts(episodes):
    print("printing is no way to answer", flush=True)
    os.write(1, b"nor is this")
    assert sys.stdin.read() == ""
    return [
        {"reward": 99, "components": {"steps": len(it["steps"]), "half": 0.5, "other": it["reward"]}}
        for it in episodes
    ]

async def later(episodes):
    await asyncio.sleep(0.01)
    return [float(len(it["steps"])) if it["end"]["kind"] == "truncated" else 100 for it in episodes]

def strange(episodes):
    answers = {
        0: None,
        1: float("nan"),
        2: "text",
        3: {"components": {"a": "b"}},
        4: {"error": "cannot be judged"},
        5: {"components": {"a": 1}},
        6: {},
        7: [1],
        8: {"reward": float("inf")},
    }
    return [answers.get(it["group_id"], 7) for it in episodes]

def poisoned(episodes):
    for it in episodes:
        if it["group_id"] == 3:
            raise ValueError("boom")
        if it["group_id"] == 11:
            os._exit(5)
    return [1] * len(episodes)

def hangs(episodes):
    with open(here / "pids", "a") as file:
        file.write(f"{os.getpid()}\n")
    if episodes[0]["group_id"] == 2:
        time.sleep(600)
    return [1]

def short(episodes):
    return [1] * (len(episodes) - 1)

def mapping(episodes):
    return {}

def waits(episodes):
    (here / "called").write_text(str(os.getpid()))
    while not (here / "go").exists():
        time.sleep(0.01)
    return [1] * len(episodes)

def advantage(episodes):
    assert len({it["group_id"] for it in episodes}) == 1
    assert [it["sample_index"] for it in episodes] == sorted(it["sample_index"] for it in episodes)
    mean = sum(it["reward"] for it in episodes) / len(episodes)
    return [
        {"reward": it["reward"] - mean, "components": {"seen": len(episodes)}} for it in episodes
    ]

number = 3
"#;

/// The server of `score_server.py`, with these arguments behind its port.
pub(crate) fn score_server(arguments: &[std::path::PathBuf]) -> (Processes, u16) {
    let port = free_port().unwrap();
    let mut server = Command::new(python().unwrap());
    server.arg(script("score_server.py")).arg(port.to_string()).args(arguments);
    let server = Processes::spawn(&mut server).unwrap();
    let is_there = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    wait_until("the scorer is there", BOUND, is_there);
    (server, port)
}

/// A service with these scorers beside `rewards.py`, which belongs to them.
struct Scored {
    service: Service,
    directory: TempDir,
}

impl Scored {
    /// `tables` are the scorers' tables, without what says where Python and its modules are.
    fn start(tables: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("rewards.py"), REWARDS).unwrap();
        let mut configuration = "[environments.cartpole]\nenv = \"native:cartpole\"\n".to_owned();
        for (name, table) in tables {
            configuration += &format!("[scorers.{name}]\n{table}\n");
            if table.contains("python") {
                configuration += &python_keys(directory.path());
            }
        }
        Self { service: Service::start(&configuration), directory }
    }

    /// Plays a job to its end.
    fn play(&self, job: wire::SubmitJob) -> Vec<wire::Trajectory> {
        with_runtime(async { play(self.service.client(), job).await })
    }
}

fn python_keys(path: &Path) -> String {
    format!("interpreter = {:?}\npython-path = [{path:?}]\n", python().unwrap())
}

fn job(scorer: &str, episodes: u64) -> wire::SubmitJob {
    wire::SubmitJob {
        name: scorer.into(),
        environment: "cartpole".into(),
        episodes,
        scorer: scorer.into(),
        limits: Some(wire::Limits { max_steps: 6, ..wire::Limits::default() }),
        ..wire::SubmitJob::default()
    }
}

/// Of each episode its reward, or why it failed.
fn rewards(trajectories: &[wire::Trajectory]) -> Vec<Result<Option<f64>, String>> {
    let reward = |it: &wire::Trajectory| {
        let end = it.end.as_ref().unwrap();
        if end.kind != "failed" {
            return Ok(it.reward);
        }
        assert_eq!(end.cause, "scorer");
        Err(end.message.clone())
    };
    trajectories.iter().map(reward).collect()
}

fn components(trajectory: &wire::Trajectory) -> Vec<(&str, f64)> {
    trajectory.reward_components.iter().map(|it| (it.name.as_str(), it.value)).collect()
}

#[test]
fn a_python_function_says_what_episodes_were_worth() {
    let _watchdog = Watchdog::start("python scorers", BOUND);
    let scored = Scored::start(&[
        ("parts", "python = \"rewards:parts\"\nweights = { steps = 2, half = -1 }"),
        ("later", "python = \"rewards:later\"\nprocesses = 2"),
    ]);
    for it in scored.play(job("parts", 100)) {
        let steps = it.steps.len() as f64;
        assert_eq!(it.reward, Some(2.0 * steps - 0.5));
        assert_eq!(components(&it), [("half", 0.5), ("other", steps), ("steps", steps)]);
    }
    for it in scored.play(job("later", 100)) {
        assert_eq!((it.reward, components(&it).len()), (Some(it.steps.len() as f64), 0));
    }
    let log = fs::read_to_string(scored.service.path("envmill-store/scorers/parts.log")).unwrap();
    assert!(log.contains("printing is no way to answer\nnor is this"), "{log}");
}

#[test]
fn what_is_no_score_is_said_and_what_is_missing_is_not_zero() {
    let _watchdog = Watchdog::start("strange scores", BOUND);
    let scored = Scored::start(&[
        ("strange", "python = \"rewards:strange\""),
        ("short", "python = \"rewards:short\""),
        ("mapping", "python = \"rewards:mapping\""),
    ]);
    let played = scored.play(job("strange", 10));
    let rewards_of = rewards(&played);
    for (number, expected) in [
        (
            1,
            "scorer strange: a score is a finite number, a dict or None, not this float: it is nan",
        ),
        (2, "not this str: it is text"),
        (3, "the component a is no finite number: it is text"),
        (4, "scorer strange: cannot be judged"),
        (7, "not this list"),
        (8, "the reward is no finite number: it is inf"),
    ] {
        let message = rewards_of[number].as_ref().unwrap_err();
        assert!(message.contains(expected), "{number}: {message}");
    }
    for missing in [0, 5, 6] {
        assert_eq!(rewards_of[missing], Ok(None));
    }
    assert_eq!(components(&played[5]), [("a", 1.0)]);
    assert_eq!(rewards_of[9], Ok(Some(7.0)));
    for (scorer, expected) in [("short", "scores for"), ("mapping", "gave a dict, not a list")] {
        for reward in rewards(&scored.play(job(scorer, 3))) {
            let message = reward.unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}

#[test]
fn episodes_that_break_a_scorer_take_no_others_with_them() {
    let _watchdog = Watchdog::start("poisoned", BOUND);
    let scored = Scored::start(&[
        ("poisoned", "python = \"rewards:poisoned\"\nretries = 1"),
        ("hangs", "python = \"rewards:hangs\"\nretries = 1\ntimeout-ms = 700\nbatch-max = 1"),
    ]);
    for (number, reward) in rewards(&scored.play(job("poisoned", 40))).into_iter().enumerate() {
        match number {
            3 => {
                let message = reward.unwrap_err();
                assert!(message.contains("ValueError: boom (rewards.py:"), "{message}");
            }
            11 => {
                let message = reward.unwrap_err();
                assert!(message.contains("its process has ended with exit status: 5"), "{message}");
            }
            _ => assert_eq!(reward, Ok(Some(1.0)), "{number}"),
        }
    }
    for (number, reward) in rewards(&scored.play(job("hangs", 5))).into_iter().enumerate() {
        if number == 2 {
            let message = reward.unwrap_err();
            assert!(message.contains("has not answered within 700ms"), "{message}");
        } else {
            assert_eq!(reward, Ok(Some(1.0)), "{number}");
        }
    }
    let pids = fs::read_to_string(scored.directory.path().join("pids")).unwrap();
    let pids: std::collections::BTreeSet<_> = pids.lines().collect();
    assert!(pids.len() >= 3, "those that hung were killed, and others took their place: {pids:?}");
}

#[test]
fn a_server_says_what_episodes_were_worth() {
    let _watchdog = Watchdog::start("http scorers", BOUND);
    let (mut server, port) = score_server(&[]);
    let at = |path: &str| format!("url = \"http://127.0.0.1:{port}/{path}\"\nretries = 2");
    let tables: Vec<_> =
        ["steps", "busy", "picky", "page", "nowhere"].map(|it| (it, at(it))).into();
    let tables: Vec<_> = tables.iter().map(|(name, table)| (*name, table.as_str())).collect();
    let scored = Scored::start(&tables);
    for scorer in ["busy", "steps"] {
        for it in scored.play(job(scorer, 50)) {
            assert_eq!(it.reward, Some(it.steps.len() as f64));
        }
    }
    for (number, reward) in rewards(&scored.play(job("picky", 20))).into_iter().enumerate() {
        match reward {
            Ok(reward) => assert!(number != 3 && reward.is_some(), "{number}"),
            Err(message) => {
                assert!(number == 3 && message.contains("episode 3 cannot be scored"), "{message}");
            }
        }
    }
    let fails = |scorer: &str, expected: &str| {
        for reward in rewards(&scored.play(job(scorer, 3))) {
            let message = reward.unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    };
    fails("page", "its answer is not {\"scores\": […]} in JSON");
    fails("nowhere", "answered 404 Not Found: nothing here");
    server.kill();
    let again = wire::SubmitJob { name: "again".into(), ..job("steps", 3) };
    for reward in rewards(&scored.play(again)) {
        let message = reward.unwrap_err();
        assert!(message.contains("cannot be asked"), "{message}");
    }
}

#[test]
fn a_server_is_told_who_asks_and_trusted_by_its_certificate() {
    let _watchdog = Watchdog::start("scorers that want to know", BOUND);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let ca = write("ca.pem", &authority.pem());
    let token = write("token", "s3cret\n");
    let pems = [write("cert.pem", &certificate.pem()), write("key.pem", &key.serialize_pem())];
    let (_server, port) = score_server(&pems);
    let at = |path: &str, keys: &str| {
        format!("url = \"https://localhost:{port}/{path}\"\nretries = 0\n{keys}")
    };
    let (trusted, known) = (format!("ca = {ca:?}\n"), format!("bearer-file = {token:?}\n"));
    let scored = Scored::start(&[
        ("known", &at("secret", &format!("{trusted}{known}"))),
        ("unknown", &at("secret", &trusted)),
        ("elsewhere", &at("elsewhere", &format!("{trusted}{known}"))),
        ("untrusted", &at("secret", &known)),
    ]);
    for it in scored.play(job("known", 20)) {
        assert_eq!(it.reward, Some(it.steps.len() as f64));
    }
    for (scorer, expected) in [
        ("unknown", "answered 401 Unauthorized: who asks? not None"),
        ("elsewhere", "answered 307 Temporary Redirect: go on"),
        ("untrusted", "cannot be asked"),
    ] {
        for reward in rewards(&scored.play(job(scorer, 2))) {
            let message = reward.unwrap_err();
            assert!(message.contains(expected) && !message.contains("s3cret"), "{message}");
        }
    }
    let wrong = write("wrong.pem", "no certificate");
    let path = write(
        "c.toml",
        &format!(
            "[service]\nlisten = \"127.0.0.1:0\"\n[environments.cartpole]\nenv = \"native:cartpole\"\n\
             [scorers.a]\n{}",
            at("secret", &format!("ca = {wrong:?}\n"))
        ),
    );
    let command = envmill_testing::EnvmillCommand::new(crate::rig::ENVMILL);
    let finished = command.args(["serve", "--config"]).arg(&path).run().unwrap();
    assert_ne!(finished.code(), Some(0));
    assert!(
        finished.stderr.contains("it must hold certificates in PEM form"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_scorer_of_groups_sees_them_whole() {
    let _watchdog = Watchdog::start("group scorers", BOUND);
    let scored = Scored::start(&[(
        "advantage",
        // Fewer than a group has members, which must not keep groups from being filled.
        "python = \"rewards:advantage\"\ngroup = true\nin-flight-max = 2",
    )]);
    let grouped = |name: &str, rules| wire::SubmitJob {
        name: name.into(),
        episodes: 0,
        groups: 30,
        group_rules: Some(rules),
        limits: Some(wire::Limits { sessions: 3, ..wire::Limits::default() }),
        ..job("advantage", 0)
    };
    let rules = wire::GroupRules { samples: 8, ..wire::GroupRules::default() };
    let played = scored.play(grouped("whole", rules));
    assert_eq!(played.len(), 240);
    for group in played.chunks(8) {
        let rewards: Vec<f64> = group.iter().map(|it| it.reward.unwrap()).collect();
        assert!(rewards.iter().sum::<f64>().abs() < 1e-9, "{rewards:?}");
        for it in group {
            assert_eq!((it.group_id, components(it)), (group[0].group_id, vec![("seen", 8.0)]));
        }
    }
    let rules = wire::GroupRules { samples: 4, oversample: 3, ..wire::GroupRules::default() };
    let played = scored.play(grouped("cut", rules));
    for group in played.chunks(7) {
        let used: Vec<_> =
            group.iter().filter(|it| it.end.as_ref().unwrap().kind != "cancelled").collect();
        assert!(used.len() >= 4, "{used:?}");
        assert!(used.iter().all(|it| components(it)[0].1 >= 4.0), "{used:?}");
    }
}

#[test]
fn groups_that_wait_for_members_end_with_their_job() {
    let _watchdog = Watchdog::start("cancelled while scoring", BOUND);
    let scored = Scored::start(&[("advantage", "python = \"rewards:advantage\"\ngroup = true")]);
    let job = wire::SubmitJob {
        episodes: 0,
        groups: 2000,
        group_rules: Some(wire::GroupRules { samples: 8, ..wire::GroupRules::default() }),
        ..job("advantage", 0)
    };
    let ends = with_runtime(async {
        let client = scored.service.client();
        let mut rollouts = client.submit(job, RolloutsOptions::default()).await.unwrap();
        let mut ends = std::collections::BTreeMap::<String, u32>::new();
        loop {
            let Event::Delivered(delivered) = rollouts.next().await.unwrap().unwrap() else {
                continue;
            };
            rollouts.taken(delivered.bytes);
            match delivered.record {
                wire::Record::Trajectory(it) => {
                    if ends.is_empty() {
                        let wishes = rollouts.wishes();
                        tokio::spawn(async move { wishes.cancel().await });
                    }
                    let end = it.end.unwrap();
                    assert_eq!(it.reward_components.is_empty(), end.kind == "cancelled", "{end:?}");
                    *ends.entry(end.kind).or_default() += 1;
                }
                wire::Record::End(_) => return ends,
                _ => {}
            }
        }
    });
    assert_eq!(ends.values().sum::<u32>(), 16_000, "{ends:?}");
    assert!(ends["cancelled"] > 0 && ends["truncated"] >= 8, "{ends:?}");
}

#[test]
fn what_is_with_the_scorer_when_the_engine_is_killed_is_scored_after() {
    let _watchdog = Watchdog::start("killed while scoring", BOUND);
    let mut scored = Scored::start(&[("waits", "python = \"rewards:waits\"\nbatch-max = 4")]);
    let client = {
        let url = format!("http://{}", scored.service.listen);
        move || Client::new(&envmill_client::ConnectOptions { url, ..Default::default() }).unwrap()
    };
    let playing =
        std::thread::spawn(move || with_runtime(async { play(client(), job("waits", 30)).await }));
    let called = scored.directory.path().join("called");
    wait_until("episodes are with the scorer", BOUND, || called.exists());
    let pid = || fs::read_to_string(&called).unwrap();
    let before = pid();
    let scoring = "envmill_episodes_scoring{environment=\"cartpole\"} 30";
    wait_until("all are with the scorer", BOUND, || scored.service.figures().contains(scoring));
    scored.service.kill();
    let process = Path::new("/proc").join(&before);
    wait_until("the scorer has gone with the engine", BOUND, || !process.exists());
    scored.service.begin();
    wait_until("they are with another scorer", BOUND, || pid() != before);
    fs::write(scored.directory.path().join("go"), "").unwrap();
    let played = playing.join().unwrap();
    assert_eq!(rewards(&played), vec![Ok(Some(1.0)); 30]);
    let ids: std::collections::BTreeSet<_> = played.iter().map(|it| &it.trajectory_id).collect();
    assert_eq!(ids.len(), 30);
}

#[test]
fn a_job_may_only_name_a_scorer() {
    let _watchdog = Watchdog::start("naming scorers", BOUND);
    let scored = Scored::start(&[("waits", "python = \"rewards:waits\"")]);
    let refused = with_runtime(async {
        let job = wire::SubmitJob { name: "any".into(), ..job("rewards:parts", 1) };
        scored.service.client().submit(job, RolloutsOptions::default()).await.unwrap_err()
    });
    let expected =
        "scorer: there is no `rewards:parts` in the engine's configuration, which has waits";
    assert!(refused.to_string().contains(expected), "{refused}");
}

#[test]
fn a_scorer_that_does_not_start_is_said_at_once() {
    let _watchdog = Watchdog::start("scorers that do not start", BOUND);
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("rewards.py"), REWARDS).unwrap();
    for (function, expected) in [
        (
            "nowhere:f",
            "`scorers.a`: nowhere:f does not start: ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("rewards:none", "AttributeError"),
        ("rewards:number", "is a int, which cannot be called"),
    ] {
        let keys = python_keys(directory.path());
        let configuration = format!(
            "[service]\nlisten = \"127.0.0.1:0\"\n[environments.cartpole]\nenv = \"native:cartpole\"\n\
             [scorers.a]\npython = \"{function}\"\n{keys}"
        );
        let path = directory.path().join("c.toml");
        fs::write(&path, configuration).unwrap();
        let finished = envmill_testing::EnvmillCommand::new(crate::rig::ENVMILL)
            .args(["serve", "--config"])
            .arg(&path)
            .run()
            .unwrap();
        assert_ne!(finished.code(), Some(0));
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
    }
}
