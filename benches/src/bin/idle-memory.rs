//! What a session that waits costs in the engine's memory, the kernel's socket buffers apart.
//!
//! `idle-memory [SESSIONS]`; default 8192. Sessions of 512-byte observations play on a native server
//! whose steps take seconds; the engine's anonymous memory is read while all of them wait, after the
//! reset and after each of two steps, and compared with that of a run of 64.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use envmill_testing::EnvmillCommand;

const FEW: u32 = 64;
const STEP: Duration = Duration::from_secs(12);
/// Into a step, when every session has long been waiting.
const INTO: Duration = Duration::from_secs(8);

fn main() -> Result<()> {
    let sessions: u32 = std::env::args().nth(1).as_deref().unwrap_or("8192").parse()?;
    let (few, many) = (sample(FEW)?, sample(sessions)?);
    println!(
        "| while waiting for | {FEW} sessions, KiB | {sessions} sessions, KiB | KiB a session |"
    );
    println!("| --- | ---: | ---: | ---: |");
    for (step, (few, many)) in few.iter().zip(&many).enumerate() {
        let each = (*many as f64 - *few as f64) / f64::from(sessions - FEW);
        println!("| step {} | {few} | {many} | {each:.2} |", step + 1);
    }
    Ok(())
}

/// Anonymous memory in KiB, in the middle of each of three steps.
fn sample(sessions: u32) -> Result<Vec<u64>> {
    let directory = tempfile::tempdir()?;
    let environment = format!(
        "serve:synthetic?step_ms={}&episode_steps=1000000&payload_bytes=512",
        STEP.as_millis()
    );
    let sessions = sessions.to_string();
    let running = EnvmillCommand::built()?
        .args(["run", "--env", &environment, "--sessions", &sessions, "--episodes", &sessions])
        .args(["--max-steps", "4", "--quiet", "--out"])
        .arg(directory.path().join("out"))
        .start()?;
    let mut samples = Vec::new();
    for wait in [INTO, STEP, STEP] {
        pause(wait);
        samples.push(anonymous_kib(running.pid())?);
    }
    Ok(samples)
}

#[expect(clippy::disallowed_methods, reason = "nobody has to wake a benchmark")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn anonymous_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number.context("no RssAnon in the process's status")?.parse()?)
}
