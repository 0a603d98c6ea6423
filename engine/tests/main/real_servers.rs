//! `envmill run` against stock OpenEnv servers under uvicorn, against the embedded server, and the
//! stock client against the embedded server.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use envmill_protocol::record::{ContentHash, End};
use envmill_testing::{
    EnvmillCommand, FaultProxy, PythonServer, PythonServerOptions, Watchdog, free_port, get,
    stock_client_flow, versions_under_test, wait_until,
};
use serde_json::{Value, json};

use crate::rig::{BOUND, ENVMILL, Job, Played, bench_server, quirk_server, server_with};

#[test]
fn a_stock_server_is_played_with_constant_actions() {
    let played = Job::on("constant actions", &bench_server().url())
        .words("--episodes 96 --sessions 16 --max-steps 5 --seed 7")
        .args(["--policy", r#"constant:{"payload_bytes":100}"#])
        .play();
    played.all_played();
    played.steps_in_order();
    assert_eq!(played.episodes("truncated"), 96);
    assert_eq!(played.summary["steps"], 480);
    for record in &played.records {
        assert_eq!(record.end.cause(), "max_steps");
        assert_eq!(record.reward, Some(5.0));
        assert_eq!(record.steps[0].action, r#"{"payload_bytes":100}"#);
        assert_eq!(record.provenance.environment_fingerprint.len(), 32);
    }
    let seeds: BTreeSet<_> = played.records.iter().map(|record| record.seed.unwrap()).collect();
    assert_eq!(seeds.len(), 96);
    assert!(played.number("/sessions_peak") <= 16.0);
    assert!(played.number("/sessions_built") < 96.0, "sessions are used again");
    for figure in ["/wall_s", "/steps_per_s", "/cpu_s", "/rss_peak_bytes", "/latency_ms/step/p50"] {
        assert!(played.number(figure) > 0.0, "{figure}: {}", played.summary);
    }
}

#[test]
fn episodes_end_when_the_environment_says_so() {
    let server = server_with("staggered_env", &[("STEPS_MEAN", "8")]);
    let played = Job::on("staggered", &server.url())
        .words("--episodes 120 --sessions 24 --policy constant:{}")
        .play();
    played.all_played();
    played.steps_in_order();
    assert_eq!(played.episodes("completed"), 120);
    for record in &played.records {
        assert_eq!(record.end.cause(), "terminated (unmapped)");
        // The rule of `staggered_env`.
        let expected = 1 + record.seed.unwrap() * 7919 % 15;
        assert_eq!(record.steps.len() as u64, expected, "{}", record.trajectory_id);
    }
}

#[test]
fn random_actions_suit_the_schema_of_a_stock_server() {
    // Pydantic refuses what its schema forbids, and its steps what is not among `legal_actions`.
    let server = server_with("choice_env", &[]);
    let played = Job::on("random actions", &server.url())
        .words("--episodes 40 --sessions 8 --max-steps 6 --policy random")
        .play();
    played.all_played();
    let actions: BTreeSet<_> =
        played.records.iter().flat_map(|r| &r.steps).map(|step| &step.action).collect();
    assert!(actions.len() > 100, "only {} different actions in 240", actions.len());
}

#[test]
fn the_command_plays_stock_servers_of_every_version() {
    for version in versions_under_test() {
        let options = PythonServerOptions::new("staggered_env").version(version);
        let server = PythonServer::start(options.env("STEPS_MEAN", 5)).unwrap();
        let played = Job::on(version, &server.url())
            .words("--episodes 60 --sessions 12 --session-reuse 3")
            .args(["--policy", r#"constant:{"payload_bytes":3}"#])
            .play();
        played.all_played();
        played.steps_in_order();
        assert_eq!(played.episodes("completed"), 60, "{version}");
        assert!(played.records.iter().all(|record| record.reward.unwrap() >= 1.0), "{version}");
    }
}

fn embedded(environment: &str, arguments: &str) -> Played {
    let played = Job::on(environment, environment).words(arguments).play();
    played.all_played();
    assert!(played.number("/children/rss_peak_bytes") > 0.0, "{}", played.summary);
    played
}

#[test]
fn the_embedded_server_plays_every_native_environment() {
    let cartpole = embedded("serve:cartpole", "--episodes 200 --sessions 32 --seed 1");
    assert_eq!(cartpole.episodes("completed"), 200);
    let echo = embedded("serve:echo", "--episodes 64 --sessions 8 --max-steps 4");
    assert_eq!(echo.summary["steps"], 256);
    let synthetic = embedded(
        "serve:synthetic?step_ms=2&jitter=0.5&tail=0.1&payload_bytes=2000&episode_steps=6",
        "--episodes 100 --sessions 50",
    );
    assert_eq!(synthetic.episodes("completed"), 100);
    assert!(synthetic.records.iter().all(|r| r.steps[0].observed.observation.len() > 2000));
}

#[test]
fn without_arguments_a_job_is_played_on_the_embedded_server() {
    let _watchdog = Watchdog::start("no arguments", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let finished =
        EnvmillCommand::new(ENVMILL).arg("run").current_dir(directory.path()).run().unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(finished.stdout.contains("episodes"), "{finished:?}");
}

fn hashes(played: &Played) -> BTreeSet<[u8; 16]> {
    played.records.iter().map(|record| record.content_hash).map(|ContentHash(it)| it).collect()
}

#[test]
fn the_same_seed_gives_the_same_play() {
    let play = |seed: u32, sessions: u32| {
        let arguments = format!("--episodes 100 --sessions {sessions} --seed {seed}");
        hashes(&embedded("serve:cartpole", &arguments))
    };
    let first = play(3, 20);
    assert_eq!(first.len(), 100);
    assert_eq!(first, play(3, 7), "also when other sessions play it");
    assert_eq!(first.intersection(&play(1_000_000, 20)).count(), 0);
}

#[test]
fn a_failing_native_environment_fails_its_episodes_only() {
    let played = Job::on("failing", "serve:synthetic?fail_rate=0.02&episode_steps=10")
        .words("--episodes 200 --sessions 20")
        .play();
    assert_eq!(played.code(), Some(3));
    let failures = played.failures();
    assert_eq!(failures.keys().collect::<Vec<_>>(), ["environment"]);
    assert!(played.episodes("completed") > 100, "{}", played.summary);
}

/// Plays six episodes of `quirk_env` with one action.
fn quirk(server: &PythonServer, action: &Value) -> Played {
    Job::on(&action.to_string(), &server.url())
        .words("--episodes 6 --sessions 3 --max-steps 3 --attempts 2")
        .words("--step-timeout-ms 2000")
        .args(["--policy".to_owned(), format!("constant:{action}")])
        .play()
}

#[test]
fn what_environments_do_wrong_is_told_apart() {
    let server = quirk_server();
    for (action, cause) in [
        (json!({"what": "raise"}), "environment"),
        // Its message is empty.
        (json!({"what": "asyncio_to"}), "environment"),
        // An answer that cannot be serialised.
        (json!({"what": "badbytes"}), "environment"),
        (json!({"what": "none"}), "environment"),
        (json!({"nope": 1}), "invalid"),
        (json!({"n": "many"}), "invalid"),
        // The server cannot tell of this refusal, and gives the session up over it.
        (json!({"what": "valueerror"}), "invalid"),
    ] {
        let played = quirk(server, &action);
        played.all_failed(cause);
        for record in &played.records {
            assert_eq!(record.attempts.len(), 1, "{action}: {record:#?}");
        }
        if action["what"] == "raise" {
            let End::Failed(failure) = &played.records[0].end else { panic!("{action}") };
            assert!(failure.message.contains("step boom"), "{failure}");
        }
    }
}

#[test]
fn odd_values_are_kept_as_they_came() {
    let server = quirk_server();
    for (what, reward) in [
        ("rew_bool", "true"),
        ("rew_int", "3"),
        ("rew_float", "3.0"),
        ("rew_bigint", "1180591620717411303424"),
        ("rew_nan", "null"),
        ("emoji", "null"),
        ("bigint", "null"),
    ] {
        let played = quirk(server, &json!({"what": what}));
        played.all_played();
        for step in played.records.iter().flat_map(|record| &record.steps) {
            assert_eq!(step.observed.reward.raw, reward, "{what}");
        }
    }
    let played = quirk(server, &json!({"what": "done"}));
    played.all_played();
    assert_eq!(played.episodes("completed"), 6);
}

#[test]
fn an_end_is_mapped_as_configured() {
    let played = Job::on("mapped", &quirk_server().url())
        .words("--episodes 4 --sessions 2 --truncated-from metadata.truncated")
        .args(["--policy", r#"constant:{"what":"done"}"#])
        .play();
    // `done` without that key says nothing about a limit.
    assert_eq!(played.records[0].end.cause(), "terminated (unmapped)");
}

#[test]
fn a_step_that_is_never_answered_ends_by_its_deadline() {
    // Each such step holds its slot on the server for ever: eight of 256.
    let played = Job::on("stopiter", &quirk_server().url())
        .words("--episodes 4 --sessions 4 --attempts 2 --step-timeout-ms 300")
        .args(["--policy", r#"constant:{"what":"stopiter"}"#])
        .play();
    played.all_failed("deadline_step");
    assert!(played.records.iter().all(|record| record.attempts.len() == 2));
}

#[test]
fn an_environment_that_cannot_be_made_for_a_while_costs_no_episode() {
    let directory = tempfile::tempdir().unwrap();
    let switch = directory.path().join("fail");
    let server =
        server_with("quirk_env", &[("MAXS", "16"), ("Q_FAIL_FILE", switch.to_str().unwrap())]);
    let proxy = FaultProxy::start(server.address()).unwrap();
    let mut playing = Job::on("factory", &proxy.url())
        .words("--episodes 400 --sessions 4 --max-steps 3 --policy constant:{}")
        .words("--session-reuse never")
        .start();
    playing.wait_for_records(5);
    fs::write(&switch, "").unwrap();
    // Each new session is a connection. Of four that were being opened the fifth knows the switch.
    let before = proxy.counts().accepted;
    wait_until("the server has refused", BOUND, || {
        assert!(playing.running.is_running(), "it ended before the switch was seen");
        proxy.counts().accepted > before + 5
    });
    fs::remove_file(&switch).unwrap();
    let played = playing.end();
    played.all_played();
    assert!(played.number("/refusals") > 0.0, "{}", played.summary);
}

#[test]
fn two_places_with_an_idle_reaper_are_enough_for_sixteen_sessions() {
    let server = PythonServer::of("close_env").unwrap();
    let played = Job::on("close_env", &server.url())
        .words("--episodes 48 --sessions 16 --max-steps 4")
        .args(["--policy", r#"constant:{"s":0.03}"#])
        .play();
    played.all_played();
    // Nothing was played on an environment that the server had already closed.
    for observed in played.records.iter().flat_map(|r| r.steps.iter().map(|step| &step.observed)) {
        let text = String::from_utf8_lossy(&observed.observation);
        assert!(text.contains("closed=False"), "{text}");
    }
}

fn crowded(server: &PythonServer) -> Played {
    let played = Job::on("capacity", &server.url())
        .words("--episodes 160 --sessions 64")
        .args(["--policy", r#"constant:{"sleep_s":0.005,"done_at":6}"#])
        .play();
    played.all_played();
    played.steps_in_order();
    assert_eq!(played.episodes("completed"), 160);
    played
}

#[test]
fn the_capacity_of_a_server_is_learned() {
    let played = crowded(&server_with("bench_env", &[("MAX_CONCURRENT_ENVS", "8")]));
    assert!(played.number("/refusals") > 0.0);
    let limit = played.number("/servers/0/limit");
    assert!((1.0..=8.0).contains(&limit), "{}", played.summary);
}

#[test]
fn the_capacity_of_several_processes_behind_one_port_is_learned() {
    let options = PythonServerOptions::new("bench_env").env("MAX_CONCURRENT_ENVS", 8).workers(2);
    let server = PythonServer::start(options).unwrap();
    let played = crowded(&server);
    assert!(played.number("/servers/0/limit") <= 16.0, "{}", played.summary);
}

#[test]
fn several_servers_of_one_environment_are_a_pool() {
    let small = server_with("bench_env", &[("MAX_CONCURRENT_ENVS", "4")]);
    let played = Job::on("pool", &bench_server().url())
        .args(["--env", &small.url()])
        .words("--episodes 60 --sessions 12")
        .args(["--policy", r#"constant:{"sleep_s":0.005,"done_at":5}"#])
        .play();
    played.all_played();
    let mut episodes = BTreeMap::<&str, usize>::new();
    for record in &played.records {
        *episodes.entry(&record.provenance.server).or_default() += 1;
    }
    assert_eq!(episodes.len(), 2, "{episodes:?}");
}

#[test]
fn the_stock_client_plays_the_native_echo_in_every_version() {
    let _watchdog = Watchdog::start("stock client", BOUND);
    let port = free_port().unwrap();
    let server = EnvmillCommand::new(ENVMILL)
        .args(["env", "serve", "echo", "--port", &port.to_string()])
        .start()
        .unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    wait_until("the server is healthy", BOUND, || {
        get(address, "/health").is_ok_and(|(status, _)| status == 200)
    });
    for version in versions_under_test() {
        let url = format!("http://{address}");
        let seen = stock_client_flow(version, &url, &json!({"message": "hé\""}), 4, 3).unwrap();
        let sessions = seen["sessions"].as_array().unwrap();
        assert_eq!(sessions.len(), 3);
        for episode in sessions.iter().flat_map(|session| session["episodes"].as_array().unwrap()) {
            assert_eq!(episode["reset"]["done"], false);
            let steps = episode["steps"].as_array().unwrap();
            assert_eq!(steps.len(), 4);
            for step in steps {
                assert_eq!(step["observation"]["echoed_message"], "hé\"", "{step}");
            }
            assert_eq!(episode["state"]["step_count"], 4, "{episode}");
        }
    }
    drop(server);
}
