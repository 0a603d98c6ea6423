//! Jobs that may not go on for a while.

use std::time::Duration;

use envmill_core::{Deadlines, Input, JobOptions, State, Time};
use envmill_protocol::{JobId, record::End};
use envmill_world::{Plan, ServerPlan, World};

use crate::job;

fn world(job: JobOptions) -> World {
    let server = ServerPlan { step: Duration::from_millis(100), ..ServerPlan::default() };
    World::new(Plan { servers: vec![server], job, ..Plan::default() })
}

fn in_state(world: &World, state: State) -> u32 {
    world.core.counts().episodes_by_state[state as usize]
}

fn after(world: &mut World, duration: Duration) {
    let until = world.now + duration;
    world.run_until(until);
}

#[test]
fn a_paused_job_stops_at_its_next_turns_and_goes_on() {
    let mut world = world(job(200, 32));
    world.run_until(Time::ZERO + Duration::from_secs(1));
    world.input(Input::Pause(JobId(0)));
    after(&mut world, Duration::from_secs(5));
    let (recorded, steps) = (world.records.len(), world.core.counts().steps);
    assert!(in_state(&world, State::Paused) > 20);
    after(&mut world, Duration::from_secs(60));
    assert_eq!((world.records.len(), world.core.counts().steps), (recorded, steps));
    // Said twice.
    world.input(Input::Pause(JobId(0)));
    world.input(Input::Resume(JobId(0)));
    world.input(Input::Resume(JobId(0)));
    world.run();
    world.check();
    assert!(world.records.iter().all(|record| record.end.name() == "completed"));
    // Nothing was played again.
    assert!(world.records.iter().all(|record| record.attempts.len() == 1));
}

#[test]
fn a_held_job_finishes_what_is_under_way_and_records_nothing_else() {
    let mut world = world(job(200, 32));
    world.run_until(Time::ZERO + Duration::from_secs(1));
    world.input(Input::Hold(JobId(0)));
    after(&mut world, Duration::from_secs(600));
    let status = world.core.job_status(JobId(0)).unwrap();
    assert!(status.starts_held && status.unstarted > 100 && status.active == 0, "{status:?}");
    assert_eq!(world.records.len() as u64 + status.unstarted, 200);
    assert!(world.records.iter().all(|record| record.end.name() == "completed"));
    // It can be ended all the same.
    world.input(Input::Drain(JobId(0)));
    world.run();
    world.check();
}

#[test]
fn an_episode_does_not_grow_old_while_its_job_is_paused() {
    let episode = Some(Duration::from_secs(30));
    let deadlines = Deadlines { episode, ..Deadlines::default() };
    let mut world = world(JobOptions { deadlines, ..job(8, 8) });
    world.run_until(Time::ZERO + Duration::from_secs(1));
    world.input(Input::Pause(JobId(0)));
    after(&mut world, Duration::from_secs(300));
    world.input(Input::Resume(JobId(0)));
    world.run();
    world.check();
    assert!(world.records.iter().all(|record| record.end.name() == "completed"));
}

#[test]
fn a_session_that_waits_for_too_long_is_given_up_and_its_episode_begins_again() {
    let policy = Some(Duration::from_secs(60));
    let deadlines = Deadlines { policy, ..Deadlines::default() };
    let mut world = world(JobOptions { deadlines, attempts_max: 1, ..job(8, 8) });
    world.run_until(Time::ZERO + Duration::from_secs(1));
    world.input(Input::Pause(JobId(0)));
    after(&mut world, Duration::from_secs(5));
    let paused = in_state(&world, State::Paused) as usize;
    assert!(paused > 0);
    after(&mut world, Duration::from_secs(65));
    assert_eq!(in_state(&world, State::Paused), 0);
    assert_eq!(world.core.counts().sessions, 0);
    after(&mut world, Duration::from_secs(700));
    world.input(Input::Resume(JobId(0)));
    world.run();
    world.check();
    let causes = |record: &envmill_protocol::Trajectory| {
        record.attempts.iter().map(|attempt| attempt.cause.clone()).collect::<Vec<_>>()
    };
    let again = world.records.iter().filter(|it| causes(it) == ["paused", ""]).count();
    assert_eq!((again, world.records.len()), (paused, 8));
    assert!(world.records.iter().all(|record| record.end.name() == "completed"));
    // Nobody is to blame.
    let (_, status) = world.core.servers().next().unwrap();
    assert_eq!(status.failures, 0);
}

#[test]
fn what_cannot_be_repeated_fails_when_it_is_given_up() {
    let policy = Some(Duration::from_secs(60));
    let deadlines = Deadlines { policy, ..Deadlines::default() };
    let mut world = world(JobOptions { deadlines, production: true, ..job(8, 8) });
    world.run_until(Time::ZERO + Duration::from_secs(1));
    world.input(Input::Pause(JobId(0)));
    after(&mut world, Duration::from_secs(5));
    let paused = in_state(&world, State::Paused) as usize;
    after(&mut world, Duration::from_secs(65));
    let failed = |end: &End| matches!(end, End::Failed(failure) if failure.kind.name() == "paused");
    assert!(paused > 0);
    assert_eq!(world.records.iter().filter(|record| failed(&record.end)).count(), paused);
    world.run();
    world.check();
}

#[test]
fn another_job_has_the_sessions_meanwhile() {
    let mut world = World::new(Plan {
        servers: vec![ServerPlan { capacity: 16, ..ServerPlan::default() }],
        job: job(400, 16),
        more_jobs: vec![JobOptions { name: "other".into(), ..job(400, 16) }],
        ..Plan::default()
    });
    world.input(Input::Pause(JobId(0)));
    world.drive(|world| world.records.len() == 400);
    assert!(world.records.iter().all(|record| record.job_id == "other"));
    world.input(Input::Resume(JobId(0)));
    world.run();
    world.check();
    assert_eq!(world.records.len(), 800);
}

#[test]
fn a_paused_job_is_cancelled_all_the_same() {
    let mut world = world(job(100, 8));
    world.run_until(Time::ZERO + Duration::from_secs(1));
    world.input(Input::Pause(JobId(0)));
    after(&mut world, Duration::from_secs(5));
    world.input(Input::Cancel(JobId(0)));
    world.run();
    world.check();
    assert_eq!(world.records.len(), 100);
}
