//! What does it cost to journal trajectories, and how long does a start take after a crash?
//!
//! `journal-cost [TRAJECTORIES] [BYTES] [DIRECTORY]`; default 10,000 of 8 KiB, in the current directory's
//! file system. For several sizes of batches: trajectories a second and CPU for each, from the record to
//! its acknowledgement, both on disk. Then a child process records all of them and is killed, and the
//! store is opened again.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use bytes::Bytes;
use envmill_delivery::{
    ConsumerId, Delivery, Finished, JobKey, Kind, Options, Order, Output, Retention, Terms, Version,
};
use envmill_store::{Medium, Store};
use rustix::time::{ClockId, clock_gettime};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TERMS: Terms = Terms {
    order: Order::AsFinished,
    staleness_max: None,
    retention: Retention::UntilAcknowledged,
    waiting_items_max: u64::MAX,
    waiting_bytes_max: u64::MAX,
};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (count, bytes) = (next("10000").parse::<u64>()?, next("8192").parse::<usize>()?);
    let directory = PathBuf::from(next("."));
    if let Some(path) = std::env::var_os("ENVMILL_JOURNAL_COST_CHILD") {
        return record_and_die(Path::new(&path), count, bytes);
    }
    println!("| a batch | trajectories/s | CPU for each | file |");
    println!("| ---: | ---: | ---: | ---: |");
    for batch in [1, 8, 64, 512] {
        let path = directory.join(format!("journal-cost-{}.redb", std::process::id()));
        // So many that each size takes about as long.
        let count = count.min(batch * 400);
        let (wall, cpu) = round(&path, count, bytes, batch)?;
        let file = fs::metadata(&path)?.len() >> 20;
        fs::remove_file(&path)?;
        let each = cpu / count as f64 * 1e6;
        println!("| {batch} | {:.0} | {each:.1} µs | {file} MiB |", count as f64 / wall);
    }
    let path = directory.join(format!("journal-cost-{}.redb", std::process::id()));
    Command::new(std::env::current_exe()?)
        .args([count.to_string(), bytes.to_string()])
        .env("ENVMILL_JOURNAL_COST_CHILD", &path)
        .status()?;
    let began = Instant::now();
    let mut store = Store::open(Medium::File(path.clone()))?;
    let opened = began.elapsed();
    let jobs: Vec<_> = store.jobs()?.into_iter().map(|job| job.restored).collect();
    let mut delivery = Delivery::restore(Options::default(), jobs);
    let restored = began.elapsed();
    delivery.attach(JobKey(1), 0, ConsumerId(1), 0)?;
    delivery.credit(JobKey(1), ConsumerId(1), u64::MAX, u64::MAX)?;
    let sent = deliver(&mut delivery, &mut store)?;
    println!(
        "\nafter a kill with {count} of {bytes} bytes unacknowledged: opened in {opened:.2?}, restored \
         after {restored:.2?}, {} delivered again after {:.2?}",
        sent.len(),
        began.elapsed()
    );
    fs::remove_file(&path)?;
    Ok(())
}

/// Records, delivers and acknowledges, a batch at a time.
fn round(path: &Path, count: u64, bytes: usize, batch: u64) -> Result<(f64, f64)> {
    let mut store = Store::open(Medium::File(path.to_owned()))?;
    let mut delivery = Delivery::new(Options::default());
    let job = store.new_job();
    delivery.accept(job, TERMS, Bytes::new());
    delivery.attach(job, 0, ConsumerId(1), 0)?;
    delivery.credit(job, ConsumerId(1), u64::MAX, u64::MAX)?;
    let payload = Bytes::from(vec![7; bytes]);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut acknowledged = 0;
    for id in 0..count {
        delivery.record(job, trajectory(id, &payload))?;
        if (id + 1) % batch == 0 || id + 1 == count {
            let sent = deliver(&mut delivery, &mut store)?;
            acknowledged += sent.len() as u64;
            let ranges: Vec<_> = sent.into_iter().map(|number| number..=number).collect();
            delivery.acknowledge(job, &ranges, None)?;
        }
    }
    deliver(&mut delivery, &mut store)?;
    assert_eq!((acknowledged, delivery.kept(job)), (count, 0));
    Ok((began.elapsed().as_secs_f64(), cpu_seconds() - cpu))
}

/// Writes what is to be written and takes what is sent.
fn deliver(delivery: &mut Delivery, store: &mut Store) -> Result<Vec<u64>> {
    let mut sent = Vec::new();
    loop {
        if let Some(batch) = delivery.batch() {
            store.apply(&batch)?;
            delivery.committed(batch.ticket);
        }
        let outputs = delivery.outputs();
        if outputs.is_empty() {
            return Ok(sent);
        }
        for output in outputs {
            match output {
                Output::Send(it) => {
                    sent.push(it.number.0);
                    delivery.taken(it.job, it.consumer, it.bytes)?;
                }
                Output::Load { job, sequence } => {
                    if let Some(payload) = store.payload(job, sequence)? {
                        delivery.loaded(job, sequence, payload);
                    }
                }
                _ => (),
            }
        }
    }
}

fn record_and_die(path: &Path, count: u64, bytes: usize) -> Result<()> {
    let mut store = Store::open(Medium::File(path.to_owned()))?;
    let mut delivery = Delivery::new(Options::default());
    delivery.accept(store.new_job(), TERMS, Bytes::new());
    let payload = Bytes::from(vec![7; bytes]);
    for id in 0..count {
        delivery.record(JobKey(1), trajectory(id, &payload))?;
        if id % 512 == 511 || id + 1 == count {
            deliver(&mut delivery, &mut store)?;
        }
    }
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    Ok(())
}

fn trajectory(id: u64, payload: &Bytes) -> Finished {
    let version = Version::default();
    Finished { id, kind: Kind::Trajectory, group: id, version, payload: payload.clone() }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
