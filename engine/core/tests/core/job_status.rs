//! How far jobs are, as the core tells it.

use std::time::Duration;

use envmill_core::{InFlight, Input, JobOptions, JobStatus, Scoring, Time};
use envmill_protocol::{JobId, PolicyVersion, record::End};
use envmill_world::{Plan, ServerPlan, World};

use crate::job;

fn status(world: &World) -> JobStatus {
    world.core.job_status(JobId(0)).unwrap()
}

#[test]
fn a_job_is_followed_from_its_start_to_its_end() {
    let scoring = Scoring::External { deadline: None, most: 100, whole_groups: false };
    let mut world = World::new(Plan {
        servers: vec![ServerPlan { step: Duration::from_millis(100), ..ServerPlan::default() }],
        job: JobOptions { scoring, ..job(50, 8) },
        score_within: Duration::from_secs(2),
        ..Plan::default()
    });
    let all = JobStatus { unstarted: 50, ..JobStatus::default() };
    assert_eq!(status(&world), all);
    assert_eq!(world.core.job_status(JobId(1)), None);
    let until = Time::ZERO + Duration::from_millis(200);
    world.run_until(until);
    assert_eq!(status(&world).active, 8);
    assert!(world.drive(|world| status(world).scoring > 1));
    let now = status(&world);
    let in_flight = now.waiting + now.delayed + now.active + now.scoring;
    assert_eq!(now.unstarted + in_flight + world.records.len() as u64, 50);
    world.input(Input::Pause(JobId(0)));
    let (job, version) = (JobId(0), PolicyVersion(3));
    world.input(Input::PolicyVersion { job, version, in_flight: InFlight::Drain });
    let held = JobStatus { is_paused: true, starts_held: true, ..now };
    assert_eq!(status(&world), held);
    world.input(Input::Resume(JobId(0)));
    assert!(world.drive(|world| !status(world).starts_held));
    assert_eq!(status(&world).version, version);
    world.run();
    world.check();
    assert_eq!(status(&world), JobStatus { version, is_ended: true, ..JobStatus::default() });
}

#[test]
fn what_waits_for_its_score_when_its_job_is_cancelled_has_no_reward() {
    let scoring = Scoring::External { deadline: None, most: 100, whole_groups: false };
    let mut world = World::new(Plan {
        servers: vec![ServerPlan::default()],
        job: JobOptions { scoring, ..job(50, 8) },
        score_within: Duration::from_secs(20),
        ..Plan::default()
    });
    assert!(world.drive(|world| status(world).scoring > 5));
    world.input(Input::Cancel(JobId(0)));
    world.run();
    world.check();
    assert_eq!(world.records.len(), 50);
    let cancelled = world.records.iter().filter(|it| matches!(it.end, End::Cancelled(_)));
    let played: Vec<_> = cancelled.filter(|it| !it.steps.is_empty()).collect();
    assert!(played.len() > 5, "{played:?}");
    assert!(played.iter().all(|it| it.reward.is_none()), "{played:?}");
}

#[test]
fn what_is_tried_again_waits_or_has_to_wait() {
    let mut world = World::new(Plan {
        servers: vec![ServerPlan { raise_reset: 300, cut: 30, ..ServerPlan::default() }],
        job: JobOptions { attempts_max: 20, ..job(200, 16) },
        ..Plan::default()
    });
    let mut seen = (0, 0);
    world.drive(|world| {
        let status = status(world);
        seen = (seen.0.max(status.waiting), seen.1.max(status.delayed));
        false
    });
    assert!(seen.0 + seen.1 > 0, "{seen:?}");
    world.check();
}
