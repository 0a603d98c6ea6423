//! What does a step cost behind our front, and behind the class's own server, when OpenEnv's own client asks?
//!
//! `front-stock [ROUNDS] [SESSIONS] [SECONDS]`; default 10 rounds of 512 sessions, each for 10 seconds.
//! `bench_env:BenchEnv` behind its own uvicorn server, a thread a session, and behind `envmill env serve`
//! take turns, each driven in a closed loop by `GenericEnvClient`s in one process. CPU is counted on the
//! server's side, worker processes included.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use anyhow::Result;
use envmill_benches::{front, median, python_client_of, ratio_interval};
use envmill_testing::{PythonServer, PythonServerOptions};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (rounds, sessions): (usize, u32) = (next("10").parse()?, next("512").parse()?);
    let seconds: f64 = next("10").parse()?;
    let (mut its, mut ours) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for turn in 0..2 {
            if (turn + round) % 2 == 0 {
                let server =
                    PythonServer::start(PythonServerOptions::new("bench_env").env("LOG", "0"))?;
                its.push(python_client_of(&server.url(), sessions, seconds, server.pid())?);
            } else {
                let (front, url) = front("bench_env:BenchEnv")?;
                ours.push(python_client_of(&url, sessions, seconds, front.pid())?);
                front.terminate();
                let _ = front.wait();
            }
        }
    }
    println!(
        "{sessions} sessions of the stock client, {rounds} interleaved rounds of {seconds} s\n"
    );
    println!("| server | CPU a step |");
    println!("| --- | ---: |");
    println!("| its own uvicorn | {:.1} µs |", median(&its));
    println!("| our front with its processes | {:.1} µs |", median(&ours));
    let ratio = ratio_interval(&its, &ours);
    println!("\nits own / ours: {:.1} ({:.1}–{:.1})", ratio.median, ratio.low, ratio.high);
    Ok(())
}
