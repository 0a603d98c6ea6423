//! The flight recorder: a real run that goes wrong, and the recording of it played again.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use envmill_testing::{
    Effect, EnvmillCommand, Fault, FaultProxy, Finished, Plan, Point, PythonServer, Watchdog,
    wait_until,
};

use crate::plain::{check_account, records};

const BOUND: Duration = Duration::from_secs(300);

fn replay(file: &Path, arguments: &[&str]) -> Finished {
    EnvmillCommand::new(env!("CARGO_BIN_EXE_envmill"))
        .arg("replay-core")
        .arg(file)
        .args(arguments)
        .run()
        .unwrap()
}

fn run(out: &Path, file: &Path, url: &str) -> EnvmillCommand {
    EnvmillCommand::new(env!("CARGO_BIN_EXE_envmill"))
        .args(["run", "--json", "--out"])
        .arg(out)
        .arg("--flight-recorder")
        .arg(file)
        .args(["--policy", "constant:{\"payload_bytes\":16}", "--sessions", "16", "--env", url])
}

/// A proxy in front of a real server that cuts every other connection after a few frames.
fn cutting(server: &PythonServer) -> FaultProxy {
    let address: SocketAddr = server.url().trim_start_matches("http://").parse().unwrap();
    let proxy = FaultProxy::start(address).unwrap();
    let cut = Fault::At(Point::AnyFrame(60), Effect::Cut);
    proxy.set_plan(Plan::Random { seed: 7, faults: vec![(2, cut), (1, Fault::Pass)] });
    proxy
}

#[test]
fn a_faulted_run_is_replayed_decision_by_decision() {
    let _watchdog = Watchdog::start("flight", BOUND);
    let server = PythonServer::of("staggered_env").unwrap();
    let proxy = cutting(&server);
    let directory = tempfile::tempdir().unwrap();
    let (out, file) = (directory.path().join("run"), directory.path().join("run.rec"));
    let finished = run(&out, &file, &proxy.url()).args(["--episodes", "150"]).run().unwrap();
    assert!(matches!(finished.code(), Some(0 | 3)), "{finished:?}");
    let records = records(&out);
    check_account(&finished, &records, 150);
    let broken = records.iter().filter(|record| record.attempts.len() > 1).count();
    assert!(broken > 0, "no connection was cut");

    let replayed = replay(&file, &[]);
    assert_eq!(replayed.code(), Some(0), "{replayed:?}");
    let expected = "every decision is as it was recorded, to the run's end";
    assert!(replayed.stdout.contains(expected), "{replayed:?}");
    assert!(replayed.stdout.contains("150 requested, 150 recorded"), "{replayed:?}");
    assert!(replayed.stdout.contains("× attempt_failed"), "{replayed:?}");

    // One byte of an observation, in the middle of the file: its checksum tells.
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let damaged = directory.path().join("damaged.rec");
    fs::write(&damaged, bytes).unwrap();
    let replayed = replay(&damaged, &["--dump"]);
    assert_eq!(replayed.code(), Some(1), "{:?}", replayed.stderr);
    assert!(replayed.stdout.contains("damaged"));
    let few = replay(&file, &["--until", "5", "--dump"]);
    assert!(
        few.stdout.contains("5 calls of the core") && few.stdout.contains("\n5 at "),
        "{few:?}"
    );
}

#[test]
fn a_killed_run_leaves_a_recording() {
    let _watchdog = Watchdog::start("flight killed", BOUND);
    let server = PythonServer::of("staggered_env").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (out, file) = (directory.path().join("run"), directory.path().join("run.rec"));
    let arguments = ["--episodes", "1000000"];
    let mut running = run(&out, &file, &server.url()).args(arguments).start().unwrap();
    let has_played = || fs::metadata(&file).is_ok_and(|file| file.len() > 200_000);
    wait_until("the recording has grown", BOUND, has_played);
    running.kill();
    let _ = running.wait();
    let replayed = replay(&file, &[]);
    assert_eq!(replayed.code(), Some(0), "{replayed:?}");
    assert!(replayed.stdout.contains("cut off"), "{replayed:?}");
}

#[test]
fn a_small_maximum_ends_the_recording_and_not_the_run() {
    let _watchdog = Watchdog::start("flight full", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let (out, file) = (directory.path().join("run"), directory.path().join("run.rec"));
    let finished = EnvmillCommand::new(env!("CARGO_BIN_EXE_envmill"))
        .args(["run", "--json", "--env", "native:wordguess?hints=true", "--episodes", "100"])
        .args(["--flight-recorder-bytes-max", "50000", "--out"])
        .arg(&out)
        .arg("--flight-recorder")
        .arg(&file)
        .run()
        .unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    check_account(&finished, &records(&out), 100);
    assert!(finished.stderr.contains("reached its maximum"), "{finished:?}");
    assert!(fs::metadata(&file).unwrap().len() <= 50_000);
    let replayed = replay(&file, &[]);
    assert_eq!(replayed.code(), Some(0), "{replayed:?}");
    assert!(replayed.stdout.contains("up to the file's maximum"), "{replayed:?}");

    let again = EnvmillCommand::new(env!("CARGO_BIN_EXE_envmill"))
        .args(["run", "--episodes", "1", "--out"])
        .arg(directory.path().join("again"))
        .arg("--flight-recorder")
        .arg(&file)
        .run()
        .unwrap();
    assert_eq!(again.code(), Some(2), "a recording is not overwritten: {again:?}");
}

#[test]
fn the_native_games_are_played_at_random() {
    let _watchdog = Watchdog::start("native games", BOUND);
    for environment in
        ["native:frozenlake?map=8x8", "native:wordguess", "native:wordguess?hints=true"]
    {
        let (finished, records) = crate::plain::play(&["--env", environment, "--episodes", "60"]);
        assert_eq!(finished.code(), Some(0), "{finished:?}");
        check_account(&finished, &records, 60);
        assert!(records.iter().all(|record| !record.steps.is_empty()));
    }
}
