//! How programs play, and how they end.

use std::fs;

use envmill_client::{Event, RolloutsOptions, wire};
use envmill_testing::{Watchdog, free_port, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Rig, all_are_gone, by_task, end, job, message, report};
use crate::{
    rig::BOUND,
    service::{
        rig::{Service, play, with_runtime},
        upstream::Upstream,
    },
};

#[test]
fn programs_play_groups_and_each_call_is_recorded() {
    let _watchdog = Watchdog::start("a harness", BOUND);
    let rig = Rig::start("");
    let mut job = job("groups", &[("solve", json!({"worth": 0.5}))]);
    job.episodes = 0;
    job.groups = 3;
    job.group_rules = Some(wire::GroupRules { samples: 2, ..wire::GroupRules::default() });
    let played = rig.play(job);
    assert_eq!(played.len(), 6);
    for it in &played {
        assert_eq!(end(it), ("completed", "terminated"), "{}", message(it));
        assert_eq!((it.reward, it.environment.as_str()), (Some(0.5), "agent"));
        let report = report(it);
        assert_eq!(report["ended"], "exit status: 0");
        assert_eq!(
            (&report["metadata"], &report["output"]),
            (&json!({"seed": 0}), &json!("not a result\n"))
        );
        let [first, second] = &it.generations[..] else { panic!("{it:?}") };
        assert_eq!((first.parent, second.parent), (None, Some(0)));
        let tokens = it.tokens.as_ref().unwrap();
        let sampled = first.token_ids.len() + second.token_ids.len();
        let trained = tokens.loss_mask.iter().filter(|it| **it == 1).count();
        assert_eq!(trained, sampled, "all that was sampled is to be trained on");
        let messages: Vec<Value> = serde_json::from_slice(&it.messages).unwrap();
        assert_eq!((messages.len(), &messages[4]["content"]), (5, &json!("You said two.")));
        let in_force: Value = serde_json::from_slice(&it.sampling).unwrap();
        assert_eq!((&in_force["temperature"], &in_force["top_p"]), (&json!(0.5), &json!(1.0)));
    }
    // What the inference engine has seen and sampled is what is recorded, and all of it.
    let mut sampled: Vec<_> = rig.upstream.seen().into_iter().map(|it| it.1).collect();
    let generations = played.iter().flat_map(|it| &it.generations);
    let mut recorded: Vec<_> = generations.map(|it| it.token_ids.clone()).collect();
    sampled.sort();
    recorded.sort();
    assert_eq!(recorded, sampled);
    let places = rig.service.path("envmill-store/servers/agent/episodes");
    wait_until("their directories are gone", BOUND, || {
        fs::read_dir(&places).unwrap().next().is_none()
    });
}

#[test]
fn however_a_program_ends_there_is_one_record_that_says_so() {
    let _watchdog = Watchdog::start("ends of harnesses", BOUND);
    let rig = Rig::start("deadline-s = 40");
    let kinds = ["solve", "line", "silent", "fails", "garbage", "idle", "hangs", "dies"];
    let tasks: Vec<_> = kinds.iter().map(|it| (*it, json!({"worth": 1}))).collect();
    let played = by_task(rig.play(job("ends", &tasks)));
    assert_eq!(played.len(), kinds.len());
    for (kind, reward) in [("solve", Some(1.0)), ("line", Some(2.0)), ("silent", None)] {
        let it = &played[kind];
        assert_eq!((end(it), it.reward), (("completed", "terminated"), reward), "{}", message(it));
    }
    for (kind, why) in [
        ("fails", "exit status: 1, and said last:\nit does not work"),
        ("garbage", "its result is no object such as"),
        ("idle", "without a call of the model"),
        ("dies", "signal: 9"),
    ] {
        let it = &played[kind];
        assert_eq!((end(it), it.reward), (("failed", "environment"), None), "{kind}");
        assert!(message(it).contains(why), "{kind}: {}", message(it));
        assert_eq!(it.attempts.len(), 1, "{kind}");
        assert_eq!(it.generations.len(), usize::from(kind != "idle"), "{kind}");
    }
    // What it had said by then counts.
    let hung = &played["hangs"];
    assert_eq!((end(hung), hung.reward), (("truncated", "environment"), Some(0.25)));
    assert_eq!((&report(hung)["truncated"], hung.generations.len()), (&json!(true), 1));
    all_are_gone(&rig.processes("hangs", 1));
    let log = rig.service.path("envmill-store/servers/agent/0.log");
    assert!(log.exists());
}

