//! What does a trajectory cost from its record to the trainer's acknowledgement?
//!
//! `trajectory-stream [ROUNDS] [TRAJECTORIES]`; default 5 rounds of 16,384 trajectories of 512 tokens in
//! groups of 8. A process of its own serves them: a producer that plays nothing hands records to the
//! service that ships, which journals them on disk and streams them over gRPC. Another process takes
//! them with the Rust client, looks at every token and acknowledges by the 64 groups. The peer is the
//! API of Atropos (`ENVMILL_BENCH_ATROPOS` names an interpreter that has `atroposlib` 0.4): one process
//! pushes the same trajectories with `POST /scored_data_list`, then another takes them with `GET
//! /batch`; nothing of it is on disk or acknowledged.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use envmill_benches::{cpu_seconds, median, ratio_interval};
use envmill_client::{Client, ConnectOptions, Event, RolloutsOptions, wire};
use envmill_core::JobOptions;
use envmill_delivery::JobKey;
use envmill_protocol::{
    PolicyVersion, Trajectory, VersionSpan,
    record::{End, FirstObservations, GroupOutcome, GroupRecord, Tokens},
};
use envmill_service::{
    Ear, Environment, JobPolicy, Opened, Order, Played, Player, ServiceOptions, Snapshot,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const TOKENS: u32 = 512;
const MEMBERS: u32 = 8;
/// An acknowledgement is for so many records: 64 groups, with a record of their own each.
const ACKNOWLEDGED: u64 = 64 * (MEMBERS as u64 + 1);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    let second = arguments.next();
    match first.as_deref() {
        Some("serve") => serve(&second.context("a directory")?),
        Some("take") => {
            let count = arguments.next().context("how many")?.parse()?;
            take(second.context("a URL")?, count)
        }
        _ => {
            let rounds = first.as_deref().unwrap_or("5").parse()?;
            compare(rounds, second.as_deref().unwrap_or("16384").parse()?)
        }
    }
}

/// One side's figures of one run.
struct Side {
    rates: Vec<f64>,
    cpu_us: Vec<f64>,
}

impl Side {
    const fn new() -> Self {
        Self { rates: Vec::new(), cpu_us: Vec::new() }
    }

    fn push(&mut self, count: u64, seconds: f64, cpu: f64) {
        self.rates.push(count as f64 / seconds);
        self.cpu_us.push(cpu / count as f64 * 1e6);
    }
}

fn compare(rounds: usize, count: u64) -> Result<()> {
    ensure!(count.is_multiple_of(MEMBERS.into()), "groups have {MEMBERS} members");
    let (mut ours, mut push, mut batch) = (Side::new(), Side::new(), Side::new());
    let atropos = std::env::var("ENVMILL_BENCH_ATROPOS").ok();
    for round in 0..rounds {
        for turn in 0..2 {
            if (turn + round) % 2 == 0 {
                run_ours(count, &mut ours)?;
            } else if let Some(python) = &atropos {
                run_atropos(python, count, &mut push, &mut batch)?;
            }
        }
    }
    println!("{count} trajectories of {TOKENS} tokens in groups of {MEMBERS}, {rounds} rounds\n");
    println!("| | trajectories/s | ours / its | CPU each, both ends | its / ours |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    println!(
        "| Envmill: journal, gRPC, acknowledged | {:.0} | | {:.1} µs | |",
        median(&ours.rates),
        median(&ours.cpu_us)
    );
    if atropos.is_some() {
        for (name, side) in [("Atropos: push", &push), ("Atropos: batch", &batch)] {
            let rate = ratio_interval(&ours.rates, &side.rates);
            let cpu = ratio_interval(&side.cpu_us, &ours.cpu_us);
            println!(
                "| {name} | {:.0} | {:.1} ({:.1}–{:.1}) | {:.1} µs | {:.1} ({:.1}–{:.1}) |",
                median(&side.rates),
                rate.median,
                rate.low,
                rate.high,
                median(&side.cpu_us),
                cpu.median,
                cpu.low,
                cpu.high,
            );
        }
    }
    Ok(())
}

fn run_ours(count: u64, ours: &mut Side) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let this = std::env::current_exe()?;
    let mut server = Command::new(&this)
        .arg("serve")
        .arg(directory.path())
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()?;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        server.stdout.take().context("it is piped")?,
    ));
    let url = lines.next().context("the server says where it is")??;
    let taken = Command::new(&this).args(["take", &url, &count.to_string()]).output()?;
    ensure!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let taken: Value = serde_json::from_slice(&taken.stdout)?;
    // It ends with its input, and says what it has cost.
    drop(server.stdin.take());
    let served: f64 = lines.next().context("the server says what it has cost")??.parse()?;
    server.wait()?;
    let number = |key: &str| taken[key].as_f64().context("a number");
    ours.push(count, number("seconds")?, number("cpu_s")? + served);
    Ok(())
}

fn run_atropos(python: &str, count: u64, push: &mut Side, batch: &mut Side) -> Result<()> {
    let script = envmill_testing::script("atropos_bench.py");
    let output = Command::new(python)
        .arg(script)
        .args([count, u64::from(TOKENS), u64::from(MEMBERS)].map(|it| it.to_string()))
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout)?;
    let number = |key: &str| figures[key].as_f64().with_context(|| format!("no {key}"));
    push.push(count, number("push_s")?, number("push_cpu_s")?);
    batch.push(count, number("batch_s")?, number("batch_cpu_s")?);
    Ok(())
}

/// A player that hands out records that it has at hand.
struct Producer {
    ear: Ear,
    paused: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    moved: Condvar,
    is_over: AtomicBool,
}

