//! Does `envmill bench` measure what others measure?
//!
//! `bench-agreement [ROUNDS] [SECONDS] [SLEEP_S] [SESSIONS,...] [RATE_SHARE]`; default 5 rounds of 4 s, steps that
//! sleep 0.05 s, and 1, 8 and 32 sessions. On one stock server (`bench_env`), in turn: `envmill bench` in a closed
//! loop, the stock Python client in one (`py_bench.py`), `envmill bench` in an open loop at a share (0.5) of what
//! that many sessions can take, and an open-loop generator that shares no code with ours (`open_loop.py`) at the
//! same rate. With a sleep the environment sets the pace, and clients must agree; without one (0) a faster client
//! gets more of the cores that all share, and the share of the rate is of what the closed loop reached before.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use envmill_benches::{median, ratio_interval};
use envmill_testing::{EnvmillCommand, PythonServer, python, script};
use serde_json::Value;

/// What one measurement says of a figure.
#[derive(Default)]
struct Pair {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Pair {
    fn push(&mut self, ours: Option<f64>, theirs: Option<f64>) -> Result<()> {
        self.ours.push(ours.context("a figure of ours is missing")?);
        self.theirs.push(theirs.context("a figure of theirs is missing")?);
        Ok(())
    }

    fn show(&self, what: &str) {
        let ratio = ratio_interval(&self.ours, &self.theirs);
        println!(
            "  {what:<34} ours {:>9.2}  theirs {:>9.2}  ratio {:.3} ({:.3} to {:.3})",
            median(&self.ours),
            median(&self.theirs),
            ratio.median,
            ratio.low,
            ratio.high
        );
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (rounds, seconds): (usize, f64) = (next("5").parse()?, next("4").parse()?);
    let sleep_s: f64 = next("0.05").parse()?;
    let sessions = next("1,8,32");
    let share: f64 = next("0.5").parse()?;
    let action = format!(r#"{{"sleep_s":{sleep_s},"payload_bytes":0}}"#);
    let server = PythonServer::of("bench_env")?;
    let bench = Bench { url: server.url(), seconds, action };
    for sessions in sessions.split(',') {
        let count: f64 = sessions.parse()?;
        let mut pairs: [Pair; 6] = Default::default();
        let mut rate = if sleep_s > 0.0 { share * count / sleep_s } else { 0.0 };
        for _ in 0..rounds {
            let ours = bench.ours(sessions, None)?;
            let theirs = bench.stock(sessions, sleep_s)?;
            let [throughput, p50, p99, due_rate, due_p50, due_p99] = &mut pairs;
            throughput.push(number(&ours, "/steps_per_s"), number(&theirs, "/steps_s"))?;
            p50.push(number(&ours, "/latency_ms/step/p50"), number(&theirs, "/p50_ms"))?;
            p99.push(number(&ours, "/latency_ms/step/p99"), number(&theirs, "/p99_ms"))?;
            if rate <= 0.0 {
                rate = share * number(&theirs, "/steps_s").context("steps a second")?;
            }
            let ours = bench.ours(sessions, Some(rate))?;
            let theirs = bench.open_loop(sessions, rate)?;
            due_rate.push(number(&ours, "/steps_per_s"), number(&theirs, "/steps_per_s"))?;
            due_p50.push(
                number(&ours, "/latency_ms/step_corrected/p50"),
                number(&theirs, "/due_p50_ms"),
            )?;
            due_p99.push(
                number(&ours, "/latency_ms/step_corrected/p99"),
                number(&theirs, "/due_p99_ms"),
            )?;
        }
        println!("{sessions} sessions, steps of {sleep_s} s, {rounds} rounds of {seconds} s:");
        let [throughput, p50, p99, due_rate, due_p50, due_p99] = &pairs;
        throughput.show("closed loop, steps/s");
        p50.show("closed loop, median ms");
        p99.show("closed loop, p99 ms");
        due_rate.show(&format!("open loop at {rate:.0}/s, steps/s"));
        due_p50.show("open loop, median ms from due");
        due_p99.show("open loop, p99 ms from due");
    }
    Ok(())
}

struct Bench {
    url: String,
    seconds: f64,
    action: String,
}

impl Bench {
    /// A point of `envmill bench`.
    fn ours(&self, sessions: &str, rate: Option<f64>) -> Result<Value> {
        let mut command = EnvmillCommand::built()?
            .args(["bench", &self.url, "--sessions", sessions, "--json", "-", "--quiet"])
            .args(["--measure-s", &self.seconds.to_string(), "--warm-up-s", "1"])
            .args(["--policy", &format!("constant:{}", self.action)]);
        if let Some(rate) = rate {
            command = command.args(["--arrivals", "uniform", "--rate", &rate.to_string()]);
        }
        let finished = command.run()?;
        ensure!(finished.code() == Some(0), "{}", finished.stderr);
        let report: Value = serde_json::from_str(&finished.stdout)?;
        report.pointer("/targets/0/points/0").cloned().context("a point")
    }

    fn stock(&self, sessions: &str, sleep_s: f64) -> Result<Value> {
        let mut command = Command::new(python()?);
        command.arg(script("py_bench.py")).args([&self.url, sessions, &self.seconds.to_string()]);
        last_line(command.args([&sleep_s.to_string(), "0"]))
    }

    fn open_loop(&self, sessions: &str, rate: f64) -> Result<Value> {
        let mut command = Command::new(python()?);
        command.arg(script("open_loop.py")).args([&self.url, sessions, &rate.to_string()]);
        last_line(command.args([&self.seconds.to_string(), &self.action, "1"]))
    }
}

fn number(value: &Value, pointer: &str) -> Option<f64> {
    value.pointer(pointer)?.as_f64()
}

fn last_line(command: &mut Command) -> Result<Value> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {told}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).context("no JSON")
}