#[test]
fn a_job_may_try_again_what_failed_and_give_less_time() {
    let _watchdog = Watchdog::start("attempts of harnesses", BOUND);
    let rig = Rig::start("");
    let limits = wire::Limits { on_env_error: "retry".into(), ..wire::Limits::default() };
    let job_again =
        wire::SubmitJob { limits: Some(limits), ..job("again", &[("flaky", json!({}))]) };
    let played = rig.play(job_again);
    let [it] = &played[..] else { panic!("{played:?}") };
    assert_eq!((end(it), it.generations.len()), (("completed", "terminated"), 1));
    let causes: Vec<_> = it.attempts.iter().map(|it| it.cause.as_str()).collect();
    assert_eq!(causes, ["environment", ""], "the second attempt counts");
    let deadlines = wire::Deadlines { episode_ms: Some(10_000), ..wire::Deadlines::default() };
    let short =
        wire::SubmitJob { deadlines: Some(deadlines), ..job("short", &[("hangs", json!({}))]) };
    let played = rig.play(short);
    assert_eq!((end(&played[0]).0, played[0].generations.len()), ("truncated", 1));
    let policy = Some(wire::policy::Policy::Random(wire::RandomPolicy {}));
    let random = wire::SubmitJob {
        policy: Some(wire::Policy { policy }),
        ..job("random", &[("solve", json!({}))])
    };
    let refused = with_runtime(async {
        rig.service.client().submit(random, RolloutsOptions::default()).await.map(drop)
    });
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("`agent` is a harness"), "{refused}");
}

#[test]
fn programs_of_a_cancelled_job_end_with_it() {
    let _watchdog = Watchdog::start("a cancelled harness", BOUND);
    let rig = Rig::start("");
    let (ends, processes) = with_runtime(async {
        let client = rig.service.client();
        let job = wire::SubmitJob { episodes: 6, ..job("cancelled", &[("waits", json!({}))]) };
        let mut rollouts = client.submit(job, RolloutsOptions::default()).await.unwrap();
        // As many as there are places.
        let processes = rig.processes("waits", 4);
        rollouts.wishes().cancel().await.unwrap();
        let mut ends = Vec::new();
        loop {
            let Event::Delivered(delivered) = rollouts.next().await.unwrap().unwrap() else {
                continue;
            };
            rollouts.taken(delivered.bytes);
            match delivered.record {
                wire::Record::Trajectory(it) => ends.push(it.end.unwrap().kind),
                wire::Record::End(_) => break (ends, processes),
                _ => {}
            }
        }
    });
    assert_eq!(ends, ["cancelled"; 6]);
    all_are_gone(&processes);
}

#[test]
fn a_service_that_is_killed_leaves_no_programs_and_plays_again() {
    let _watchdog = Watchdog::start("a killed service with a harness", BOUND);
    let mut rig = Rig::start("");
    let job = |name: &str| wire::SubmitJob { episodes: 3, ..job(name, &[("waits", json!({}))]) };
    let mut lives: Vec<Vec<u32>> = Vec::new();
    for _ in 0..2 {
        let processes = rig.begun(job("killed"), 3);
        assert!(lives.iter().flatten().all(|it| !processes.contains(it)));
        rig.service.kill();
        all_are_gone(&processes);
        lives.push(processes);
        rig.forget();
        rig.service.begin();
    }
    rig.processes("waits", 3);
    fs::write(rig.shared.path().join("go"), "").unwrap();
    let played = rig.play(job("killed"));
    let ids: Vec<_> = played.iter().map(|it| it.trajectory_id.as_str()).collect();
    assert_eq!(ids, ["killed.1-00000000", "killed.1-00000001", "killed.1-00000002"]);
    for it in &played {
        assert_eq!(
            (end(it), it.reward),
            (("completed", "terminated"), Some(1.0)),
            "{}",
            message(it)
        );
        assert_eq!(it.generations.len(), 2, "nothing of earlier lives is in it");
        let causes: Vec<_> = it.attempts.iter().map(|it| it.cause.as_str()).collect();
        assert_eq!(causes, ["interrupted", "interrupted", ""], "but that there were some");
    }
    // And one that is ended in good order.
    rig.forget();
    let left = rig.begun(job("ended"), 3);
    assert_eq!(rig.service.end().code(), Some(0));
    all_are_gone(&left);
}

