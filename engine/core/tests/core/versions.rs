//! Policy versions of jobs.

use std::time::Duration;

use envmill_core::{
    GroupFilter, GroupOptions, InFlight, Input, JobOptions, Note, Scoring, SessionReuse, State,
    Time,
};
use envmill_protocol::{JobId, PolicyVersion};
use envmill_world::{Plan, ServerPlan, World};

use crate::job;

fn world(job: JobOptions) -> World {
    let server = ServerPlan { step: Duration::from_millis(100), ..ServerPlan::default() };
    World::new(Plan { servers: vec![server], job, ..Plan::default() })
}

fn after(world: &mut World, duration: Duration) {
    let until = world.now + duration;
    world.run_until(until);
}

fn announce(world: &mut World, version: u64, in_flight: InFlight) {
    let (job, version) = (JobId(0), PolicyVersion(version));
    world.input(Input::PolicyVersion { job, version, in_flight });
}

/// The versions that were told of, in order.
fn told(world: &World) -> Vec<u64> {
    let told = world.notes.iter().filter_map(|note| match note {
        Note::VersionCurrent { version, .. } => Some(version.0),
        _ => None,
    });
    told.collect()
}

fn versions(world: &World) -> Vec<(u64, u64)> {
    let timing = world.records.iter().map(|record| &record.timing);
    timing.map(|it| (it.policy_version_started.0, it.policy_version_ended.0)).collect()
}

#[test]
fn a_version_is_kept_by_its_job_alone() {
    let mut world = World::new(Plan {
        servers: vec![ServerPlan::default()],
        job: job(20, 4),
        more_jobs: vec![JobOptions { name: "other".into(), ..job(20, 4) }],
        ..Plan::default()
    });
    announce(&mut world, 5, InFlight::Keep);
    // Smaller and equal ones are ignored, and jobs that there are not.
    announce(&mut world, 5, InFlight::Drain);
    announce(&mut world, 4, InFlight::Keep);
    let (job, in_flight) = (JobId(9), InFlight::Keep);
    world.input(Input::PolicyVersion { job, version: PolicyVersion(7), in_flight });
    world.run();
    world.check();
    assert_eq!(told(&world), [5]);
    for record in &world.records {
        let version = if record.job_id == "other" { 0 } else { 5 };
        assert_eq!(record.timing.policy_version_started, PolicyVersion(version));
        assert_eq!(record.timing.policy_version_ended, PolicyVersion(version));
    }
}

#[test]
fn with_keep_episodes_end_on_the_new_version() {
    let mut world = world(job(8, 8));
    after(&mut world, Duration::from_millis(150));
    announce(&mut world, 1, InFlight::Keep);
    assert_eq!(told(&world), [1]);
    world.run();
    world.check();
    assert!(versions(&world).contains(&(0, 1)));
}

#[test]
fn with_drain_nothing_is_started_until_nothing_is_in_flight() {
    let mut world = world(job(200, 8));
    after(&mut world, Duration::from_secs(1));
    let started = world.counts().started;
    announce(&mut world, 1, InFlight::Drain);
    assert!(world.drive(|world| !told(world).is_empty()));
    assert_eq!(world.records.len() as u64, started);
    assert!(versions(&world).iter().all(|&versions| versions == (0, 0)));
    world.run();
    world.check();
    let new = versions(&world).iter().filter(|&&versions| versions == (1, 1)).count() as u64;
    assert_eq!(new, 200 - started);
}

#[test]
fn what_failed_is_tried_again_before_the_version_changes() {
    let mut world = World::new(Plan {
        servers: vec![ServerPlan {
            step: Duration::from_millis(100),
            cut: 50,
            ..ServerPlan::default()
        }],
        job: JobOptions { attempts_max: 50, ..job(100, 16) },
        ..Plan::default()
    });
    after(&mut world, Duration::from_secs(1));
    let started = world.counts().started;
    announce(&mut world, 1, InFlight::Drain);
    assert!(world.drive(|world| !told(world).is_empty()));
    assert_eq!(world.records.len() as u64, started);
    assert!(world.records.iter().any(|record| record.attempts.len() > 1));
    world.run();
    world.check();
}

#[test]
fn larger_versions_take_the_place_of_the_one_waited_for() {
    let mut world = world(job(100, 8));
    after(&mut world, Duration::from_secs(1));
    announce(&mut world, 2, InFlight::Drain);
    announce(&mut world, 1, InFlight::Keep);
    announce(&mut world, 2, InFlight::Keep);
    assert!(told(&world).is_empty());
    announce(&mut world, 3, InFlight::Drain);
    assert!(told(&world).is_empty());
    announce(&mut world, 4, InFlight::Keep);
    assert_eq!(told(&world), [4]);
    let started = world.counts().started;
    announce(&mut world, 5, InFlight::Drain);
    assert!(world.drive(|world| told(world).len() == 2));
    assert_eq!(world.records.len() as u64, started);
    world.run();
    world.check();
    assert_eq!(told(&world), [4, 5]);
}

