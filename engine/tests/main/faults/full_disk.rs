//! A disk that fills while a run writes to it.

use envmill_testing::{EnvmillCommand, Watchdog};

use crate::rig::{BOUND, ENVMILL, read_records};

/// A limit on the size of files acts like a full disk, needs no privileges, and moreover ends whoever
/// does not mind its signal. In blocks of 512 or 1,024 bytes, as the shell likes.
const FILE_BLOCKS_MAX: u32 = 256;

#[test]
fn what_fits_is_kept_and_the_rest_is_told() {
    let _watchdog = Watchdog::start("full disk", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let limited = format!("ulimit -f {FILE_BLOCKS_MAX}; exec \"$0\" \"$@\"");
    let finished = EnvmillCommand::new("/bin/sh")
        .args(["-c", &limited, ENVMILL])
        .args(["run", "--json", "--env", "native:synthetic?payload_bytes=2000&step_ms=1"])
        .args(["--episodes", "100000", "--sessions", "16", "--out"])
        .arg(&out)
        .run()
        .unwrap();
    assert_eq!(finished.code(), Some(4), "{finished:?}");
    let stderr = &finished.stderr;
    assert!(stderr.contains("trajectories.jsonl") && stderr.contains("--out"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(stderr.matches("trajectories.jsonl").count(), 1, "told once: {stderr}");
    let records = read_records(&out.join("trajectories.jsonl"));
    assert!(!records.is_empty());
    let summary = finished.summary().unwrap();
    assert_eq!(summary["recorded"], records.len() as u64);
    let episodes = &summary["episodes"];
    let ends = ["completed", "truncated", "failed", "cancelled"];
    let ended: u64 = ends.iter().map(|end| episodes[end].as_u64().unwrap()).sum();
    assert_eq!(ended, 100_000, "{summary}");
}
