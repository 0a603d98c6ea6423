//! Runs on Python environments in worker processes, and what is done to these processes.

use std::fs;

use envmill_testing::wait_until;
use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{BOUND, Job, Playing};

/// A job on `bench_env` whose steps take a moment.
fn job(name: &str) -> Job {
    let python = envmill_testing::python().unwrap();
    Job::on(name, "openenv-class:bench_env:BenchEnv")
        .args(["--python".as_ref(), python.as_os_str()])
        .env("PYTHONPATH", envmill_testing::script("servers"))
        .args(["--replicas", "2", "--max-steps", "20"])
        .args(["--policy", r#"constant:{"sleep_s":0.005}"#])
}

/// All processes that a process has started, and those that they have.
fn descendants(of: u32) -> Vec<u32> {
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
        }
    }
    found.split_off(1)
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn kill(pid: u32) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
}

/// The worker processes: children of the nursery, which is the child.
fn workers(playing: &Playing) -> Vec<u32> {
    let nursery = descendants(playing.running.pid())[0];
    descendants(nursery)
}

#[test]
fn a_killed_worker_process_costs_no_episode() {
    let mut playing = job("killed").words("--episodes 200 --sessions 16").start();
    for records in [20, 80] {
        playing.wait_for_records(records);
        kill(workers(&playing)[0]);
    }
    let played = playing.end();
    played.all_played();
    played.steps_in_order();
    assert!(played.retried() > 0);
}

#[test]
fn the_processes_end_with_a_killed_engine() {
    let mut playing = job("engine").words("--episodes 100000 --sessions 16").start();
    playing.wait_for_records(10);
    let processes = descendants(playing.running.pid());
    assert!(processes.len() >= 3, "{processes:?}");
    playing.running.kill();
    for pid in processes {
        wait_until("the processes are gone", BOUND, || !is_alive(pid));
    }
}