impl Gate {
    fn set(&self, is_closed: bool) {
        *self.is_closed.lock().unwrap_or_else(PoisonError::into_inner) = is_closed;
        self.moved.notify_all();
    }

    fn pass(&self) {
        let mut is_closed = self.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        while *is_closed && !self.is_over.load(Ordering::Relaxed) {
            is_closed = self.moved.wait(is_closed).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Player for Producer {
    fn submit(&self, job: JobKey, options: JobOptions, _: JobPolicy, _: Option<String>) {
        let (ear, gate) = (self.ear.clone(), Arc::clone(&self.paused));
        thread::spawn(move || {
            for group in 0..options.episodes / u64::from(MEMBERS) {
                gate.pass();
                let records = (0..MEMBERS).map(|sample| record(&options.name, group, sample));
                ear.tell(Played::Records(records.collect()));
                ear.tell(Played::Groups(vec![group_record(&options.name, group)]));
            }
            ear.tell(Played::Ended(job));
        });
    }

    fn order(&self, _: JobKey, order: Order) {
        match order {
            Order::Pause => self.paused.set(true),
            Order::Resume => self.paused.set(false),
            _ => {}
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }
}

fn record(job: &str, group: u64, sample: u32) -> Trajectory {
    let index = group * u64::from(MEMBERS) + u64::from(sample);
    let tokens = TOKENS as usize;
    let end = End::Completed { mapped: true };
    Trajectory {
        job_id: job.to_owned(),
        group_id: group,
        sample_index: sample,
        environment: "producer".into(),
        reward: Some(f64::from(sample)),
        tokens: Tokens {
            token_ids: (0..TOKENS).map(|token| token * 97 % 50_000 + sample).collect(),
            prompt_len: 128,
            loss_mask: (0..TOKENS).map(|token| u8::from(token >= 128)).collect(),
            logprobs: vec![-0.5; tokens],
            policy_versions: vec![VersionSpan { version: PolicyVersion(0), tokens: TOKENS }],
        },
        ..Trajectory::bare(format!("{job}-{index:08}"), end)
    }
}

fn group_record(job: &str, group: u64) -> GroupRecord {
    GroupRecord {
        job_id: job.to_owned(),
        group_id: group,
        task_id: String::new(),
        environment: "producer".into(),
        seed: None,
        asked: MEMBERS,
        oversampled: 0,
        complete_at: MEMBERS,
        used: MEMBERS,
        outcome: GroupOutcome::Complete,
        filter: String::new(),
        refill_of: None,
        first_observations: FirstObservations::Unknown,
        duplicates: 0,
        steps_used: 0,
        steps_wasted: 0,
        tokens_used: 0,
        tokens_wasted: 0,
        started_us: 0,
        ended_us: 0,
        members: Vec::new(),
    }
}

/// Serves until standard input ends.
fn serve(directory: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let store = std::path::Path::new(directory).join("store.redb");
    let opened = Opened::open(ServiceOptions::new(store))?;
    let producer = Producer { ear: opened.ear(0), paused: Arc::default() };
    let environment = Environment {
        name: "producer".into(),
        sessions_max: 1,
        steps_bytes_max: 1 << 30,
        defaults: JobOptions::default(),
        action_schema: Bytes::new(),
        is_harness: false,
        player: Box::new(producer),
    };
    let running = opened.start(vec![environment], BTreeMap::new(), BTreeMap::new())?;
    println!("http://{}", listener.local_addr()?);
    let (ended, until) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let until = async {
        let _ = until.await;
    };
    runtime.block_on(running.serve(listener, envmill_service::Tokens::default(), None, until))?;
    println!("{}", cpu_seconds());
    Ok(())
}

/// Takes a job's records from the first to the last acknowledgement.
fn take(url: String, count: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::new(&ConnectOptions { url, ..ConnectOptions::default() })?;
        let job = wire::SubmitJob {
            environment: "producer".into(),
            groups: count / u64::from(MEMBERS),
            group_rules: Some(wire::GroupRules { samples: MEMBERS, ..wire::GroupRules::default() }),
            delivery: Some(wire::DeliveryTerms {
                order: wire::Order::ByGroup.into(),
                ..wire::DeliveryTerms::default()
            }),
            ..wire::SubmitJob::default()
        };
        let began = Instant::now();
        let mut rollouts = client.submit(job, RolloutsOptions::default()).await?;
        let wishes = rollouts.wishes();
        let (mut acknowledged, mut last, mut sum, mut trajectories) = (0, 0, 0_u64, 0);
        loop {
            let event = rollouts.next().await.context("the stream ended")??;
            let Event::Delivered(delivered) = event else {
                if matches!(event, Event::Settled) {
                    break;
                }
                continue;
            };
            rollouts.taken(delivered.bytes);
            last = delivered.number;
            let mut is_end = false;
            match &delivered.record {
                wire::Record::Trajectory(trajectory) => {
                    let tokens = trajectory.tokens.as_ref().context("it has tokens")?;
                    trajectories += 1;
                    sum += tokens.token_ids.iter().copied().map(u64::from).sum::<u64>();
                    ensure!(tokens.logprobs.len() == tokens.loss_mask.len(), "lists differ");
                }
                wire::Record::End(_) => is_end = true,
                _ => {}
            }
            if last - acknowledged >= ACKNOWLEDGED || is_end {
                let (wishes, first) = (wishes.clone(), acknowledged + 1);
                acknowledged = last;
                tokio::spawn(async move { wishes.acknowledge(&[first..=last], "").await });
            }
        }
        ensure!(trajectories == count && sum > 0 && last > count, "{trajectories} came");
        let seconds = began.elapsed().as_secs_f64();
        println!("{}", json!({ "seconds": seconds, "cpu_s": cpu_seconds() }));
        // What is on its way back is not waited for.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(())
    })
}
