//! What does an action cost when a trainer is the policy?
//!
//! `step-batch [ROUNDS] [SESSIONS] [STEPS]`; default 5 rounds of 1,024 sessions of the native
//! `synthetic` environment and 400,000 steps. `envmill serve` plays them in a process of its own, and
//! this one answers each turn that `StepBatch` shows with the same action. The peer is a unary call a
//! step, as trainers without such a stream make it: `grpc.health.v1.Health/Check` of the same service,
//! whose messages are nearly empty, with as many calls at once. Then the same with a trainer in Python
//! (`testing/python/step_trainer.py`), by the package (`cargo build --release -p envmill-python` makes it)
//! and by `grpcio`. The CPU is that of both processes.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use envmill_benches::{cpu_seconds, median, python_package, ratio_interval};
use envmill_client::{
    Client, ConnectOptions, RolloutsOptions,
    wire::{self, step_batch_response::Response},
};
use envmill_testing::{EnvmillCommand, Running, free_port, get};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// Calls that are counted, of the peer.
const CALLS: u64 = 40_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (rounds, sessions): (usize, u32) = (next("5").parse()?, next("1024").parse()?);
    let steps: u64 = next("400000").parse()?;
    let package = python_package()?;
    let mut sides = [
        Side::new("StepBatch, `envmill-client`"),
        Side::new("a unary call, tonic"),
        Side::new("StepBatch, Python's `envmill`"),
        Side::new("a unary call, Python's `grpcio`"),
    ];
    let service = Service::start(sessions)?;
    for round in 0..rounds {
        for turn in 0..sides.len() {
            let which = (turn + round) % sides.len();
            let (cpu, rate) = match which {
                0 => measured(&service, |url| play(url, round, sessions, steps))?,
                1 => measured(&service, |url| call(url, sessions.into()))?,
                2 => trainer(&service, package.path(), "envmill", round, sessions, steps)?,
                _ => trainer(&service, package.path(), "grpcio", round, sessions, CALLS)?,
            };
            sides[which].cpu_us.push(cpu);
            sides[which].rates.push(rate);
        }
    }
    println!("{sessions} sessions, {rounds} rounds; a step is an observation and its action\n");
    println!("| | CPU a step, both ends | steps/s | unary / StepBatch |");
    println!("| --- | ---: | ---: | ---: |");
    for pair in sides.chunks(2) {
        let [ours, unary] = pair else { continue };
        let ratio = ratio_interval(&unary.cpu_us, &ours.cpu_us);
        let ratio = format!("{:.1} ({:.1}–{:.1})", ratio.median, ratio.low, ratio.high);
        for (side, ratio) in [(ours, ratio.as_str()), (unary, "")] {
            let (cpu, rate) = (median(&side.cpu_us), median(&side.rates));
            println!("| {} | {cpu:.2} µs | {rate:.0} | {ratio} |", side.name);
        }
    }
    Ok(())
}

/// Who takes steps, and the figures.
struct Side {
    name: &'static str,
    cpu_us: Vec<f64>,
    rates: Vec<f64>,
}

impl Side {
    const fn new(name: &'static str) -> Self {
        Self { name, cpu_us: Vec::new(), rates: Vec::new() }
    }
}

struct Service {
    _directory: tempfile::TempDir,
    running: Running,
    url: String,
}

impl Service {
    fn start(sessions: u32) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (port, metrics) = (free_port()?, free_port()?);
        let configuration = format!(
            "[service]\nlisten = \"127.0.0.1:{port}\"\nmetrics = \"127.0.0.1:{metrics}\"\n\
             [environments.synthetic]\nenv = \"native:synthetic\"\nsessions = {sessions}\n"
        );
        let file = directory.path().join("c.toml");
        fs::write(&file, configuration)?;
        let running = EnvmillCommand::built()?.args(["serve", "--config"]).arg(&file).start()?;
        while get(([127, 0, 0, 1], metrics).into(), "/metrics").is_err() {
            std::thread::yield_now();
        }
        Ok(Self { _directory: directory, running, url: format!("http://127.0.0.1:{port}") })
    }
}

