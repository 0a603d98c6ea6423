//! Sixteen thousand sessions of one-second steps on one engine and one native server: does any
//! episode fail, and how much later than a bare timer do the steps come back?
//!
//! `many-sessions [SESSIONS] [STEPS] [STEP_MS]`; default 16384, 30 and 1000.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use envmill_testing::EnvmillCommand;
use tokio::task::LocalSet;

const TIMERS: usize = 1_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let sessions = arguments.next().unwrap_or_else(|| "16384".to_owned());
    let steps = arguments.next().unwrap_or_else(|| "30".to_owned());
    let step_ms: u64 = arguments.next().as_deref().unwrap_or("1000").parse()?;
    let directory = tempfile::tempdir()?;
    let stop = AtomicBool::new(false);
    let (finished, late) = std::thread::scope(|scope| -> Result<_> {
        let timers = scope.spawn(|| bare_timers(Duration::from_millis(step_ms), &stop));
        let environment = format!("serve:synthetic?step_ms={step_ms}&episode_steps=1000000");
        let finished = EnvmillCommand::built()?
            .args(["run", "--env", &environment, "--json", "--sessions", &sessions])
            .args(["--episodes", &sessions, "--max-steps", &steps])
            .arg("--out")
            .arg(directory.path().join("out"))
            .run();
        stop.store(true, Ordering::Relaxed);
        let late = timers.join().map_err(|_| anyhow::anyhow!("the timers panicked"))??;
        Ok((finished?, late))
    })?;
    let summary = finished.summary()?;
    let p99 = summary["latency_ms"]["step"]["p99"].as_f64().context("no P99 in the summary")?;
    let timer_p99 = late[late.len() * 99 / 100].as_secs_f64() * 1e3;
    println!("{summary:#}");
    println!("exit status {:?}", finished.code());
    println!("P99 of a step {p99:.1} ms, of a bare {step_ms} ms timer {timer_p99:.1} ms: ");
    println!("the step comes {:.1} ms later", p99 - timer_p99);
    Ok(())
}

/// How long timers of `period` really took, sorted, until `stop` is set.
fn bare_timers(period: Duration, stop: &AtomicBool) -> Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut took = runtime.block_on(LocalSet::new().run_until(async {
        let mut took = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let timers: Vec<_> = (0..TIMERS)
                .map(|_| {
                    tokio::task::spawn_local(async move {
                        let began = Instant::now();
                        tokio::time::sleep(period).await;
                        began.elapsed()
                    })
                })
                .collect();
            for timer in timers {
                took.extend(timer.await);
            }
        }
        took
    }));
    took.sort_unstable();
    Ok(took)
}
