//! Does learning a server's limit cost throughput? A Python server that admits 64 sessions is asked
//! for 1,024, in turns with jobs of 8, 16, 32 and 64 fixed sessions.
//!
//! `learned-limit [ROUNDS]`; default 10.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use anyhow::Result;
use envmill_benches::{BENCH_ACTION, engine, median, ratio_interval};
use envmill_testing::{PythonServer, PythonServerOptions};

const FIXED: [u32; 4] = [8, 16, 32, 64];
const ASKED: u32 = 1_024;
const EPISODES: u64 = 1_200;

fn main() -> Result<()> {
    let rounds: usize = std::env::args().nth(1).as_deref().unwrap_or("10").parse()?;
    let options = PythonServerOptions::new("staggered_env")
        .env("STEPS_MEAN", 30)
        .env("MAX_CONCURRENT_ENVS", 64);
    let policy = format!("constant:{BENCH_ACTION}");
    let mut fixed: Vec<Vec<f64>> = vec![Vec::new(); FIXED.len()];
    let mut learned = Vec::new();
    let mut refusals = Vec::new();
    for round in 0..rounds {
        let server = PythonServer::start(options.clone())?;
        let run = |sessions| engine(&server.url(), sessions, EPISODES, &["--policy", &policy]);
        // The order turns, so that no job always meets the freshest server.
        for turn in 0..=FIXED.len() {
            let which = (turn + round) % (FIXED.len() + 1);
            match FIXED.get(which) {
                Some(&sessions) => fixed[which].push(run(sessions)?.steps_per_s),
                None => {
                    let figures = run(ASKED)?;
                    refusals.push(figures.summary["refusals"].as_f64().unwrap_or(f64::NAN));
                    learned.push(figures.steps_per_s);
                }
            }
        }
    }
    println!("steps/s over {rounds} interleaved rounds; {EPISODES} episodes of 30 steps each\n");
    println!("| sessions | steps/s | asked for {ASKED} / this |");
    println!("| ---: | ---: | ---: |");
    for (sessions, rates) in FIXED.iter().zip(&fixed) {
        let ratio = ratio_interval(&learned, rates);
        println!(
            "| {sessions} fixed | {:.0} | {:.3} ({:.3}–{:.3}) |",
            median(rates),
            ratio.median,
            ratio.low,
            ratio.high
        );
    }
    println!("| {ASKED} asked for | {:.0} | |", median(&learned));
    println!("\nrefusals in a run of {ASKED}: {:.0} (median)", median(&refusals));
    Ok(())
}
