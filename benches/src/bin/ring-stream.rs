//! What does a trajectory cost from the engine's memory to a Python trainer's sums, through shared memory
//! and over gRPC?
//!
//! `ring-stream [ROUNDS] [TRAJECTORIES] [RING_MIB] [TOKENS]`; default 10 rounds of 384 trajectories of 1 MiB
//! (65,536 tokens with log-probabilities and mask, and routed experts in the 448 KiB that they leave; all of it
//! is tokens with 116508) through a ring of 16 MiB. A process of its own serves them: a producer that plays
//! nothing hands records to the service that ships. Only when all of them are on disk and in its memory does the
//! trainer grant credit, so that the journal is not in the figures. The disk is memory, and the trainer has
//! imported all it needs by then, so that records are sent soon after they were made: what a virtual machine has
//! not touched for seconds its host has to find again, which took 0.1 ms a record and says nothing of either
//! channel. The figures begin with the first record: what comes before is done once a stream, and is for the most
//! part that the ring's memory has to be found, 1 ms a MiB.
//!
//! The trainer sums every array of each record: `testing/python/ring_client.py` with the package `envmill` (`cargo
//! build --release -p envmill-python` makes it), as views of the ring; `testing/python/ring_trainer.py` with plain
//! `grpcio`, as views of the ring, or from the message that it has decoded. The machine's copy bandwidth is that
//! of a plain copy of such records from 64 different MiB into 64 others, in the same run.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use envmill_benches::{median, python_package, ratio_interval};
use envmill_client::{Client, ConnectOptions, RolloutsOptions, wire};
use envmill_core::JobOptions;
use envmill_delivery::JobKey;
use envmill_protocol::{
    PolicyVersion, Trajectory, VersionSpan,
    record::{Blob, End, Tokens},
};
use envmill_service::{
    Ear, Environment, JobPolicy, Opened, Order, Played, Player, ServiceOptions, Snapshot,
};
use serde_json::Value;
use tokio::net::TcpListener;

/// That of `envmill`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TOKENS: u64 = 65_536;
/// Id, log-probability and mask.
const TOKEN_BYTES: u64 = 9;
const MIB: usize = 1 << 20;
/// How long making them may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// So many different contents there are: more than caches hold.
const CONTENTS: u64 = 64;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, directory, count, tokens] = arguments.as_slice()
        && first == "serve"
    {
        return serve(directory, count.parse()?, tokens.parse()?);
    }
    let number = |index: usize, default: u64| {
        arguments.get(index).map_or(Ok(default), |argument| argument.parse())
    };
    let tokens = number(3, TOKENS)?;
    ensure!(tokens * TOKEN_BYTES <= MIB as u64, "so many tokens do not fit 1 MiB");
    compare(number(0, 10)?, number(1, 384)?, number(2, 16)?, tokens)
}

/// A trainer, and its figures.
struct Side {
    name: &'static str,
    script: &'static str,
    in_ring: bool,
    mib_per_s: Vec<f64>,
    cpu_us: Vec<f64>,
}

impl Side {
    const fn new(name: &'static str, script: &'static str, in_ring: bool) -> Self {
        Self { name, script, in_ring, mib_per_s: Vec::new(), cpu_us: Vec::new() }
    }
}

fn compare(rounds: u64, count: u64, ring_mib: u64, tokens: u64) -> Result<()> {
    let package = python_package()?;
    let mut sides = [
        Side::new("ring, `envmill`", "ring_client.py", true),
        Side::new("ring, `grpcio`", "ring_trainer.py", true),
        Side::new("messages, `envmill`", "ring_client.py", false),
        Side::new("messages, `grpcio`", "ring_trainer.py", false),
    ];
    let mut copies = Vec::new();
    for round in 0..rounds {
        copies.push(copy_bandwidth());
        for turn in 0..sides.len() as u64 {
            let side = &mut sides[((turn + round) % 4) as usize];
            run(count, tokens, ring_mib << 20, package.path(), side)?;
        }
    }
    let ring = &sides[0];
    let against = |side: &[f64]| {
        let ratio = ratio_interval(&ring.mib_per_s, side);
        format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high)
    };
    println!(
        "{count} trajectories of 1 MiB, {tokens} tokens each, a ring of {ring_mib} MiB, {rounds} rounds\n"
    );
    println!("| | MiB/s | the first / its | trainer's CPU each | the first's / its |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for side in &sides {
        let cpu = ratio_interval(&ring.cpu_us, &side.cpu_us);
        println!(
            "| {} | {:.0} | {} | {:.0} µs | {:.2} |",
            side.name,
            median(&side.mib_per_s),
            against(&side.mib_per_s),
            median(&side.cpu_us),
            cpu.median
        );
    }
    println!("| a plain copy | {:.0} | {} | | |", median(&copies), against(&copies));
    Ok(())
}

/// MiB a second of copies from memory that is in no cache to memory that is in none.
fn copy_bandwidth() -> f64 {
    let from = vec![1_u8; CONTENTS as usize * MIB];
    let mut to = vec![2_u8; CONTENTS as usize * MIB];
    let mut rates = Vec::new();
    for _ in 0..8 {
        let began = Instant::now();
        for (to, from) in to.chunks_exact_mut(MIB).zip(from.chunks_exact(MIB)) {
            std::hint::black_box(&mut *to).copy_from_slice(std::hint::black_box(from));
        }
        rates.push(CONTENTS as f64 / began.elapsed().as_secs_f64());
    }
    median(&rates)
}