#[test]
fn programs_that_come_by_themselves_are_given_episodes() {
    let _watchdog = Watchdog::start("external programs", BOUND);
    let (upstream, secrets) = (Upstream::start(), TempDir::new().unwrap());
    let secret = |name: &str, text: &str| {
        let path = secrets.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (token, key) = (secret("token", "s3cret\n"), secret("key", "of-the-engine\n"));
    let port = free_port().unwrap();
    let table = format!(
        "[harnesses.agent]\npolicy = {:?}\nexternal = true\nlisten = \"127.0.0.1:{port}\"\n\
         token-file = {token:?}\ndeadline-s = 8\n",
        upstream.policy()
    );
    let variables = [("VLLM_API_KEY_FILE", key.to_str().unwrap())];
    let service = Service::with_variables(&table, &variables);
    let ask_as = |authorization: &str, path: &str, body: Value| {
        let mut answer = ureq::post(format!("http://127.0.0.1:{port}{path}"))
            .config()
            .http_status_as_error(false)
            .build()
            .header("Authorization", authorization)
            .send(body.to_string())
            .unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), serde_json::from_str::<Value>(&text).unwrap_or_default())
    };
    let ask = |path: &str, body: Value| ask_as("Bearer s3cret", path, body);
    for unknown in ["Bearer s3cret2", "Basic s3cret"] {
        assert_eq!(ask_as(unknown, "/episodes", json!({})).0, 401);
    }
    assert_eq!(ask("/episodes", json!({})).0, 204, "there is none yet");
    assert_eq!(ask("/episodes", json!("x")).0, 400);
    let claim = || {
        let mut given = (204, Value::Null);
        wait_until("there is an episode", BOUND, || {
            given = ask("/episodes", json!({"wait_s": 1}));
            given.0 != 204
        });
        assert_eq!(given.0, 201, "{}", given.1);
        given.1
    };
    let tasks = ["said", "failed", "forgotten", "told"].map(|it| (it, json!({})));
    let played = std::thread::scope(|scope| {
        let job = job("external", &tasks);
        let playing = scope.spawn(|| with_runtime(async { play(service.client(), job).await }));
        for _ in 0..4 {
            let given = claim();
            let key = &given["api_key"];
            assert_eq!(given["base_url"], format!("http://127.0.0.1:{port}/v1"));
            call(given["base_url"].as_str().unwrap(), key.as_str().unwrap());
            let what = given["task"]["reset_parameters"]["what"].as_str().unwrap();
            let close = match what {
                "said" => json!({"api_key": key, "reward": 3, "metadata": [1]}),
                "failed" => json!({"api_key": key, "error": "no luck"}),
                "told" => json!({"api_key": key}),
                _ => continue,
            };
            assert_eq!(ask("/episodes/close", close), (200, json!({})), "{what}");
            assert_eq!(ask("/episodes/close", json!({"api_key": key})).0, 404, "it is over");
        }
        by_task(playing.join().unwrap())
    });
    let ends = |it: &wire::Trajectory| (end(it).0.to_owned(), it.reward, it.generations.len());
    assert_eq!(ends(&played["said"]), ("completed".into(), Some(3.0), 1));
    assert_eq!(report(&played["said"])["metadata"], json!([1]));
    assert_eq!(ends(&played["told"]), ("completed".into(), None, 1));
    assert_eq!(ends(&played["failed"]), ("failed".into(), None, 1));
    assert_eq!(message(&played["failed"]), "no luck");
    assert_eq!(ends(&played["forgotten"]), ("truncated".into(), None, 1));
    assert_eq!(upstream.asked_by(), ["Bearer of-the-engine".to_owned()].into());
}

/// One call, with the key of an episode.
fn call(base_url: &str, key: &str) {
    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    let answer = ureq::post(format!("{base_url}/chat/completions"))
        .header("Authorization", format!("Bearer {key}"))
        .send(body.to_string())
        .unwrap();
    assert_eq!(answer.status(), 200);
}
