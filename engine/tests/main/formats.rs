//! Records in every form, OpenEnv's own among them.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
};

use envmill::sink::{Format, Records};
use envmill_protocol::Trajectory;
use envmill_testing::{Watchdog, python, script};

use crate::{plain::envmill, rig::BOUND};

/// Every record that `out` holds, whatever its format.
pub(crate) fn records(out: &Path, format: Format) -> Vec<Trajectory> {
    Records::open(&out.join(format.final_file())).unwrap().map(|record| record.unwrap()).collect()
}

#[test]
fn every_format_keeps_the_same_play() {
    let _watchdog = Watchdog::start("formats", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let played: Vec<BTreeSet<String>> = Format::ALL
        .into_iter()
        .map(|format| {
            let out = directory.path().join(format.name());
            let arguments = ["--env", "native:cartpole", "--episodes", "30", "--format"];
            let finished = envmill(&out).args(arguments).arg(format.name()).run().unwrap();
            assert_eq!(finished.code(), Some(0), "{finished:?}");
            assert_eq!(format == Format::Parquet, !out.join(format.running_file()).exists());
            records(&out, format).iter().map(|record| record.content_hash.to_string()).collect()
        })
        .collect();
    assert_eq!(played[0].len(), 30);
    assert!(played.iter().all(|hashes| *hashes == played[0]));
}

#[test]
fn openenv_loads_its_own_shape() {
    let _watchdog = Watchdog::start("episode records", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let arguments =
        ["--env", "native:cartpole", "--episodes", "10", "--episode-records", "--format", "arrow"];
    let finished = envmill(&out).args(arguments).run().unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let loaded = Command::new(python().unwrap())
        .arg(script("load_episode_records.py"))
        .arg(&out)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    let loaded: serde_json::Value = serde_json::from_slice(&loaded.stdout).unwrap();
    for (index, record) in records(&out, Format::Arrow).iter().enumerate() {
        assert_eq!(loaded["ids"][index], record.trajectory_id);
        assert_eq!(loaded["rewards"][index].as_f64(), record.reward);
        assert_eq!(loaded["turns"][index], record.steps.len());
    }
}
