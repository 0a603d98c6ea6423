//! CPU of one step against the native server, engine and bare loop in turns.
//!
//! `native-cost [ROUNDS] [SESSIONS]`; default 10 rounds of 4,096 sessions.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use envmill_benches::{bare_loop, engine, median, ratio_interval};

const SECONDS: f64 = 4.0;
const ACTION: &str = r#"{"action":1}"#;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().as_deref().unwrap_or("10").parse()?;
    let sessions: u32 = arguments.next().as_deref().unwrap_or("4096").parse()?;
    let envmill = std::env::current_exe()?.with_file_name("envmill");
    let mut server = Command::new(envmill)
        .args(["env", "serve", "cartpole", "--port", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start `envmill`: build it with `cargo build --release --workspace`")?;
    let mut url = String::new();
    let stdout = server.stdout.take().context("standard output was piped")?;
    BufReader::new(stdout).read_line(&mut url)?;
    let url = url.split_whitespace().find(|word| word.starts_with("http")).context("no URL")?;
    let (mut bare, mut mill) = (Vec::new(), Vec::new());
    // CartPole lasts about 9 steps under one constant action, so an episode is mostly its reset.
    let episodes = u64::from(sessions) * 12;
    let policy = format!("constant:{ACTION}");
    for _ in 0..rounds {
        bare.push(bare_loop(url, sessions, SECONDS, ACTION)?.cpu_us_per_step);
        mill.push(engine(url, sessions, episodes, &["--policy", &policy])?.cpu_us_per_step);
    }
    server.kill()?;
    server.wait()?;
    let above = ratio_interval(&mill, &bare);
    println!("CPU µs of the client's process per step at {sessions} sessions, {rounds} rounds");
    println!("bare loop {:.1}, engine {:.1}", median(&bare), median(&mill));
    println!("engine / bare {:.2} ({:.2}–{:.2})", above.median, above.low, above.high);
    Ok(())
}
