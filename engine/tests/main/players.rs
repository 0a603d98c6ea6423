//! The player of one environment, as the service drives it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use envmill::{
    config::{RunOptions, Settings},
    serve::{EnvironmentOptions, FleetPlayer, Stop},
};
use envmill_core::{Deadlines, GroupOptions, InFlight, JobOptions};
use envmill_delivery::JobKey;
use envmill_protocol::{
    PolicyVersion, Trajectory,
    record::{Cancellation, End, GroupRecord},
};
use envmill_service::{Desk, JobPolicy, Order, Played, Player};
use envmill_testing::{Watchdog, wait_until};
use tempfile::TempDir;

use crate::rig::BOUND;

/// All that a player has told, in order.
#[derive(Clone, Default)]
struct Told(Arc<(Mutex<Vec<Played>>, Condvar)>);

impl Told {
    fn add(&self, played: Played) {
        let (told, changed) = &*self.0;
        told.lock().unwrap_or_else(PoisonError::into_inner).push(played);
        changed.notify_all();
    }

    /// Waits until this is so.
    fn wait(&self, is_so: impl Fn(&[Played]) -> bool) {
        let (told, changed) = &*self.0;
        let mut told = told.lock().unwrap();
        while !is_so(&told) {
            told = changed.wait(told).unwrap();
        }
    }

    fn wait_for_end(&self, jobs: &[JobKey]) {
        let is_end = |played: &Played, job| matches!(played, Played::Ended(it) if it == job);
        self.wait(|told| jobs.iter().all(|job| told.iter().any(|it| is_end(it, job))));
    }