fn run(count: u64, tokens: u64, ring_bytes: u64, package: &Path, side: &mut Side) -> Result<()> {
    let ring_bytes = if side.in_ring { ring_bytes } else { 0 };
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let mut server = Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg(directory.path())
        .args([count.to_string(), tokens.to_string()])
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(server.stdout.take().context("it is piped")?).lines();
    let address = lines.next().context("the server says where it is")??;
    let mut trainer = Command::new(envmill_testing::python()?)
        .arg("-B")
        .arg(envmill_testing::script(side.script))
        .env("PYTHONPATH", package)
        .args([&address, "-", &count.to_string(), &ring_bytes.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // It needs less time to import all it needs than the records to be made.
    let job_id = submit(&address, count)?;
    writeln!(trainer.stdin.take().context("it is piped")?, "{job_id}")?;
    let output = trainer.wait_with_output()?;
    drop(server.stdin.take());
    server.wait()?;
    ensure!(output.status.success(), "a trainer has failed");
    let figures: Value = serde_json::from_slice(&output.stdout)?;
    let number = |key: &str| figures[key].as_f64().with_context(|| format!("no {key}"));
    let expected = if ring_bytes > 0 { count } else { 0 };
    ensure!(figures["in_memory"] == expected, "{}", figures["in_memory"]);
    let taken = count.saturating_sub(1) as f64;
    side.mib_per_s.push(taken / number("seconds")?);
    side.cpu_us.push(number("cpu_s")? / taken * 1e6);
    Ok(())
}

/// Submits the job, and waits until all of its records wait for a trainer.
fn submit(address: &str, count: u64) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let url = format!("http://{address}");
        let client = Client::new(&ConnectOptions { url, ..ConnectOptions::default() })?;
        let job = wire::SubmitJob {
            environment: "producer".into(),
            episodes: count,
            delivery: Some(wire::DeliveryTerms {
                waiting_max: u64::MAX,
                waiting_bytes_max: u64::MAX,
                ..wire::DeliveryTerms::default()
            }),
            ..wire::SubmitJob::default()
        };
        let nothing = RolloutsOptions { window_bytes: 1, ..RolloutsOptions::default() };
        let rollouts = client.submit(job, nothing).await?;
        let began = Instant::now();
        loop {
            ensure!(began.elapsed() < PATIENCE, "no records: has /dev/shm room for {count} MiB?");
            let status = client.status().await?;
            let job = status.jobs.first().and_then(|job| job.progress.as_ref());
            // What has no place in memory would come from the disk.
            if job.is_some_and(|it| it.recorded == count)
                && status.resident_bytes >= (count - 1) << 20
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // It is done when it is on disk, and so is all that was before it.
        rollouts.wishes().resume().await?;
        Ok(rollouts.job_id().to_owned())
    })
}

/// A player that hands out records that it has at hand.
struct Producer {
    ear: Ear,
    tokens: u32,
}

impl Player for Producer {
    fn submit(&self, _: JobKey, options: JobOptions, _: JobPolicy, _: Option<String>) {
        let (ear, tokens) = (self.ear.clone(), self.tokens);
        let experts = (MIB - tokens as usize * TOKEN_BYTES as usize) / 2 * 2;
        thread::spawn(move || {
            let experts: Vec<Bytes> =
                (0..CONTENTS).map(|content| vec![content as u8; experts].into()).collect();
            for index in 0..options.episodes {
                let experts = experts[(index % CONTENTS) as usize].clone();
                ear.tell(Played::Records(vec![record(&options.name, index, tokens, experts)]));
            }
        });
    }

    fn order(&self, _: JobKey, _: Order) {}

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }
}

fn record(job: &str, index: u64, tokens: u32, experts: Bytes) -> Trajectory {
    let token = |token: u32| token * 97 % 50_000 + index as u32;
    let end = End::Completed { mapped: true };
    Trajectory {
        job_id: job.to_owned(),
        group_id: index,
        environment: "producer".into(),
        reward: Some(1.0),
        tokens: Tokens {
            token_ids: (0..tokens).map(token).collect(),
            prompt_len: 128,
            loss_mask: (0..tokens).map(|token| u8::from(token >= 128)).collect(),
            logprobs: (0..tokens).map(|token| -0.5 - token as f32 * 1e-6).collect(),
            policy_versions: vec![VersionSpan { version: PolicyVersion(0), tokens }],
        },
        blobs: vec![Blob {
            name: "routed_experts".into(),
            dtype: "int16".into(),
            shape: vec![(experts.len() / 2) as u64],
            data: experts,
        }],
        ..Trajectory::bare(format!("{job}-{index:08}"), end)
    }
}

/// Serves until standard input ends.
fn serve(directory: &str, count: u64, tokens: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let options = ServiceOptions {
        // All of them stay in memory, and each goes in one message.
        memory_bytes_max: (count + 64) << 21,
        part_bytes: 2 * MIB,
        ..ServiceOptions::new(Path::new(directory).join("store.redb"))
    };
    let opened = Opened::open(options)?;
    let environment = Environment {
        name: "producer".into(),
        sessions_max: 1,
        steps_bytes_max: 1 << 30,
        defaults: JobOptions::default(),
        action_schema: Bytes::new(),
        is_harness: false,
        player: Box::new(Producer { ear: opened.ear(0), tokens }),
    };
    let running = opened.start(vec![environment], BTreeMap::new(), BTreeMap::new())?;
    println!("{}", listener.local_addr()?);
    let ended = Arc::new(tokio::sync::Notify::new());
    let until = Arc::clone(&ended);
    thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        ended.notify_one();
    });
    let until = async move { until.notified().await };
    runtime.block_on(running.serve(listener, envmill_service::Tokens::default(), None, until))?;
    Ok(())
}
