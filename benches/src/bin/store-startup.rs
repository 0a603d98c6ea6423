//! How long is a service away that was killed with much that is owed?
//!
//! `store-startup [ROUNDS] [RECORDS] [BYTES]`; default 10 rounds, and 10,000 records of 8 KiB that a trainer was
//! sent and has not acknowledged. `envmill serve` is killed with `SIGKILL` and started again on its store. Counted
//! from the start of the process: until `Status` is answered, until the first record has come again to a
//! trainer that attaches then, and until all have. The peer, which takes turns with it, is the same service on a
//! store in which nothing is owed, killed in the same way.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use envmill_benches::median;
use envmill_client::{Client, ConnectOptions, Event, Rollouts, RolloutsOptions, wire};
use envmill_testing::{EnvmillCommand, Running, free_port};
use tempfile::TempDir;

/// How often it is tried whether the service answers.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// What is in a record of four steps beside its reset parameters, about.
const BESIDE_BYTES: usize = 790;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (rounds, records): (usize, u64) = (next("10").parse()?, next("10000").parse()?);
    let bytes: usize = next("8192").parse()?;
    let (full, empty) = (Place::new()?, Place::new()?);
    let (job_id, sent) = fill(&full, records, bytes).await?;
    drop(empty.start()?);
    let mut answered = Vec::new();
    let mut first = Vec::new();
    let mut all = Vec::new();
    let mut answered_empty = Vec::new();
    for round in 0..rounds {
        for turn in 0..2 {
            if (turn + round) % 2 == 0 {
                let times = started(&full, &job_id, records).await?;
                answered.push(times.answered);
                first.push(times.first);
                all.push(times.all);
            } else {
                let began = Instant::now();
                let running = empty.start()?;
                answers(&empty.client()?).await;
                answered_empty.push(began.elapsed().as_secs_f64());
                drop(running);
            }
        }
    }
    println!(
        "{records} records of {} bytes in a file of {} MiB, {rounds} rounds\n",
        sent / records,
        fs::metadata(full.journal())?.len() >> 20
    );
    println!("| from the start after a kill until | median | least | most |");
    println!("| --- | ---: | ---: | ---: |");
    for (what, seconds) in [
        ("`Status` is answered", &answered),
        ("the first record has come again", &first),
        ("all have", &all),
        ("`Status` is answered, nothing being owed", &answered_empty),
    ] {
        let least = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = seconds.iter().copied().fold(0.0, f64::max);
        let ms = |seconds: f64| format!("{:.0} ms", seconds * 1e3);
        println!("| {what} | {} | {} | {} |", ms(median(seconds)), ms(least), ms(most));
    }
    Ok(())
}

/// Where a service has its store, and is found.
struct Place {
    directory: TempDir,
    port: u16,
}

impl Place {
    fn new() -> Result<Self> {
        let (directory, port) = (tempfile::tempdir()?, free_port()?);
        let configuration = format!(
            "[service]\nlisten = \"127.0.0.1:{port}\"\n[environments.cartpole]\nenv = \"native:cartpole\"\n"
        );
        fs::write(directory.path().join("c.toml"), configuration)?;
        Ok(Self { directory, port })
    }

    /// Dropping what comes back kills it.
    fn start(&self) -> Result<Running> {
        let configuration = self.directory.path().join("c.toml");
        EnvmillCommand::built()?.args(["serve", "--config"]).arg(configuration).start()
    }

    fn client(&self) -> Result<Client> {
        let url = format!("http://127.0.0.1:{}", self.port);
        Ok(Client::new(&ConnectOptions { url, ..ConnectOptions::default() })?)
    }

    fn journal(&self) -> impl AsRef<Path> {
        self.directory.path().join("envmill-store/store.redb")
    }
}

/// Nothing that is sent is acknowledged, or makes room for more.
fn window() -> RolloutsOptions {
    RolloutsOptions { window_records: 1 << 40, window_bytes: 1 << 40, ..RolloutsOptions::default() }
}

async fn answers(client: &Client) {
    while client.status().await.is_err() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Has so many records made, sent to a trainer, and the service killed. The job, and bytes of all records.
async fn fill(place: &Place, records: u64, bytes: usize) -> Result<(String, u64)> {
    let _running = place.start()?;
    let client = place.client()?;
    answers(&client).await;
    // The environment takes them, and every record has them.
    let filler = "x".repeat(bytes.saturating_sub(BESIDE_BYTES));
    let job = wire::SubmitJob {
        environment: "cartpole".into(),
        episodes: records,
        reset_parameters: format!("{{\"filler\":\"{filler}\"}}").into(),
        limits: Some(wire::Limits { max_steps: 4, ..wire::Limits::default() }),
        delivery: Some(wire::DeliveryTerms {
            waiting_max: 1 << 40,
            waiting_bytes_max: 1 << 40,
            ..wire::DeliveryTerms::default()
        }),
        ..wire::SubmitJob::default()
    };
    let mut rollouts = client.submit(job, window()).await?;
    let mut sent = 0;
    for _ in 0..records {
        sent += delivered(&mut rollouts).await?.1;
    }
    Ok((rollouts.job_id().to_owned(), sent))
}

/// Seconds from a start.
struct Times {
    answered: f64,
    first: f64,
    all: f64,
}

/// Starts the service after it was killed, takes everything again, and kills it.
async fn started(place: &Place, job_id: &str, records: u64) -> Result<Times> {
    let began = Instant::now();
    let _running = place.start()?;
    let client = place.client()?;
    answers(&client).await;
    let answered = began.elapsed().as_secs_f64();
    let mut rollouts = client.attach(job_id, 0, 0, window()).await?;
    ensure!(delivered(&mut rollouts).await?.0, "what was sent comes again");
    let first = began.elapsed().as_secs_f64();
    for _ in 1..records {
        delivered(&mut rollouts).await?;
    }
    Ok(Times { answered, first, all: began.elapsed().as_secs_f64() })
}

/// Whether the next record comes again, and its bytes.
async fn delivered(rollouts: &mut Rollouts) -> Result<(bool, u64)> {
    loop {
        if let Event::Delivered(it) = rollouts.next().await.context("the stream has ended")?? {
            return Ok((it.redelivered, it.bytes));
        }
    }
}
