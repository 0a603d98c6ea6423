//! What is left of a Python class's overhead when its steps come by the batch through shared memory?
//!
//! `python-classes [ROUNDS] [SESSIONS] [STEPS] [CLASS] [ACTION]`; default 10 rounds of 64 sessions and
//! 20,000 steps of `bench_env:BenchEnv` with an empty action. Four take turns: the class in bare loops, one
//! for each core, once with all pydantic calls of its server and once with those that an answer's bytes need; behind its own uvicorn server, a thread a session; in worker
//! processes; and behind our front over worker processes. Each of the latter three is driven by the
//! workers that runs use, in a closed loop. CPU is counted where the environment runs, the front's and the
//! nursery's with it, between a warm-up and the end. Nothing is started or ended in that time.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use envmill_benches::{Cost, Drive, drive, front, median, ratio_interval, tree_cpu_seconds};
use envmill_openenv::{OpenEnvWorker, Server};
use envmill_python_worker::{Log, OpenEnvClass, Options, Placement, PythonWorker, Target};
use envmill_testing::{PythonServer, PythonServerOptions};

struct Work {
    class: String,
    drive: Drive,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let rounds: usize = next("10").parse()?;
    let (sessions, steps) = (next("64").parse()?, next("20000").parse()?);
    let class = next("bench_env:BenchEnv");
    let work = Work {
        class,
        drive: Drive { sessions, steps, actions: vec![next("{}").into()], seeded: true },
    };
    let (mut bare, mut least) = (Vec::new(), Vec::new());
    let mut costs: [Vec<Cost>; 3] = Default::default();
    for round in 0..rounds {
        for turn in 0..4 {
            match (turn + round) % 4 {
                0 => {
                    let figures = in_a_bare_loop(&work)?;
                    bare.push(figures.0);
                    least.push(figures.1);
                }
                1 => costs[0].push(behind_its_server(&work)?),
                2 => costs[1].push(in_processes(&work)?),
                _ => costs[2].push(behind_our_front(&work)?),
            }
        }
    }
    let class = &work.class;
    println!("{class}, {sessions} sessions, {steps} steps, {rounds} interleaved rounds\n");
    println!(
        "bare loop: {:.1} µs of CPU a step with its server's calls, {:.1} µs with the least\n",
        median(&bare),
        median(&least)
    );
    println!("| | CPU a step there | overhead | the server's overhead / this | here | steps/s |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let overhead = |costs: &[Cost], bare: &[f64]| -> Vec<f64> {
        costs.iter().zip(bare).map(|(cost, bare)| cost.there - bare).collect()
    };
    let of = |costs: &[Cost], what: fn(&Cost) -> f64| {
        median(&costs.iter().map(what).collect::<Vec<_>>())
    };
    let server = overhead(&costs[0], &bare);
    for (name, costs) in ["its own server", "worker processes", "our front"].iter().zip(&costs) {
        // Each above the calls that it makes itself.
        let is_server = *name == "its own server";
        let overhead = overhead(costs, if is_server { &bare } else { &least });
        let ratio = ratio_interval(&server, &overhead);
        println!(
            "| {name} | {:.1} µs | {:.1} µs | {:.1} ({:.1}–{:.1}) | {:.1} µs | {:.0} |",
            of(costs, |cost| cost.there),
            median(&overhead),
            ratio.median,
            ratio.low,
            ratio.high,
            of(costs, |cost| cost.here),
            of(costs, |cost| cost.steps_per_s),
        );
    }
    let there = |costs: &[Cost]| -> Vec<f64> { costs.iter().map(|cost| cost.there).collect() };
    let whole = ratio_interval(&there(&costs[0]), &there(&costs[2]));
    println!(
        "\nCPU of its own server / of our front with its processes: {:.1} ({:.1}–{:.1})",
        whole.median, whole.low, whole.high
    );
    Ok(())
}

/// One loop for each core at the same time, as worker processes run: cores that share their parts are
/// slower together.
fn in_a_bare_loop(work: &Work) -> Result<(f64, f64)> {
    let processes = std::thread::available_parallelism()?.get();
    let python = envmill_testing::python()?;
    let loops = (0..processes)
        .map(|_| {
            Command::new(&python)
                .arg(envmill_testing::script("bare_class.py"))
                .arg(&work.class)
                .arg(std::str::from_utf8(&work.drive.actions[0])?)
                .args([work.drive.sessions.to_string(), work.drive.steps.to_string()])
                .env("PYTHONPATH", envmill_testing::script("servers"))
                .stdout(Stdio::piped())
                .spawn()
                .map_err(Into::into)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut sums = (0.0, 0.0);
    for each in loops {
        let output = each.wait_with_output()?;
        ensure!(output.status.success(), "the bare loop failed");
        let text = String::from_utf8(output.stdout)?;
        let (server, least) = text.trim().split_once('\n').context("two figures")?;
        sums.0 += server.parse::<f64>()?;
        sums.1 += least.parse::<f64>()?;
    }
    Ok((sums.0 / processes as f64, sums.1 / processes as f64))
}

fn behind_its_server(work: &Work) -> Result<Cost> {
    let module = work.class.split(':').next().unwrap_or_default();
    let server = PythonServer::start(PythonServerOptions::new(module).env("LOG", "0"))?;
    let mut worker = remote(server.url())?;
    drive(&mut worker, &work.drive, || server.cpu_seconds())
}

fn in_processes(work: &Work) -> Result<Cost> {
    let class = OpenEnvClass { class: work.class.clone(), ..OpenEnvClass::default() };
    let mut options = Options::new(Target::OpenEnvClass(class));
    options.python = envmill_testing::python()?;
    options.path = vec![envmill_testing::script("servers")];
    options.placement = Placement::Even;
    options.sessions_per_process = work.drive.sessions;
    options.log = Log::Nowhere;
    let (mut worker, _) = PythonWorker::start(options)?;
    let nursery = worker.nursery_pid();
    drive(&mut worker, &work.drive, || tree_cpu_seconds(nursery))
}

fn behind_our_front(work: &Work) -> Result<Cost> {
    let (front, url) = front(&work.class)?;
    let mut worker = remote(url)?;
    let pid = front.pid();
    let cost = drive(&mut worker, &work.drive, || tree_cpu_seconds(pid));
    front.terminate();
    let _ = front.wait();
    cost
}

fn remote(url: String) -> Result<OpenEnvWorker> {
    Ok(OpenEnvWorker::new(envmill_openenv::Options::new(vec![Server::new(url)]))?)
}
