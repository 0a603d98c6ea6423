//! What does a vectorised Gymnasium environment cost in a worker process?
//!
//! `python-vector [ROUNDS] [ROWS] [STEPS] [MODULE:FACTORY] [ARGUMENTS] [ACTIONS]`; default 10 rounds of
//! `ale_py.vector_env:AtariVectorEnv` with `{"game":"pong"}`, 8 rows, 8,000 steps and 6 actions. Two take
//! turns: the environment stepped by Python alone, and in a worker process that this one drives in a closed
//! loop, a session for each row, whose CPU counts too. Neither seeds its episodes after the first (a seeded
//! reset of ALE loads the game anew, 90 ms of CPU, which is what a step costs 250 times over).
//! `ENVMILL_BENCH_PYTHON` names an interpreter with the environment's package; `pip install ale-py` is all
//! that the default needs.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use envmill_benches::{
    Costs, Drive, discrete_actions, drive, median, ratio_interval, tree_cpu_seconds,
};
use envmill_python_worker::{Gymnasium, Log, Options, PythonWorker, Target};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (rounds, rows): (usize, u32) = (next("10").parse()?, next("8").parse()?);
    let steps = next("8000").parse::<u64>()?;
    let (name, given) = (next("ale_py.vector_env:AtariVectorEnv"), next(r#"{"game":"pong"}"#));
    let actions = next("6").parse::<u64>()?;
    let python = match std::env::var_os("ENVMILL_BENCH_PYTHON") {
        Some(python) => PathBuf::from(python),
        None => envmill_testing::python()?,
    };
    let (mut direct, mut ours) = (Costs::default(), Costs::default());
    let (mut there, mut here) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for turn in 0..2 {
            if (turn + round) % 2 == 0 {
                let output = Command::new(&python)
                    .arg(envmill_testing::script("bare_vector.py"))
                    .args([&name, &given, &rows.to_string(), &steps.to_string()])
                    .output()?;
                ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                let text = String::from_utf8(output.stdout)?;
                let last = text.lines().last().unwrap_or_default();
                let (cpu, rate) = last.split_once(' ').context("two figures")?;
                direct.push(cpu.parse()?, rate.parse()?);
                continue;
            }
            let target =
                Gymnasium { name: name.clone(), arguments: given.clone(), vector: Some(rows) };
            let mut options = Options::new(Target::Gymnasium(target));
            options.python.clone_from(&python);
            options.processes = 1;
            options.log = Log::Nowhere;
            let (mut worker, _) = PythonWorker::start(options)?;
            let nursery = worker.nursery_pid();
            let work =
                Drive { sessions: rows, steps, actions: discrete_actions(actions), seeded: false };
            let cost = drive(&mut worker, &work, || tree_cpu_seconds(nursery))?;
            ours.push(cost.there + cost.here, cost.steps_per_s);
            there.push(cost.there);
            here.push(cost.here);
        }
    }
    println!("{rows} rows of {name}, {steps} steps, {rounds} interleaved rounds\n");
    println!("| | CPU a step | steps/s |");
    println!("| --- | ---: | ---: |");
    for (name, figures) in [("by Python alone", &direct), ("in a worker process", &ours)] {
        let (cpu, rate) = (median(&figures.cpu_us), median(&figures.steps_per_s));
        println!("| {name} | {cpu:.1} µs | {rate:.0} |");
    }
    let cpu = ratio_interval(&ours.cpu_us, &direct.cpu_us);
    let rate = ratio_interval(&ours.steps_per_s, &direct.steps_per_s);
    println!(
        "\nours / alone: CPU {:.3} ({:.3}–{:.3}), steps/s {:.3} ({:.3}–{:.3})",
        cpu.median, cpu.low, cpu.high, rate.median, rate.low, rate.high
    );
    println!("of ours {:.1} µs in the process, {:.1} µs here", median(&there), median(&here));
    Ok(())
}
