//! The harness around the command, shown on programs that every machine has.

use std::{fs, time::Duration};

use envmill_testing::{EnvmillCommand, Watchdog, trajectories, wait_until};

fn shell(script: &str) -> EnvmillCommand {
    EnvmillCommand::new("/bin/sh").args(["-c", script])
}

#[test]
fn output_status_and_summary_are_collected() {
    let _watchdog = Watchdog::start("output", Duration::from_secs(60));
    let finished =
        shell(r#"echo progress; echo log >&2; echo '{"steps":3}'; exit 3"#).run().unwrap();
    assert_eq!(finished.code(), Some(3));
    assert_eq!(finished.summary().unwrap()["steps"], 3);
    assert_eq!((finished.stdout.lines().count(), finished.stderr.as_str()), (2, "log\n"));
}

#[test]
fn a_missing_summary_shows_what_was_printed() {
    let _watchdog = Watchdog::start("no summary", Duration::from_secs(60));
    let finished = shell("echo oops; echo why >&2").run().unwrap();
    let error = finished.summary().unwrap_err().to_string();
    assert!(error.contains("oops") && error.contains("why"), "{error}");
}

#[test]
fn ctrl_c_reaches_a_running_command() {
    let _watchdog = Watchdog::start("ctrl-c", Duration::from_secs(60));
    let directory = tempfile::tempdir().unwrap();
    let mut running = shell("trap 'exit 130' INT; touch ready; while :; do sleep 0.05; done")
        .current_dir(directory.path())
        .start()
        .unwrap();
    wait_until("it is up", Duration::from_secs(60), || directory.path().join("ready").exists());
    assert!(running.is_running());
    running.interrupt();
    assert_eq!(running.wait().code(), Some(130));
}

#[test]
fn a_torn_last_line_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trajectories.jsonl");
    fs::write(&path, "{\"episode\":0}\n{\"episode\":1}\n").unwrap();
    assert_eq!(trajectories(directory.path()).unwrap()[1]["episode"], 1);
    fs::write(&path, "{\"episode\":0}\n{\"epi").unwrap();
    assert!(trajectories(directory.path()).unwrap_err().to_string().contains("within a line"));
    fs::write(&path, "{\"episode\":0}\n{\"epi\n").unwrap();
    assert!(trajectories(directory.path()).unwrap_err().to_string().contains("line 2"));
}
