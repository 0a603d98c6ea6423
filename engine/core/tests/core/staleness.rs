//! Episodes under way on policy versions that are too old.

use std::time::Duration;

use envmill_core::{GroupFilter, GroupOptions, InFlight, Input, JobOptions, Scoring, State};
use envmill_protocol::{
    JobId, PolicyVersion, Trajectory,
    record::{Cancellation, End, GroupOutcome},
};
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

fn announce(world: &mut World, lineage: u16, step: u64) {
    let version = PolicyVersion::new(lineage, step).unwrap();
    let (job, in_flight) = (JobId(0), InFlight::Keep);
    world.input(Input::PolicyVersion { job, version, in_flight });
}

fn is_stale(record: &Trajectory) -> bool {
    record.end == End::Cancelled(Cancellation::Stale)
}

fn stale(world: &World) -> usize {
    world.records.iter().filter(|record| is_stale(record)).count()
}

/// Lineage and step of the version that a record began on.
fn began_on(record: &Trajectory) -> (u16, u64) {
    let version = record.timing.policy_version_started;
    (version.lineage(), version.step())
}

#[test]
fn a_new_lineage_ends_what_began_on_an_older_one() {
    let mut world = world(job(40, 8));
    announce(&mut world, 0, 9);
    after(&mut world, Duration::from_secs(1));
    announce(&mut world, 0, 900);
    assert_eq!(stale(&world), 0);
    let played = world.records.len();
    announce(&mut world, 1, 2);
    assert_eq!((stale(&world), world.records.len()), (8, played + 8));
    for record in world.records.iter().filter(|record| is_stale(record)) {
        assert!(record.reset.is_some() && !record.attempts.is_empty());
        assert_eq!(record.timing.policy_version_ended, PolicyVersion::new(1, 2).unwrap());
    }
    let records = world.run().to_vec();
    world.check();
    assert!(records[played + 8..].iter().all(|record| began_on(record) == (1, 2)));
    assert_eq!(records.len(), 40);
}

#[test]
fn what_began_too_many_steps_behind_ends() {
    let mut world = world(JobOptions { staleness_max: Some(1), ..job(400, 32) });
    for step in 1..8 {
        after(&mut world, Duration::from_millis(600));
        announce(&mut world, 0, step);
        assert_eq!(stale(&world) > 0, step > 1, "{step}");
    }
    let all_behind = world.records.iter().filter(|record| is_stale(record)).all(|record| {
        let timing = &record.timing;
        timing.policy_version_ended.step() - timing.policy_version_started.step() == 2
    });
    assert!(all_behind);
    world.run();
    world.check();
}

#[test]
fn without_a_bound_steps_do_not_matter() {
    let mut world = world(job(40, 8));
    after(&mut world, Duration::from_secs(1));
    announce(&mut world, 0, 1_000_000);
    world.run();
    world.check();
    assert_eq!(stale(&world), 0);
}

#[test]
fn an_attempt_that_has_shown_nothing_yet_goes_on() {
    let server = ServerPlan { construct: Duration::from_secs(10), ..ServerPlan::default() };
    let mut world = World::new(Plan {
        servers: vec![server],
        job: JobOptions { staleness_max: Some(0), ..job(8, 8) },
        ..Plan::default()
    });
    after(&mut world, Duration::from_secs(1));
    assert!(world.counts().in_state(State::Resetting) > 0);
    announce(&mut world, 0, 1);
    announce(&mut world, 3, 0);
    world.run();
    world.check();
    assert!(world.records.iter().all(|record| record.end.name() == "completed"));
    assert!(world.records.iter().all(|record| began_on(record) == (3, 0)));
}

