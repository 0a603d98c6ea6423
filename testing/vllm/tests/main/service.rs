//! `envmill serve` whose environment is played by vLLM, and a trainer that exchanges the weights meanwhile.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use envmill_client::{
    Client, ConnectOptions, Event, Rollouts, RolloutsOptions,
    wire::{self, InFlight},
};
use envmill_protocol::record::{End, Trajectory, write_json_line};
use tokio::time::timeout;

use crate::rig::{self, RUNTIME, Server};

const SESSIONS: u64 = 64;
/// Some episodes begin when others have ended: on the new weights, where these are waited for.
const EPISODES: u64 = 96;
/// Weights are exchanged when so many prompts have reached the engine.
const SWAPPED_AFTER: usize = 100;
const BOUND: Duration = Duration::from_secs(300);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A service in a folder of its own. Both end with it.
struct Service {
    folder: PathBuf,
    url: String,
    child: Child,
}

impl Service {
    fn start(name: &str, server: &Server) -> Self {
        let folder = std::env::temp_dir().join(format!("envmill-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let agent = "system = \"You answer.\"\n[action.parser.text]\nfield = \"message\"\n\
            trim = false\n[limits]\nturn_tokens = 16\n";
        std::fs::write(folder.join("agent.toml"), agent).unwrap();
        let configuration = format!(
            "[service]\nlisten = \"127.0.0.1:0\"\n\
             [environments.words]\nenv = \"openenv-class:words_env:WordsEnv\"\n\
             python = {:?}\npython-path = {:?}\nsessions = {SESSIONS}\n\
             policy = \"vllm:{}\"\nagent = \"agent.toml\"\n",
            repository().join(".venv/bin/python"),
            repository().join("testing/python/servers"),
            server.url()
        );
        std::fs::write(folder.join("cluster.toml"), configuration).unwrap();
        let mut child = Command::new(rig::envmill())
            .args(["serve", "--config"])
            .arg(folder.join("cluster.toml"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let url = url.trim().to_owned();
        assert!(url.starts_with("http"), "the service did not start");
        Self { folder, url, child }
    }

    /// A job that begins with version 0: these weights.
    async fn submit(&self, name: &str, episodes: u64, in_flight: InFlight) -> Rollouts {
        let options = ConnectOptions { url: self.url.clone(), ..ConnectOptions::default() };
        let policy = wire::policy::Policy::Model(wire::ModelPolicy {});
        let job = wire::SubmitJob {
            name: name.into(),
            environment: "words".into(),
            episodes,
            policy: Some(wire::Policy { policy: Some(policy) }),
            in_flight: in_flight.into(),
            weights: weights("tiny-qwen2"),
            ..wire::SubmitJob::default()
        };
        let client = Client::new(&options).unwrap();
        client.submit(job, RolloutsOptions::default()).await.unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It has nothing to end in good order for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn weights(model: &str) -> String {
    rig::folder().join(model).to_str().unwrap().to_owned()
}

const fn step(step: u64) -> wire::Version {
    wire::Version { lineage: 0, step }
}

async fn next(rollouts: &mut Rollouts) -> Event {
    let event = timeout(BOUND, rollouts.next()).await.expect("nothing is told any more");
    event.expect("the stream has ended").unwrap()
}

/// The episode that was delivered, if one was.
fn record(rollouts: &Rollouts, event: Event) -> Option<Trajectory> {
    let Event::Delivered(delivered) = event else { return None };
    rollouts.taken(delivered.bytes);
    let wire::Record::Trajectory(message) = delivered.record else { return None };
    Some(envmill_wire::read_trajectory(*message).unwrap())
}

/// Waits until so many prompts have reached the engine.
async fn seen(log: &Path, least: usize) {
    let reached = async {
        while rig::lines(log) < least {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BOUND, reached).await.expect("the engine is asked nothing");
}

/// Which versions have sampled: of the whole record, and the most in one generation.
fn versions(record: &Trajectory) -> (Vec<u64>, usize) {
    let spans = |it: &[envmill_protocol::VersionSpan]| {
        let mut found: Vec<u64> = it.iter().map(|span| span.version.0).collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    let of_one = record.generations.iter().map(|it| spans(&it.policy_versions).len());
    (spans(&record.tokens.policy_versions), of_one.max().unwrap_or(0))
}

/// Whether it came to an end that counts.
const fn was_played(record: &Trajectory) -> bool {
    matches!(record.end, End::Completed { .. } | End::Truncated(_))
}

/// Plays a job in the midst of which the weights are exchanged; all of its episodes.
async fn exchanged(service: &Service, name: &str, in_flight: InFlight) -> Vec<Trajectory> {
    let log = rig::engine_log();
    std::fs::write(&log, "").unwrap();
    let mut rollouts = service.submit(name, EPISODES, in_flight).await;
    seen(&log, SWAPPED_AFTER).await;
    let wishes = rollouts.wishes();
    wishes.announce(step(1), None, &weights("tiny-qwen2-b")).await.unwrap();
    let mut records = Vec::new();
    while (records.len() as u64) < EPISODES {
        match next(&mut rollouts).await {
            Event::Warning(warning) => panic!("{}", warning.message),
            event => records.extend(record(&rollouts, event)),
        }
    }
    let mut groups: Vec<u64> = records.iter().map(|it| it.group_id).collect();
    groups.sort_unstable();
    assert!(groups.into_iter().eq(0..EPISODES), "each episode comes once");
    for it in &records {
        assert!(was_played(it), "{:?}", it.end);
        let tokens: u32 = it.tokens.policy_versions.iter().map(|span| span.tokens).sum();
        assert_eq!(tokens as usize, it.tokens.token_ids.len(), "each token has its version");
        assert!(versions(it).0.iter().all(|version| *version <= 1), "{:?}", versions(it));
    }
    records
}

#[test]
fn weights_are_exchanged_in_mid_job_and_each_token_names_its_own() {
    let server = rig::python();
    let service = Service::start("service", &server);
    for (name, in_flight) in
        [("keep", InFlight::Keep), ("resume", InFlight::Resume), ("drain", InFlight::Drain)]
    {
        let records = RUNTIME.block_on(exchanged(&service, name, in_flight));
        let mixed = records.iter().filter(|it| versions(it).0.len() == 2).count();
        let within = records.iter().filter(|it| versions(it).1 == 2).count();
        let new = records.iter().filter(|it| versions(it).0 == [1]).count();
        println!("{name}: {mixed} records of two versions, {within} of them within a generation");
        assert!(new > 0 && new < records.len(), "{name}: {new} only of the new weights");
        if in_flight == InFlight::Drain {
            assert_eq!(mixed, 0, "an episode ends on the weights that it began on");
        } else {
            assert!(within > 0, "{name}: no generation was under way when weights were exchanged");
        }
        // What checks asks the same engine, and must not add to what it has seen.
        let seen = service.folder.join("seen.jsonl");
        std::fs::copy(rig::engine_log(), &seen).unwrap();
        let more: &[&str] = if in_flight == InFlight::Resume { &["--aborted"] } else { &[] };
        let checked = check(&server, &service, &records, &seen, more);
        println!("{}", String::from_utf8_lossy(&checked.stdout));
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
    rig::exchange_weights(&server, "tiny-qwen2", 0);
}

fn check(
    server: &Server,
    service: &Service,
    records: &[Trajectory],
    log: &Path,
    more: &[&str],
) -> Output {
    let mut lines = Vec::new();
    for it in records {
        write_json_line(&mut lines, it);
    }
    let path = service.folder.join("records.jsonl");
    std::fs::write(&path, lines).unwrap();
    // Its own weights are not asked of vLLM, which would say of half a set what it has sampled from it.
    Command::new(rig::folder().join("venv/bin/python"))
        .arg(repository().join("testing/python/vllm/drift.py"))
        .arg(path)
        .arg(log)
        .arg(server.url())
        .args(["--weights", &format!("0={}", weights("tiny-qwen2"))])
        .args(["--weights", &format!("1={}", weights("tiny-qwen2-b"))])
        .arg("--apart")
        .args(more)
        .output()
        .unwrap()
}

/// The engine may not survive what it is asked to load, and so it is one of this test's own.
#[test]
fn another_vllm_whose_update_fails_samples_no_more() {
    let log = std::env::temp_dir().join(format!("envmill-failed-{}.jsonl", std::process::id()));
    std::fs::write(&log, "").unwrap();
    let server = rig::logged(&log);
    let service = Service::start("failed-update", &server);
    let nothing = service.folder.join("nothing");
    std::fs::create_dir(&nothing).unwrap();
    RUNTIME.block_on(async {
        let mut rollouts = service.submit("failed", EPISODES, InFlight::Keep).await;
        seen(&log, SWAPPED_AFTER).await;
        let wishes = rollouts.wishes();
        wishes.announce(step(1), None, nothing.to_str().unwrap()).await.unwrap();
        let mut records = Vec::new();
        let warning = loop {
            match next(&mut rollouts).await {
                Event::Warning(warning) => break warning,
                event => records.extend(record(&rollouts, event)),
            }
        };
        assert_eq!(warning.kind, "model_version");
        assert!(warning.message.contains("does not have version 1"), "{}", warning.message);
        assert!(warning.message.contains("restart it"), "{}", warning.message);
        println!("{} episodes had ended; {}", records.len(), warning.message);
        // Nothing is sampled: the engine is asked nothing, and no episode comes to a good end.
        let asked = rig::lines(&log);
        let until = tokio::time::Instant::now() + Duration::from_secs(10);
        while let Ok(event) = tokio::time::timeout_at(until, next(&mut rollouts)).await {
            records.extend(record(&rollouts, event));
        }
        assert_eq!(rig::lines(&log), asked, "the engine was asked more");
        rollouts.wishes().cancel().await.unwrap();
        while (records.len() as u64) < EPISODES {
            let event = next(&mut rollouts).await;
            records.extend(record(&rollouts, event));
        }
        let mut ends = String::new();
        for it in &records {
            assert!(versions(it).0.iter().all(|version| *version == 0), "{:?}", versions(it));
            let _ = write!(ends, "{} ", it.end.name());
        }
        let played = records.iter().filter(|it| was_played(it)).count();
        assert!((played as u64) < EPISODES - SESSIONS / 2, "{ends}");
    });
    drop(service);
    let _ = std::fs::remove_file(log);
}