    /// Looks at all of it.
    fn look<T>(&self, look: impl FnOnce(&[Played]) -> T) -> T {
        look(&self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn records(&self) -> usize {
        self.look(|told| {
            let records = |it: &Played| match it {
                Played::Records(records) => records.len(),
                _ => 0,
            };
            told.iter().map(records).sum()
        })
    }
}

/// A player with all that it needs.
struct Rig {
    player: FleetPlayer,
    told: Told,
    _directory: TempDir,
    _watchdog: Watchdog,
}

/// What a job has come to.
#[derive(Default)]
struct Account {
    records: Vec<Trajectory>,
    groups: Vec<GroupRecord>,
}

impl Rig {
    fn new(test: &str, env: &str) -> Self {
        let watchdog = Watchdog::start(test, BOUND);
        let directory = TempDir::new().unwrap();
        let told = Told::default();
        let environment = environment(env);
        let player = {
            let told = told.clone();
            let tell = move |played| told.add(played);
            FleetPlayer::start(&environment, None, directory.path(), &Stop::new(), tell).unwrap()
        };
        Self { player, told, _directory: directory, _watchdog: watchdog }
    }

    fn submit(&self, key: u64, episodes: u64, policy: JobPolicy) -> JobKey {
        self.submit_with(key, policy, JobOptions { episodes, ..JobOptions::default() })
    }

    fn submit_with(&self, key: u64, policy: JobPolicy, options: JobOptions) -> JobKey {
        let options = JobOptions { name: format!("job.{key}"), sessions_max: 1000, ..options };
        self.player.submit(JobKey(key), options, policy, None);
        JobKey(key)
    }

    /// What was told of each job by its name, after checking that each of these has ended, and that
    /// everything was told once and in its order.
    fn accounts(&self, jobs: &[JobKey]) -> BTreeMap<String, Account> {
        self.told.wait_for_end(jobs);
        let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
        let mut ended = BTreeSet::new();
        self.told.look(|told| {
            for played in told {
                match played {
                    Played::Records(records) => {
                        for record in records {
                            assert!(!ended.contains(&record.job_id), "a record after the end");
                            let account = accounts.entry(record.job_id.clone()).or_default();
                            account.records.push(record.clone());
                        }
                    }
                    Played::Groups(groups) => {
                        for group in groups {
                            let account = accounts.get_mut(&group.job_id).unwrap();
                            let is_there = |id: &String| {
                                account.records.iter().any(|it| it.trajectory_id == *id)
                            };
                            assert!(group.members.iter().all(|it| is_there(&it.trajectory_id)));
                            account.groups.push(group.clone());
                        }
                    }
                    Played::Ended(job) => assert!(ended.insert(format!("job.{}", job.0))),
                    _ => {}
                }
            }
        });
        for account in accounts.values() {
            let ids: BTreeSet<_> = account.records.iter().map(|it| &it.trajectory_id).collect();
            assert_eq!(ids.len(), account.records.len(), "an episode has two records");
            assert!(account.records.iter().all(|it| it.environment == "here"));
        }
        accounts
    }
}

fn environment(env: &str) -> EnvironmentOptions {
    let settings = Settings { env: vec![env.into()], sessions: Some(8), ..Settings::default() };
    let run = RunOptions::resolve(settings, "here", |_| None).unwrap();
    EnvironmentOptions { name: "here".into(), run, splits: Default::default(), harness: None }
}

fn go_left() -> JobPolicy {
    JobPolicy::Constant("{\"action\":0}".into())
}

fn is_cancelled(record: &Trajectory) -> bool {
    record.end == End::Cancelled(Cancellation::Cancelled)
}

#[test]
fn jobs_play_beside_each_other() {
    let rig = Rig::new("jobs beside each other", "native:cartpole");
    let groups = GroupOptions { samples: 4, ..GroupOptions::default() };
    let grouped = JobOptions { episodes: 40, group: Some(groups), ..JobOptions::default() };
    let jobs = [rig.submit(1, 300, JobPolicy::Random), rig.submit_with(2, go_left(), grouped)];
    rig.told.wait(|told| told.iter().any(|it| matches!(it, Played::Records(_))));
    let late = rig.submit(3, 50, go_left());
    let accounts = rig.accounts(&[jobs[0], jobs[1], late]);
    let counts = |job: &str| (accounts[job].records.len(), accounts[job].groups.len());
    assert_eq!([counts("job.1"), counts("job.2"), counts("job.3")], [(300, 0), (40, 10), (50, 0)]);
    for record in &accounts["job.3"].records {
        assert!(record.steps.iter().all(|step| step.action == "{\"action\":0}"));
    }
    let drawn = accounts["job.1"].records.iter().flat_map(|record| &record.steps);
    assert_eq!(drawn.map(|step| step.action.clone()).collect::<BTreeSet<_>>().len(), 2);
    assert_eq!(rig.player.snapshot().servers[0].0, "native:cartpole");
}

#[test]
fn orders_follow_the_jobs_they_are_about() {
    let rig = Rig::new("orders", "native:synthetic?step-ms=1");
    // Before the player can have looked at either.
    let gone = rig.submit(1, 500, JobPolicy::Random);
    rig.player.order(gone, Order::Cancel);
    let accounts = rig.accounts(&[gone]);
    assert_eq!(accounts["job.1"].records.len(), 500);
    assert!(accounts["job.1"].records.iter().any(is_cancelled));

    let job = rig.submit(2, 100_000, JobPolicy::Random);
    rig.player.order(job, Order::Pause);
    let is_paused = |expected| {
        rig.player.snapshot().jobs.iter().any(|(key, it)| *key == job && it.is_paused == expected)
    };
    wait_until("it is paused", BOUND, || is_paused(true));
    let steps = rig.player.snapshot().steps;
    rig.player.order(job, Order::Resume);
    wait_until("it goes on", BOUND, || is_paused(false) && rig.player.snapshot().steps > steps);
    rig.told.wait(|told| matches!(told.last(), Some(Played::Records(_))));
    let version = PolicyVersion(3);
    rig.player.order(job, Order::Version(version, InFlight::Drain));
    let is_current =
        |it: &Played| matches!(it, Played::VersionCurrent(JobKey(2), PolicyVersion(3)));
    rig.told.wait(|told| told.iter().any(is_current));
    rig.player.order(job, Order::Cancel);
    // A job that has ended, and one that never was.
    rig.player.order(gone, Order::Resume);
    rig.player.order(JobKey(9), Order::Drain);
    let accounts = rig.accounts(&[job]);
    let records = &accounts["job.2"].records;
    assert_eq!(records.len(), 100_000);
    assert!(records.iter().any(is_cancelled) && !records.iter().all(is_cancelled));
    wait_until("nothing is left", BOUND, || {
        let snapshot = rig.player.snapshot();
        snapshot.jobs.is_empty() && snapshot.sessions == 0
    });
}

#[test]
fn what_cannot_be_played_is_refused() {
    let rig = Rig::new("refused", "native:cartpole");
    let group = Some(GroupOptions { samples: 3, ..GroupOptions::default() });
    let job = JobOptions { episodes: 10, group, ..JobOptions::default() };
    rig.submit_with(1, JobPolicy::Random, job);
    let played = rig.submit(2, 10, JobPolicy::Random);
    assert_eq!(rig.accounts(&[played]).len(), 1);
    rig.told.look(|told| {
        let of_first = |it: &&Played| match it {
            Played::Refused(JobKey(1), why) => {
                assert!(why.contains("ask for a multiple"), "{why}");
                true
            }
            Played::Ended(job) => *job == JobKey(1),
            _ => false,
        };
        assert_eq!(told.iter().filter(of_first).count(), 1, "{told:?}");
    });
}

#[test]
fn turns_that_no_trainer_answers_are_taken_back() {
    let rig = Rig::new("a silent trainer", "native:cartpole");
    let deadlines = Deadlines { policy: Some(Duration::from_millis(20)), ..Deadlines::default() };
    let options = JobOptions { episodes: 20, attempts_max: 1, deadlines, ..JobOptions::default() };
    let silent = rig.submit_with(1, JobPolicy::Trainer(Desk::new()), options);
    let beside = rig.submit(2, 20, JobPolicy::Random);
    let accounts = rig.accounts(&[silent, beside]);
    assert_eq!(accounts["job.1"].records.len(), 20);
    assert!(accounts["job.1"].records.iter().all(|it| matches!(it.end, End::Failed(_))));
    assert!(accounts["job.2"].records.iter().all(|it| matches!(it.end, End::Completed { .. })));
}

#[test]
fn an_idle_player_hardly_looks_up() {
    let rig = Rig::new("an idle player", "native:cartpole");
    let job = rig.submit(1, 20, JobPolicy::Random);
    rig.told.wait_for_end(&[job]);
    let (began, before) = (Instant::now(), rig.player.rounds());
    wait_until("it looks up", BOUND, || rig.player.rounds() > before + 5);
    let rounds = rig.player.rounds() - before;
    let most = 20 + began.elapsed().as_millis() / 50;
    assert!(u128::from(rounds) <= most, "{rounds} rounds, and {most} would be many");
}

#[test]
fn a_player_stops_in_the_middle() {
    let rig = Rig::new("stopping", "native:synthetic?step-ms=1");
    rig.submit(1, 100_000, JobPolicy::Random);
    rig.told.wait(|told| told.iter().any(|it| matches!(it, Played::Records(_))));
    let Rig { player, told, _directory, _watchdog } = rig;
    drop(player);
    let records = told.records();
    assert!(records < 100_000);
    assert!(told.look(|told| !told.iter().any(|it| matches!(it, Played::Ended(_)))));
}

#[test]
fn a_panic_ends_one_environment_only() {
    let _watchdog = Watchdog::start("a panic", BOUND);
    let directory = TempDir::new().unwrap();
    let told = Told::default();
    let mut panics = true;
    let tell = {
        let told = told.clone();
        move |played| {
            if matches!(played, Played::Records(_)) && std::mem::take(&mut panics) {
                panic!("a bug of the receiver");
            }
            told.add(played);
        }
    };
    let environment = environment("native:cartpole");
    let player =
        FleetPlayer::start(&environment, None, directory.path(), &Stop::new(), tell).unwrap();
    let options = JobOptions { episodes: 50, sessions_max: 1, ..JobOptions::default() };
    player.submit(JobKey(1), options.clone(), JobPolicy::Random, None);
    told.wait(|told| told.iter().any(|it| matches!(it, Played::Warning { .. })));
    told.look(|told| {
        let told: Vec<_> = told.iter().filter(|it| !matches!(it, Played::Begun(..))).collect();
        let [Played::Warning { job: None, kind, message }] = told[..] else { panic!("{told:?}") };
        assert_eq!(*kind, "player_failed");
        assert!(message.contains("a bug of the receiver"), "{message}");
    });
    player.submit(JobKey(2), options, JobPolicy::Random, None);
    told.wait(|told| told.iter().any(|it| matches!(it, Played::Refused(JobKey(2), _))));
}

#[test]
fn an_environment_that_does_not_start_is_named() {
    let _watchdog = Watchdog::start("no environment", BOUND);
    let directory = TempDir::new().unwrap();
    let environment = environment("http://127.0.0.1:1");
    let started = FleetPlayer::start(&environment, None, directory.path(), &Stop::new(), drop);
    let message = started.unwrap_err().to_string();
    assert!(
        message.contains("`environments.here`") && message.contains("127.0.0.1:1"),
        "{message}"
    );
}