/// The members that wait for the filter wait for members that may not be started: they are not waited for.
#[test]
fn members_that_wait_for_their_group_do_not_hold_a_version_up() {
    let group =
        GroupOptions { samples: 8, filter: GroupFilter::ZeroVariance, ..GroupOptions::default() };
    let mut world = world(JobOptions { group: Some(group), ..job(16, 3) });
    let scored = |world: &World| world.counts().in_state(State::Scored);
    assert!(world.drive(|world| scored(world) > 0));
    announce(&mut world, 1, InFlight::Drain);
    assert!(world.drive(|world| !told(world).is_empty()));
    assert!(scored(&world) > 0 && world.records.is_empty(), "{:?}", world.counts());
    world.run();
    world.check();
    // What was played before says so, though it is recorded after.
    assert!(versions(&world).contains(&(0, 0)));
    assert!(versions(&world).contains(&(1, 1)));
    assert!(!versions(&world).contains(&(0, 1)));
}

#[test]
fn episodes_with_the_scorer_are_in_flight() {
    let scoring = Scoring::External { deadline: None, most: 100, whole_groups: false };
    let mut world = World::new(Plan {
        servers: vec![ServerPlan::default()],
        job: JobOptions { scoring, session_reuse: SessionReuse::Never, ..job(40, 4) },
        score_values: 4,
        score_within: Duration::from_secs(100),
        ..Plan::default()
    });
    assert!(world.drive(|world| world.counts().scoring > 8));
    let started = world.counts().started;
    announce(&mut world, 1, InFlight::Drain);
    // Far longer than a pool may be silent: nobody asks it for anything.
    assert!(world.drive(|world| !told(world).is_empty()));
    assert_eq!(world.records.len() as u64, started);
    world.run();
    world.check();
    assert!(world.records.iter().all(|record| record.end.name() == "completed"));
}

#[test]
fn groups_that_a_scorer_waits_for_are_filled_on_one_version() {
    let group = GroupOptions { samples: 8, ..GroupOptions::default() };
    let scoring = Scoring::External { deadline: None, most: 3, whole_groups: true };
    let mut world = World::new(Plan {
        servers: vec![ServerPlan::default()],
        job: JobOptions { group: Some(group), scoring, ..job(64, 2) },
        score_values: 4,
        score_within: Duration::from_secs(100),
        ..Plan::default()
    });
    // More than there should be, and not enough for a group.
    assert!(world.drive(|world| world.counts().scoring > 4));
    announce(&mut world, 1, InFlight::Drain);
    assert!(world.drive(|world| !told(world).is_empty()));
    assert_eq!(world.groups.len(), 1);
    world.run();
    world.check();
    assert_eq!(world.groups.len(), 8);
    let on = |group| {
        let its = world.records.iter().filter(move |record| record.group_id == group);
        its.map(|record| record.timing.policy_version_started.0).collect::<Vec<_>>()
    };
    assert_eq!(on(0), [0; 8]);
    assert_eq!(on(1), [1; 8]);
}

#[test]
fn paused_episodes_are_in_flight_and_so_are_those_given_up() {
    let mut world = world(job(30, 8));
    after(&mut world, Duration::from_secs(1));
    world.input(Input::Pause(JobId(0)));
    announce(&mut world, 1, InFlight::Drain);
    after(&mut world, Duration::from_secs(60));
    assert!(world.counts().in_state(State::Paused) > 0);
    // Their sessions are given up, and they wait to begin again.
    after(&mut world, Duration::from_secs(3_600));
    assert_eq!(world.counts().in_state(State::Paused), 0);
    assert!(told(&world).is_empty());
    let started = world.counts().started;
    world.input(Input::Resume(JobId(0)));
    assert!(world.drive(|world| !told(world).is_empty()));
    assert_eq!(world.records.len() as u64, started);
    world.run();
    world.check();
    assert!(world.records.iter().all(|record| record.end.name() == "completed"));
}

#[test]
fn a_job_that_ends_still_tells_of_its_version() {
    for end in [Input::Drain(JobId(0)), Input::Cancel(JobId(0))] {
        let mut world = world(job(30, 8));
        after(&mut world, Duration::from_secs(1));
        announce(&mut world, 1, InFlight::Drain);
        world.input(end);
        world.run();
        world.check();
        assert_eq!((told(&world), world.records.len()), (vec![1], 30));
    }
}

#[test]
fn a_job_s_deadline_comes_while_its_starts_are_held() {
    let mut options = job(30, 8);
    options.deadlines.job = Some(Duration::from_secs(5));
    options.deadlines.policy = None;
    let mut world = world(options);
    after(&mut world, Duration::from_secs(1));
    world.input(Input::Pause(JobId(0)));
    announce(&mut world, 1, InFlight::Drain);
    world.run();
    assert!(world.now < Time::ZERO + Duration::from_secs(20));
    world.check();
    assert_eq!(told(&world), [1]);
}
