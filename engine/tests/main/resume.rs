//! Runs that are killed, and go on.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    time::{Duration, Instant, SystemTime},
};

use envmill::sink::{Format, Records};
use envmill_protocol::record::{GroupRecord, read_group_line};
use envmill_testing::{Watchdog, wait_until};

use crate::{formats::records, plain::envmill, rig::BOUND};

const EPISODES: &str = "300";
/// About two seconds of play, so that moments of a kill spread over starting, playing and closing.
const JOB: [&str; 8] = [
    "--env",
    "native:synthetic?step_ms=2&episode_steps=10",
    "--episodes",
    EPISODES,
    "--sessions",
    "4",
    "--name",
    "killed",
];
/// How many kills each format suffers: few in CI, ten by `ENVMILL_TEST_KILLS=10 cargo test -p
/// envmill --test main killed`.
const KILLS: u64 = 3;
const LATEST_KILL_MS: u64 = 2500;

fn kills() -> u64 {
    std::env::var("ENVMILL_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

/// Kills runs of one directory, each going on where the last was killed, until one comes to its end.
fn is_complete_after_kills(format: Format) {
    let _watchdog = Watchdog::start("killed", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut random = now.as_nanos() as u64 | 1;
    for round in 0..kills() {
        let out = directory.path().join(round.to_string());
        let command = || envmill(&out).args(JOB).args(["--resume", "--format", format.name()]);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
        let moment = Duration::from_millis((random >> 33) % LATEST_KILL_MS);
        let mut running = command().start().unwrap();
        let began = Instant::now();
        wait_until("the moment of the kill", BOUND, || began.elapsed() >= moment);
        running.kill();
        drop(running);
        // What is there reads, up to a torn end.
        let before = Records::open(&out.join(format.running_file()))
            .map_or(0, |records| records.take_while(Result::is_ok).count());
        let finished = command().run().unwrap();
        assert_eq!(finished.code(), Some(0), "killed after {moment:?}: {finished:?}");
        let summary = finished.summary().unwrap();
        assert_eq!(summary["episodes"]["requested"], 300);
        if format != Format::Parquet {
            assert_eq!(summary["episodes"]["recorded_before"], before, "after {moment:?}");
        }
        let records = records(&out, format);
        let ids: BTreeSet<String> = records.iter().map(|r| r.trajectory_id.clone()).collect();
        let asked: BTreeSet<String> = (0..300).map(|i| format!("killed-{i:08}")).collect();
        assert_eq!(records.len(), 300, "killed after {moment:?}");
        assert_eq!(ids, asked, "killed after {moment:?}");
    }
}

#[test]
fn killed_runs_of_json_lines_go_on() {
    is_complete_after_kills(Format::JsonLines);
}

#[test]
fn killed_runs_of_arrow_go_on() {
    is_complete_after_kills(Format::Arrow);
}

#[test]
fn killed_runs_of_parquet_go_on() {
    is_complete_after_kills(Format::Parquet);
}

/// Kills runs of groups, some of which are filtered and replaced, and has them go on.
#[test]
fn killed_runs_of_groups_go_on() {
    let _watchdog = Watchdog::start("killed groups", BOUND);
    let directory = tempfile::tempdir().unwrap();
    for format in Format::ALL {
        let out = directory.path().join(format.name());
        let command = || {
            envmill(&out)
                .args(["--env", "native:cartpole", "--sessions", "2", "--name", "killed"])
                .args([
                    "--groups",
                    "60",
                    "--samples",
                    "4",
                    "--oversample",
                    "2",
                    "--max-steps",
                    "12",
                ])
                .args(["--group-filter", "zero-variance", "--refill-max", "20"])
                .args(["--gather-ms", "0", "--resume", "--format", format.name()])
        };
        let mut running = command().start().unwrap();
        wait_until("records to lose", BOUND, || {
            fs::metadata(out.join("groups.jsonl")).is_ok_and(|file| file.len() > 20_000)
                || !running.is_running()
        });
        running.kill();
        drop(running);
        let finished = command().run().unwrap();
        assert_eq!(finished.code(), Some(0), "{finished:?}");
        let records = records(&out, format);
        let lines = fs::read(out.join("groups.jsonl")).unwrap();
        let groups: Vec<GroupRecord> = lines
            .split_inclusive(|&byte| byte == b'\n')
            .map(|line| read_group_line(line).unwrap())
            .collect();
        let ids: BTreeSet<u64> = groups.iter().map(|group| group.group_id).collect();
        assert_eq!(
            ids.into_iter().collect::<Vec<_>>(),
            (0..groups.len() as u64).collect::<Vec<_>>()
        );
        let episodes = &finished.summary().unwrap()["episodes"];
        assert_eq!(episodes["requested"], 6 * groups.len());
        assert_eq!(episodes["extra"], 6 * groups.len() - 4 * 60);
        let members = groups.iter().flat_map(|group| &group.members);
        let members: BTreeSet<&str> = members.map(|member| member.trajectory_id.as_str()).collect();
        let ids: BTreeSet<&str> = records.iter().map(|it| it.trajectory_id.as_str()).collect();
        assert_eq!((records.len(), members.len()), (6 * groups.len(), 6 * groups.len()));
        assert_eq!(ids, members);
        let refills = groups.iter().filter(|group| group.refill_of.is_some()).count();
        assert_eq!(groups.len(), 60 + refills);
        // A third time there is nothing left to play.
        let again = command().run().unwrap();
        assert_eq!(again.summary().unwrap()["recorded"], 0, "{again:?}");
    }
}

#[test]
fn only_the_same_job_goes_on_and_only_once_at_a_time() {
    let _watchdog = Watchdog::start("resume", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let job = ["--env", "native:cartpole", "--episodes", "20"];
    assert_eq!(envmill(&out).args(job).run().unwrap().code(), Some(0));
    let whole = fs::read(out.join("trajectories.jsonl")).unwrap();

    let changed = envmill(&out).args(job).args(["--resume", "--seed", "5"]).run().unwrap();
    assert_eq!(changed.code(), Some(2), "{changed:?}");
    assert!(changed.stderr.contains("`seed` was 0 and is 5"), "{changed:?}");
    let again = envmill(&out).args(job).run().unwrap();
    assert!(again.stderr.contains("--resume"), "{again:?}");

    // Five records are lost and a sixth is torn.
    let lines: Vec<&[u8]> = whole.split_inclusive(|&byte| byte == b'\n').collect();
    let mut torn = lines[..14].concat();
    torn.extend(&lines[14][..40]);
    fs::File::create(out.join("trajectories.jsonl")).unwrap().write_all(&torn).unwrap();
    let finished = envmill(&out).args(job).args(["--resume", "--sessions", "3"]).run().unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    let summary = finished.summary().unwrap();
    assert_eq!(summary["episodes"]["recorded_before"], 14);
    assert_eq!(summary["recorded"], 6);
    let ids: BTreeSet<_> =
        records(&out, Format::JsonLines).into_iter().map(|record| record.trajectory_id).collect();
    assert_eq!(ids.len(), 20);

    let slow = ["--env", "native:synthetic?step_ms=50", "--episodes", "50", "--overwrite"];
    let running = envmill(&out).args(slow).start().unwrap();
    wait_until("the directory is taken", BOUND, || {
        fs::metadata(out.join("trajectories.jsonl")).is_ok_and(|file| file.len() == 0)
    });
    let second = envmill(&out).args(slow).run().unwrap();
    assert_eq!(second.code(), Some(2), "{second:?}");
    assert!(second.stderr.contains("another run"), "{second:?}");
    running.interrupt();
    let _ = running.wait();
}
