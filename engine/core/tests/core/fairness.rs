//! Jobs that share a pool: by weight, and by priority before that.

use std::time::Duration;

use envmill_core::{Input, JobOptions, Time};
use envmill_protocol::JobId;
use envmill_world::{Plan, ServerPlan, World};

/// A pool of 30 sessions, and jobs that each could use them all for ever.
fn world(jobs: Vec<JobOptions>, servers: ServerPlan) -> World {
    let mut jobs = jobs.into_iter().enumerate().map(|(number, job)| JobOptions {
        name: format!("job{number}"),
        episodes: 50_000,
        sessions_max: 30,
        ..job
    });
    let job = jobs.next().unwrap();
    let servers = vec![ServerPlan { capacity: 10, ..servers }; 3];
    World::new(Plan { servers, job, more_jobs: jobs.collect(), ..Plan::default() })
}

fn well() -> ServerPlan {
    ServerPlan { step: Duration::from_millis(10), ..ServerPlan::default() }
}

/// Seconds that each job's episodes held a session, up to now.
fn used(world: &World) -> Vec<f64> {
    let mut used = vec![0.0; 3];
    for record in &world.records {
        let job: usize = record.job_id["job".len()..].parse().unwrap();
        let attempts = record.attempts.iter();
        used[job] += attempts.map(|it| (it.ended_us - it.started_us) as f64 / 1e6).sum::<f64>();
    }
    used
}

fn weights(weights: &[u32]) -> Vec<JobOptions> {
    let job = |&weight| JobOptions { weight, ..JobOptions::default() };
    weights.iter().map(job).collect()
}

fn assert_near(used: &[f64], shares: &[f64]) {
    let all: f64 = used.iter().sum();
    for (used, share) in used.iter().zip(shares) {
        let got = used / all;
        assert!((got / share - 1.0).abs() < 0.05, "{got:.3} and not {share:.3} of the sessions");
    }
}

#[test]
fn sessions_are_shared_by_weight() {
    let mut world = world(weights(&[1, 2, 3]), well());
    world.run_until(Time::ZERO + Duration::from_secs(60));
    assert_near(&used(&world), &[1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0]);
}

/// What is shared is time, so a job of long episodes gets no more than one of short ones.
#[test]
fn long_episodes_get_no_more() {
    let mut jobs = weights(&[1, 1]);
    jobs[1].max_steps = Some(2);
    let plan = ServerPlan { episode_steps: 60, ..well() };
    let mut world = world(jobs, plan);
    world.run_until(Time::ZERO + Duration::from_secs(60));
    assert_near(&used(&world)[..2], &[0.5, 0.5]);
}

#[test]
fn a_job_that_comes_later_owes_and_is_owed_nothing() {
    let mut world = world(weights(&[1]), well());
    world.run_until(Time::ZERO + Duration::from_secs(30));
    let late = JobOptions {
        name: "job1".into(),
        episodes: 50_000,
        sessions_max: 30,
        ..JobOptions::default()
    };
    world.core.submit(world.now, late).unwrap();
    let before = used(&world);
    world.run_until(Time::ZERO + Duration::from_secs(60));
    let after = used(&world);
    let gained: Vec<f64> =
        after.iter().zip(&before).map(|(after, before)| after - before).collect();
    assert_near(&gained[..2], &[0.5, 0.5]);
}

#[test]
fn a_higher_priority_goes_first_and_what_it_leaves_goes_to_the_next() {
    let mut jobs = weights(&[1, 1, 4]);
    jobs[0].priority = 1;
    let mut world = world(jobs, well());
    world.run_until(Time::ZERO + Duration::from_secs(20));
    let first = used(&world);
    let all: f64 = first.iter().sum();
    assert!(first[0] / all > 0.95, "{first:?}");
    world.input(Input::Drain(JobId(0)));
    world.run_until(Time::ZERO + Duration::from_secs(60));
    let then = used(&world);
    assert_near(&[then[1] - first[1], then[2] - first[2]], &[0.2, 0.8]);
}

/// Of equal priority nobody starves, however small its weight.
#[test]
fn nobody_starves_beside_others() {
    let mut world = world(weights(&[1_000, 1, 1]), well());
    world.run_until(Time::ZERO + Duration::from_secs(60));
    assert!(used(&world).iter().all(|&used| used > 1.0), "{:?}", used(&world));
}