/// CPU microseconds of both processes for each of what was done, and how many a second.
fn measured<F>(service: &Service, what: impl FnOnce(String) -> F) -> Result<(f64, f64)>
where
    F: Future<Output = Result<u64>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = cpu_seconds() + service.running.cpu_seconds();
    let began = Instant::now();
    let count = runtime.block_on(what(service.url.clone()))? as f64;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = cpu_seconds() + service.running.cpu_seconds() - before;
    Ok((cpu / count * 1e6, count / seconds))
}

/// The same with a trainer in Python.
fn trainer(
    service: &Service,
    package: &Path,
    how: &str,
    round: usize,
    sessions: u32,
    steps: u64,
) -> Result<(f64, f64)> {
    let before = service.running.cpu_seconds();
    let output = Command::new(envmill_testing::python()?)
        .env("PYTHONPATH", package)
        .arg("-B")
        .arg(envmill_testing::script("step_trainer.py"))
        .args([how, &service.url, &sessions.to_string(), &steps.to_string()])
        .arg(format!("python-{round}"))
        .stderr(Stdio::inherit())
        .output()?;
    let here = service.running.cpu_seconds() - before;
    ensure!(output.status.success(), "the trainer in Python has failed");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| told[name].as_f64().with_context(|| name.to_owned());
    let count = number("count")?;
    Ok(((here + number("cpu_s")?) / count * 1e6, count / number("seconds")?))
}

async fn play(url: String, round: usize, sessions: u32, steps: u64) -> Result<u64> {
    let client = Client::new(&ConnectOptions { url, ..ConnectOptions::default() })?;
    let options = RolloutsOptions::default();
    let policy = Some(wire::policy::Policy::Trainer(wire::TrainerPolicy {}));
    let job = wire::SubmitJob {
        name: format!("round-{round}"),
        environment: "synthetic".into(),
        // They have 50 steps on average. More than are played: it is cancelled when enough were taken.
        episodes: steps / 40 + 2 * u64::from(sessions),
        policy: Some(wire::Policy { policy }),
        limits: Some(wire::Limits { sessions, max_steps: 1_000, ..wire::Limits::default() }),
        ..wire::SubmitJob::default()
    };
    let mut rollouts = client.submit(job, options.clone()).await?;
    let open = wire::OpenStepBatch {
        job_id: rollouts.job_id().to_owned(),
        min_batch: sessions / 4,
        ..wire::OpenStepBatch::default()
    };
    let mut turns = client.step_batch(open, options.reconnect_for).await?;
    let (answers, wishes) = (turns.answers(), rollouts.wishes());
    tokio::spawn(async move {
        while let Some(Ok(event)) = rollouts.next().await {
            if let envmill_client::Event::Delivered(delivered) = event {
                rollouts.taken(delivered.bytes);
            }
        }
    });
    let action = Bytes::from_static(br#"{"value":0}"#);
    let mut count = 0;
    while count < steps {
        let response = turns.next().await?.context("the job has ended early")?;
        let Response::Turns(batch) = response else { continue };
        count += batch.turns.len() as u64;
        let answer = |turn: &wire::Turn| wire::Action {
            turn: turn.turn,
            action: action.clone(),
            ..wire::Action::default()
        };
        answers.answer(batch.turns.iter().map(answer).collect()).await?;
    }
    wishes.cancel().await?;
    Ok(count)
}

async fn call(url: String, at_once: u64) -> Result<u64> {
    let channel = Channel::from_shared(url)?.connect().await?;
    let calls = (0..at_once).map(|_| {
        let mut client = HealthClient::new(channel.clone());
        tokio::spawn(async move {
            for _ in 0..CALLS / at_once {
                let request = HealthCheckRequest { service: String::new() };
                client.check(request).await?;
            }
            Ok::<(), tonic::Status>(())
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await??;
    }
    let count = CALLS / at_once * at_once;
    ensure!(count > 0, "at most {CALLS} at once");
    Ok(count)
}
