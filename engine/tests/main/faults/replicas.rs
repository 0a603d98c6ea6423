//! Servers that the run itself starts: watched, started again, and never left behind.

use std::{collections::BTreeSet, fs};

use envmill_testing::{python, script, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{BOUND, Job};

/// The processes that have `pid` for an ancestor.
fn descendants(pid: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut left = vec![pid];
    while let Some(pid) = left.pop() {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|child| child.parse().ok());
            left.extend(children.filter(|&child| found.insert(child)));
        }
    }
    found
}

/// Those of `pids` that are a running `uvicorn`.
fn servers_among(pids: &BTreeSet<u32>) -> Vec<u32> {
    let is_server = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).starts_with(&*python().unwrap().to_string_lossy())
    };
    pids.iter().copied().filter(is_server).collect()
}

/// Whether a process is gone, or waits as a zombie for whoever has to take note of its end.
fn is_gone(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit_once(')').is_none_or(|(_, rest)| rest.starts_with(" Z")))
}

/// A job on servers that it starts with uvicorn's command, `{uvicorn}` in `line`.
fn serve(line: &str) -> Job {
    // The same as `-m uvicorn`, and started several times faster.
    let uvicorn = format!("{} -m serve", python().unwrap().display());
    Job::new("serve")
        .env("PYTHONPATH", script(""))
        .args(["--serve", &line.replace("{uvicorn}", &uvicorn), "--replicas", "2"])
        .words("--sessions 8 --max-steps 20 --attempts 10")
        .args(["--policy", r#"constant:{"sleep_s":0.01}"#])
        .current_dir(&script("servers"))
}

#[test]
fn a_killed_replica_is_started_again_and_nothing_is_left_behind() {
    let job = serve("{uvicorn} bench_env:app --port {port}");
    let mut playing = job.words("--episodes 5000").start();
    playing.wait_for_records(8);
    let pid = playing.running.pid();
    let before = servers_among(&descendants(pid));
    assert_eq!(before.len(), 2, "{before:?}");
    let killed = Pid::from_raw(before[0].cast_signed()).unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    let mut all = BTreeSet::new();
    wait_until("another one runs in its place", BOUND, || {
        all.extend(descendants(pid));
        let now = servers_among(&descendants(pid));
        now.len() == 2 && !now.contains(&before[0])
    });
    playing.running.interrupt();
    let played = playing.end();
    assert_eq!(played.episodes("failed"), 0, "{}", played.finished.stderr);
    assert!(played.episodes("truncated") >= 8);
    // Two Python processes took at least this much; the engine's own figures do without them.
    assert!(played.number("/children/cpu_s") > 0.2, "{}", played.summary);
    assert!(played.number("/children/rss_peak_bytes") > 60e6, "{}", played.summary);
    let (own, theirs) = ("/rss_peak_bytes", "/children/rss_peak_bytes");
    assert!(played.number(own) < played.number(theirs), "{}", played.summary);
    wait_until("all that was started has ended", BOUND, || all.iter().all(|&pid| is_gone(pid)));
}

#[test]
fn the_servers_of_a_killed_run_end_with_it() {
    // A shell that stays, and two processes behind each port: none of them is told by the kernel.
    let job = serve("true && {uvicorn} bench_env:app --workers 2 --port {port}");
    let mut playing = job.words("--episodes 5000").start();
    playing.wait_for_records(1);
    let all = descendants(playing.running.pid());
    // The parent, its two workers and what Python's `multiprocessing` has beside them.
    assert!(servers_among(&all).len() >= 2 * 3, "{all:?}");
    // Only the command itself: its servers are in groups of their own.
    let pid = Pid::from_raw(playing.running.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    wait_until("its servers have ended too", BOUND, || all.iter().all(|&pid| is_gone(pid)));
}

#[test]
fn a_command_that_does_not_serve_is_told_with_its_output() {
    let stderr = Job::new("no server")
        .args(["--serve", "sh -c 'echo the reason is this; exit 7' {port}"])
        .refused();
    assert!(stderr.contains("the reason is this") && stderr.contains('7'), "{stderr}");
}