#[test]
fn what_is_to_be_tried_again_begins_anew() {
    let mut world = world(JobOptions { staleness_max: Some(0), ..job(8, 8) });
    after(&mut world, Duration::from_secs(1));
    world.input(Input::Pause(JobId(0)));
    // Their sessions are given up.
    after(&mut world, Duration::from_secs(3_600));
    let waiting = world.core.job_status(JobId(0)).unwrap().waiting as usize;
    assert!(waiting > 0);
    announce(&mut world, 1, 0);
    world.input(Input::Resume(JobId(0)));
    world.run();
    world.check();
    assert_eq!(stale(&world), 0);
    let anew = world.records.iter().filter(|record| began_on(record) == (1, 0)).count();
    assert_eq!((anew, world.records.len()), (waiting, 8));
}

#[test]
fn paused_episodes_are_ended_too() {
    let mut world = world(job(8, 8));
    after(&mut world, Duration::from_secs(1));
    world.input(Input::Pause(JobId(0)));
    after(&mut world, Duration::from_secs(5));
    let paused = world.counts().in_state(State::Paused) as usize;
    announce(&mut world, 1, 0);
    assert!(paused > 0 && stale(&world) == paused);
    world.input(Input::Resume(JobId(0)));
    world.run();
    world.check();
}

#[test]
fn what_was_played_is_left_alone() {
    let scoring = Scoring::External { deadline: None, most: 100, whole_groups: false };
    let group =
        GroupOptions { samples: 4, filter: GroupFilter::ZeroVariance, ..GroupOptions::default() };
    let mut world = World::new(Plan {
        servers: vec![ServerPlan { step: Duration::from_millis(100), ..ServerPlan::default() }],
        job: JobOptions { scoring, group: Some(group), ..job(16, 2) },
        score_values: 1_000,
        score_within: Duration::from_secs(2),
        ..Plan::default()
    });
    let played = |world: &World| {
        let counts = world.counts();
        (counts.in_state(State::Scoring), counts.in_state(State::Scored))
    };
    assert!(world.drive(|world| played(world).0 > 0 && played(world).1 > 0));
    let kept = (played(&world).0 + played(&world).1) as usize;
    announce(&mut world, 1, 0);
    world.run();
    world.check();
    let old = world.records.iter().filter(|it| began_on(it) == (0, 0) && !is_stale(it)).count();
    assert!(old >= kept, "{old} and {kept}");
}

#[test]
fn a_group_goes_on_without_its_stale_members() {
    let group = GroupOptions { samples: 4, ..GroupOptions::default() };
    let mut world = world(JobOptions { group: Some(group), ..job(40, 6) });
    after(&mut world, Duration::from_secs(3));
    announce(&mut world, 1, 0);
    assert!(stale(&world) > 0);
    world.run();
    world.check();
    let short = world.groups.iter().filter(|group| group.outcome == GroupOutcome::Short);
    let missing: usize = short.map(|group| 4 - group.used as usize).sum();
    assert_eq!((missing, world.groups.len()), (stale(&world), 10));
}

/// A second attempt beside a stale one, which itself is not, is the only one from then on.
#[test]
fn an_attempt_that_is_not_stale_goes_on_alone() {
    let group = GroupOptions { samples: 6, duplicate_stragglers: true, ..GroupOptions::default() };
    let servers = vec![ServerPlan { tail: 2_000, episode_steps: 6, ..ServerPlan::default() }; 2];
    let job = JobOptions { group: Some(group), ..job(600, 24) };
    let mut world = World::new(Plan { servers, job, ..Plan::default() });
    let mut duplicates = 0;
    for lineage in 1..100 {
        if !world.drive(|world| world.counts().duplicates > duplicates) {
            break;
        }
        duplicates = world.counts().duplicates;
        announce(&mut world, lineage, 0);
    }
    world.run();
    world.check();
    let attempts = world.records.iter().flat_map(|record| &record.attempts);
    assert!(attempts.filter(|attempt| attempt.cause == "stale").count() > 3);
    let again = |record: &&Trajectory| record.attempts.iter().any(|it| it.cause == "stale");
    assert!(world.records.iter().filter(again).any(|record| record.end.name() == "completed"));
}
