//! `envmill serve`: what is said of a configuration before it starts, and how it ends.

use std::{fs, net::SocketAddr, path::Path};

use envmill_testing::{EnvmillCommand, Finished, Watchdog, free_port, get, wait_until};
use expect_test::expect;
use tempfile::TempDir;

use crate::rig::{BOUND, ENVMILL};

fn check(directory: &Path, configuration: &str, more: &[&str]) -> Finished {
    let path = directory.join("c.toml");
    fs::write(&path, configuration).unwrap();
    EnvmillCommand::new(ENVMILL)
        .args(["serve", "--check", "--config"])
        .arg(&path)
        .args(more)
        .run()
        .unwrap()
}

#[test]
fn a_check_says_what_would_be_started() {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("tokens.toml", "bob = \"0123456789abcdef\"\nalice = \"fedcba9876543210\"\n");
    write("cert.pem", "-----BEGIN CERTIFICATE-----\n");
    write("key.pem", "-----BEGIN PRIVATE KEY-----\n");
    write("train.jsonl", "{\"id\":1}\n{\"id\":2}\n");
    let configuration = r#"
        [service]
        listen = "0.0.0.0:7460"
        metrics = "127.0.0.1:7461"
        tokens = "tokens.toml"
        tls-cert = "cert.pem"
        tls-key = "key.pem"
        steps-mib-max = 96

        [environments.cartpole]
        env = "native:cartpole"

        [environments.mixed]
        env = ["http://a:1", "serve:echo"]
        replicas = 2
        sessions = 8

        [environments.python]
        env = "openenv-class:my_env:Env"
        replicas = 3
        episodes-mib-max = 56

        [task-sets.train]
        file = "train.jsonl"

        [scorers.judge]
        url = "http://127.0.0.1:9000/score"

        [scorers.rank]
        python = "rewards:rank"
        processes = 2
        group = true
    "#;
    let finished = check(directory.path(), configuration, &[]);
    assert_eq!((finished.code(), finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    let shown = finished.stdout.replace(&directory.path().display().to_string(), "HERE");
    expect![[r#"
        listen       0.0.0.0:7460
        metrics      http://127.0.0.1:7461/metrics
        store        HERE/envmill-store
        tokens       alice, bob
        tls          HERE/cert.pem
        task set     train: 2 tasks
        scorer       judge: http://127.0.0.1:9000/score, 4 connections; batches of 64
        scorer       rank: python rewards:rank, 2 processes; whole groups
        environment  cartpole: native:cartpole; 64 sessions, no processes, 20 MiB for episodes
        environment  mixed: http://a:1, 2 × serve:echo; 8 sessions, 2 processes, 20 MiB for episodes
        environment  python: openenv-class:my_env:Env; 64 sessions, 3 processes, 56 MiB for episodes
    "#]]
    .assert_eq(&shown);
    assert!(!directory.path().join("envmill-store").exists(), "a check makes nothing");
}

#[test]
fn what_cannot_be_used_is_an_error_of_use() {
    let directory = TempDir::new().unwrap();
    let echo = "[environments.echo]\nenv = \"native:echo\"\n";
    let refused = |configuration: &str, more: &[&str], expected: &str| {
        let finished = check(directory.path(), configuration, more);
        assert_eq!((finished.code(), finished.stdout.as_str()), (Some(2), ""), "{finished:?}");
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
    };
    refused("", &[], "[environments.NAME]");
    refused(echo, &["--listen", "0.0.0.0:1"], "tls-cert");
    refused(
        &format!("{echo}[task-sets.a]\nfile = \"no.jsonl\"\n"),
        &[],
        "`task-sets.a`: cannot read",
    );
    refused(&format!("[service]\ntokens = \"no.toml\"\n{echo}"), &[], "no.toml");
    fs::write(directory.path().join("x.pem"), "nothing\n").unwrap();
    let tls = format!("[service]\ntls-cert = \"x.pem\"\ntls-key = \"x.pem\"\n{echo}");
    refused(&tls, &[], "CERTIFICATE");
    let store = directory.path().join("x.pem");
    refused(echo, &["--store", store.to_str().unwrap()], "no directory");
}

#[test]
fn a_service_ends_when_it_is_told_to() {
    let _watchdog = Watchdog::start("a service ends", BOUND);
    let directory = TempDir::new().unwrap();
    let port = free_port().unwrap();
    let metrics = SocketAddr::from(([127, 0, 0, 1], port));
    let path = directory.path().join("c.toml");
    let text = format!(
        "[service]\nlisten = \"127.0.0.1:0\"\nmetrics = \"{metrics}\"\n\
         [environments.a]\nenv = \"native:echo\"\n[environments.b]\nenv = \"serve:echo\"\n"
    );
    fs::write(&path, text).unwrap();
    // Another life takes the same store.
    for life in 1..=2 {
        let command = EnvmillCommand::new(ENVMILL).args(["serve", "--config"]).arg(&path);
        let mut running = command.start().unwrap();
        wait_until("it plays", BOUND, || {
            assert!(running.is_running(), "life {life} ended");
            get(metrics, "/metrics").is_ok_and(|(status, _)| status == 200)
        });
        running.terminate();
        let finished = running.wait();
        assert_eq!(finished.code(), Some(0), "{finished:?}");
        let printed = finished.stdout.lines().collect::<Vec<_>>();
        assert!(printed[0].starts_with("http://127.0.0.1:"), "{printed:?}");
        assert_eq!(printed[1..], [format!("http://{metrics}/metrics")]);
        assert!(finished.stderr.contains("goes on when the service is started again"));
    }
    let store = directory.path().join("envmill-store");
    assert!(store.join("store.redb").exists() && store.join("servers/b/0.log").exists());
}
