//! What do Gymnasium environments cost in worker processes?
//!
//! `python-gymnasium [ROUNDS] [ENVIRONMENTS] [STEPS] [ID]`; default 10 rounds of 64 `CartPole-v1` and
//! 100,000 steps. Four take turns: a bare loop in Python on each core, since what else runs on a core's
//! other thread slows it, Gymnasium's `SyncVectorEnv` and `AsyncVectorEnv`, and worker processes driven in
//! a closed loop by this one, whose CPU counts too.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{
    num::NonZero,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use envmill_benches::{
    Costs, Drive, discrete_actions, drive, median, ratio_interval, tree_cpu_seconds,
};
use envmill_python_worker::{Gymnasium, Log, Options, Placement, PythonWorker, Target};

const PEERS: [&str; 3] = ["bare", "sync", "async"];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (rounds, sessions): (usize, u32) = (next("10").parse()?, next("64").parse()?);
    let (steps, id) = (next("100000").parse::<u64>()?, next("CartPole-v1"));
    let mut peers: [Costs; 3] = Default::default();
    let (mut ours, mut there, mut here) = (Costs::default(), Vec::new(), Vec::new());
    for round in 0..rounds {
        for turn in 0..4 {
            let which = (turn + round) % 4;
            if let Some(how) = PEERS.get(which) {
                let (cpu, rate) = peer(how, &id, sessions, steps)?;
                peers[which].push(cpu, rate);
                continue;
            }
            let target = Gymnasium { name: format!("gymnasium/{id}"), ..Gymnasium::default() };
            let mut options = Options::new(Target::Gymnasium(target));
            options.python = envmill_testing::python()?;
            options.placement = Placement::Even;
            options.log = Log::Nowhere;
            let (mut worker, _) = PythonWorker::start(options)?;
            let nursery = worker.nursery_pid();
            let work = Drive { sessions, steps, actions: discrete_actions(2), seeded: true };
            let cost = drive(&mut worker, &work, || tree_cpu_seconds(nursery))?;
            ours.push(cost.there + cost.here, cost.steps_per_s);
            there.push(cost.there);
            here.push(cost.here);
        }
    }
    println!("{sessions} {id}, {steps} steps, {rounds} interleaved rounds\n");
    println!("| | CPU a step | CPU of it / ours | steps/s | ours / its |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (name, figures) in ["bare loop", "SyncVectorEnv", "AsyncVectorEnv"].iter().zip(&peers) {
        let cpu = ratio_interval(&figures.cpu_us, &ours.cpu_us);
        let rate = ratio_interval(&ours.steps_per_s, &figures.steps_per_s);
        println!(
            "| {name} | {:.1} µs | {:.2} ({:.2}–{:.2}) | {:.0} | {:.2} ({:.2}–{:.2}) |",
            median(&figures.cpu_us),
            cpu.median,
            cpu.low,
            cpu.high,
            median(&figures.steps_per_s),
            rate.median,
            rate.low,
            rate.high,
        );
    }
    println!(
        "| worker processes | {:.1} µs | | {:.0} | |",
        median(&ours.cpu_us),
        median(&ours.steps_per_s)
    );
    println!("\nof ours {:.1} µs in the processes, {:.1} µs here", median(&there), median(&here));
    Ok(())
}

/// CPU a step and steps a second, of a bare loop on all cores together.
fn peer(how: &str, id: &str, sessions: u32, steps: u64) -> Result<(f64, f64)> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let copies = if how == "bare" { u32::try_from(cores)?.min(sessions) } else { 1 };
    let (sessions, steps) = (sessions / copies, steps / u64::from(copies));
    let start = |_| {
        Command::new(envmill_testing::python()?)
            .arg(envmill_testing::script("bare_gymnasium.py"))
            .args([how, id, &sessions.to_string(), &steps.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a peer")
    };
    let running = (0..copies).map(start).collect::<Result<Vec<_>>>()?;
    let (mut cpus, mut rates) = (0.0, 0.0);
    for process in running {
        let output = process.wait_with_output()?;
        ensure!(output.status.success(), "a peer has failed");
        let text = String::from_utf8(output.stdout)?;
        let (cpu, rate) = text.trim().split_once(' ').context("two figures")?;
        cpus += cpu.parse::<f64>()?;
        rates += rate.parse::<f64>()?;
    }
    Ok((cpus / f64::from(copies), rates))
}
