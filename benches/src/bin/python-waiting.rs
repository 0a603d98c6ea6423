//! Are worker processes kept busy whose environments wait?
//!
//! `python-waiting [ROUNDS] [PROCESSES] [SLEEP_MS] [SESSIONS] [EPISODES]`; default 5 rounds of 16
//! processes, steps that sleep 2 ms, 64 sessions and 3,200 episodes of 50 steps (of fewer, the last ones,
//! which leave processes without work, would be a part that shows). Each environment measures
//! its own sleeps; the figure is the share of the processes' time, from the first reset to the last end,
//! that they have spent in them.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use anyhow::{Context as _, Result, ensure};
use envmill_benches::median;
use envmill_testing::{EnvmillCommand, trajectories};
use serde_json::Value;

const STEPS: u32 = 50;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (rounds, processes): (usize, u32) = (next("5").parse()?, next("16").parse()?);
    let seconds = next("2").parse::<f64>()? / 1e3;
    let (sessions, episodes) = (next("64"), next("3200"));
    let (mut busy, mut slept_ms, mut steps_per_s) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let directory = tempfile::tempdir()?;
        let out = directory.path().join("out");
        let environment =
            format!("python:gym_env:Sleeper?arguments={{\"seconds\":{seconds},\"steps\":{STEPS}}}");
        let finished = EnvmillCommand::built()?
            .args(["run", "--json", "--quiet", "--env", &environment])
            .args(["--replicas", &processes.to_string(), "--sessions", &sessions])
            .args(["--episodes", &episodes, "--python"])
            .arg(envmill_testing::python()?)
            .arg("--python-path")
            .arg(envmill_testing::script("servers"))
            .arg("--out")
            .arg(&out)
            .run()?;
        ensure!(finished.code() == Some(0), "{}", finished.stderr);
        let records = trajectories(&out)?;
        let mut slept = Vec::new();
        let (mut began, mut ended) = (f64::MAX, 0.0_f64);
        for record in &records {
            let time = |name: &str| record["timing"][name].as_f64().context("a time");
            began = began.min(time("reset_us")?);
            ended = ended.max(time("ended_us")?);
            let steps = record["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
            let of = |step: &Value| step["observation"]["observation"].as_f64();
            slept.extend(steps.iter().filter_map(of));
        }
        let (wall, sum) = ((ended - began) / 1e6, slept.iter().sum::<f64>());
        busy.push(sum / (wall * f64::from(processes)));
        slept_ms.push(1e3 * sum / slept.len() as f64);
        steps_per_s.push(slept.len() as f64 / wall);
    }
    println!(
        "{processes} processes, {sessions} sessions, sleeps of {:.2} ms as measured: {:.0} steps/s; asleep \
         {:.1} % of their time (of {rounds} rounds: {:.1}–{:.1} %)",
        median(&slept_ms),
        median(&steps_per_s),
        100.0 * median(&busy),
        100.0 * busy.iter().copied().fold(f64::MAX, f64::min),
        100.0 * busy.iter().copied().fold(0.0, f64::max),
    );
    Ok(())
}
