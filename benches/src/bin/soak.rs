//! Servers that are killed, stopped, cut and restarted at random under a long run: is every episode
//! accounted for, and do memory and descriptors stay flat?
//!
//! `soak [EPISODES] [SESSIONS] [STEP_MS] [SEED] [FAULT_EVERY_S] [MINUTES] [PLOT.svg]`; default 20,000
//! episodes of about 8 steps, 256 sessions, steps of 50 ms, one random fault a second, to the end.
//! Three real uvicorn servers, each behind a proxy. After so many minutes the run is interrupted once,
//! and drains. A line a minute on memory and descriptors; at the end the account, and the plot.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use envmill_testing::{Effect, EnvmillCommand, FaultProxy, PythonServer, PythonServerOptions};
use plotters::prelude::*;
use serde::Deserialize;

const SERVERS: usize = 3;
/// How long a killed or stopped server stays away, in faults (seconds).
const AWAY: u64 = 4;

struct Place {
    server: PythonServer,
    proxy: FaultProxy,
    /// The fault at which it comes back, and how.
    returns: Option<(u64, Return)>,
}

#[derive(Clone, Copy)]
enum Return {
    Restart,
    Continue,
    Thaw,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (episodes, sessions, step_ms, seed) =
        (next("20000"), next("256"), next("50"), next("1").parse::<u64>()?);
    let fault_every = next("1").parse::<u64>()?.max(1);
    let (minutes, plot) = (next("100000").parse::<u64>()?, next(""));
    let options = PythonServerOptions::new("staggered_env")
        .env("STEPS_MEAN", 8)
        .env("BENCH_ASYNC", 1)
        .env("LOG", "0");
    let mut places = (0..SERVERS)
        .map(|_| {
            let server = PythonServer::start(options.clone())?;
            let proxy = FaultProxy::start(server.address())?;
            Ok(Place { server, proxy, returns: None })
        })
        .collect::<Result<Vec<_>>>()?;
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("out");
    let seconds: f64 = step_ms.parse::<f64>()? / 1e3;
    let mut command =
        EnvmillCommand::built()?.args(["run", "--json", "--quiet", "--out"]).arg(&out);
    for place in &places {
        command = command.args(["--env", &place.proxy.url()]);
    }
    let mut running = command
        .args(["--episodes", &episodes, "--sessions", &sessions, "--step-timeout-ms", "5000"])
        .args(["--first-reset-timeout-ms", "15000", "--reset-timeout-ms", "10000"])
        .args(["--attempts", "8", "--retry-budget", "100"])
        .args(["--policy", &format!(r#"constant:{{"sleep_s":{seconds},"payload_bytes":64}}"#)])
        .start()?;
    let (began, mut faults) = (Instant::now(), BTreeMap::<&str, u64>::new());
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut samples = Vec::new();
    println!("minute,rss_mib,descriptors");
    // A server that starts slowly holds everything here up, so the time is looked at, not counted.
    let (mut next_sample, mut next_fault, mut is_interrupted) = (0, fault_every, false);
    while running.is_running() {
        let second = began.elapsed().as_secs();
        if second >= next_sample {
            let descriptors = fs::read_dir(format!("/proc/{}/fd", running.pid()))?.count();
            let rss = running.rss_bytes() as f64 / f64::from(1 << 20);
            println!("{},{rss:.1},{descriptors}", second / 60);
            samples.push((second as f64 / 60.0, rss, descriptors as f64));
            next_sample = second + 60;
        }
        if second >= minutes * 60 && !is_interrupted {
            running.interrupt();
            is_interrupted = true;
        }
        for place in &mut places {
            come_back(place, second);
        }
        if second >= next_fault {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let place = &mut places[(state >> 8) as usize % SERVERS];
            *faults.entry(strike(place, (state >> 33) % 5, second)).or_default() += 1;
            next_fault = second + fault_every;
        }
        pause(began + Duration::from_secs(second + 1));
    }
    let finished = running.wait();
    let summary = finished.summary()?;
    let (records, ids) = count(&out.join("trajectories.jsonl"))?;
    println!("{summary:#}");
    println!("faults {faults:?} in {:?}", began.elapsed());
    let requested = summary["episodes"]["requested"].as_u64().context("no count in the summary")?;
    println!(
        "{requested} requested, {records} records, {ids} ids, exit status {:?}",
        finished.code()
    );
    if !plot.is_empty() {
        draw(Path::new(&plot), &samples)?;
    }
    Ok(())
}

/// How many records there are, and how many different ids they have.
fn count(path: &Path) -> Result<(usize, usize)> {
    #[derive(Deserialize)]
    struct Record {
        trajectory_id: String,
    }
    let (mut records, mut ids) = (0, HashSet::new());
    for line in BufReader::new(fs::File::open(path)?).lines() {
        records += 1;
        ids.insert(serde_json::from_str::<Record>(&line?)?.trajectory_id);
    }
    Ok((records, ids.len()))
}

/// Memory and descriptors over time, one above the other.
fn draw(path: &Path, samples: &[(f64, f64, f64)]) -> Result<()> {
    let area = SVGBackend::new(path, (720, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let (above, below) = area.split_vertically(210);
    let memory: Vec<(f64, f64)> = samples.iter().map(|(at, rss, _)| (*at, *rss)).collect();
    let descriptors: Vec<(f64, f64)> = samples.iter().map(|(at, _, n)| (*at, *n)).collect();
    for (area, name, line) in [(above, "RSS, MiB", memory), (below, "descriptors", descriptors)] {
        let longest = line.last().map_or(1.0, |(at, _)| *at);
        let most = line.iter().map(|(_, y)| *y).fold(1.0, f64::max) * 1.1;
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(32)
            .y_label_area_size(54)
            .build_cartesian_2d(0.0..longest, 0.0..most)?;
        chart.configure_mesh().light_line_style(WHITE).x_desc("minutes").y_desc(name).draw()?;
        chart.draw_series(LineSeries::new(line, BLUE.stroke_width(2)))?;
    }
    area.present()?;
    Ok(())
}

/// Does one thing to a server that is there, and says what.
fn strike(place: &mut Place, what: u64, second: u64) -> &'static str {
    if place.returns.is_some() {
        return "none (it was away)";
    }
    match what {
        0 => {
            place.server.kill();
            place.returns = Some((second + AWAY, Return::Restart));
            "kill -9"
        }
        1 => {
            place.server.stop();
            place.returns = Some((second + AWAY, Return::Continue));
            "SIGSTOP"
        }
        2 => {
            place.proxy.freeze();
            place.returns = Some((second + AWAY, Return::Thaw));
            "half-open"
        }
        3 => {
            place.proxy.strike(Effect::Cut);
            "cut"
        }
        _ => {
            place.proxy.strike(Effect::HalfClose);
            "half-close"
        }
    }
}

fn come_back(place: &mut Place, second: u64) {
    let Some((_, how)) = place.returns.take_if(|(at, _)| *at <= second) else { return };
    match how {
        Return::Restart => {
            if let Err(error) = place.server.restart() {
                // On a machine with too much to do; the run has to live with it.
                println!("# a server has not come back: {error}");
                place.returns = Some((second + AWAY, how));
            }
        }
        Return::Continue => place.server.cont(),
        Return::Thaw => place.proxy.thaw(),
    }
}

#[expect(clippy::disallowed_methods, reason = "nobody has to wake a benchmark")]
fn pause(until: Instant) {
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
}
