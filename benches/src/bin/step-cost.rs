//! CPU of one remote OpenEnv step on the client's side: the engine running a whole job with records,
//! the stock Python client, and a bare tuned WebSocket loop, taking turns on one real server.
//!
//! `step-cost [ROUNDS] [SESSIONS,...]`; default 10 rounds of 64, 512 and 2,048 sessions.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use anyhow::Result;
use envmill_benches::{
    BENCH_ACTION, Figures, bare_loop, engine, median, python_client, ratio_interval,
};
use envmill_testing::{PythonServer, PythonServerOptions};

const SECONDS: f64 = 4.0;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().as_deref().unwrap_or("10").parse()?;
    let sessions = arguments.next().unwrap_or_else(|| "64,512,2048".to_owned());
    println!("CPU µs of the client's process per step, medians of {rounds} interleaved rounds;");
    println!("ratios with 95 % bootstrap intervals over the pairs\n");
    println!("| sessions | Python client | bare loop | engine | Python / engine | engine / bare |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for sessions in sessions.split(',') {
        row(sessions.trim().parse()?, rounds)?;
    }
    Ok(())
}

fn row(sessions: u32, rounds: usize) -> Result<()> {
    // Long episodes where sessions are few, so that a run has enough steps; short ones where they
    // are many, so that it ends.
    let steps_mean = if sessions >= 1_024 { 8 } else { 30 };
    let episodes = (u64::from(sessions) * 4).max(24_000 / steps_mean);
    let options =
        PythonServerOptions::new("staggered_env").env("STEPS_MEAN", steps_mean).env("LOG", "0");
    let (mut python, mut bare, mut mill) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        // A server of its own for each round: it grows with every session it has held.
        let server = PythonServer::start(options.clone())?;
        let policy = format!("constant:{BENCH_ACTION}");
        let url = server.url();
        let cpu = |figures: Figures| figures.cpu_us_per_step;
        python.push(python_client(&url, sessions, SECONDS).map(cpu)?);
        bare.push(bare_loop(&url, sessions, SECONDS, BENCH_ACTION).map(cpu)?);
        mill.push(engine(&url, sessions, episodes, &["--policy", &policy]).map(cpu)?);
    }
    let saved = ratio_interval(&python, &mill);
    let above = ratio_interval(&mill, &bare);
    println!(
        "| {sessions} | {:.1} | {:.1} | {:.1} | {:.2} ({:.2}–{:.2}) | {:.2} ({:.2}–{:.2}) |",
        median(&python),
        median(&bare),
        median(&mill),
        saved.median,
        saved.low,
        saved.high,
        above.median,
        above.low,
        above.high,
    );
    Ok(())
}
