//! Whole runs in simulated worlds.

use std::time::Duration;

use envmill_core::{Deadlines, Input, JobOptions, SessionReuse, Time};
use envmill_protocol::{
    JobId,
    record::{Cancellation, End},
};
use envmill_world::{ClockPlan, Plan, ServerPlan, Shape, World};

use crate::job;

fn ends(world: &World, name: &str) -> usize {
    world.records.iter().filter(|record| record.end.name() == name).count()
}

#[test]
fn a_calm_world_completes_everything() {
    let world = World::played(Plan {
        servers: vec![ServerPlan::default(); 2],
        job: job(1_000, 64),
        ..Plan::default()
    });
    assert_eq!(ends(&world, "completed"), 1_000);
    let counts = world.core.counts();
    assert_eq!(counts.sessions_peak, 64);
    // Sessions are used again: 32 episodes each by default.
    assert!(counts.sessions_built < 1_000 / 8, "{counts:?}");
    for record in &world.records {
        assert_eq!(record.attempts.len(), 1);
        assert_eq!(record.reward, Some(1.0 + record.steps.len() as f64));
    }
}

#[test]
fn a_hundred_thousand_sessions() {
    let world = World::played(Plan {
        servers: vec![
            ServerPlan {
                step: Duration::from_secs(1),
                tail: 30,
                episode_steps: 4,
                ..ServerPlan::default()
            };
            16
        ],
        job: job(100_000, 100_000),
        ..Plan::default()
    });
    assert_eq!(ends(&world, "completed"), 100_000);
}

/// Heavy tails, a crashing server, doubled and late events and a clock that jumps, all at the size
/// that one engine is to hold.
#[test]
fn a_hundred_thousand_sessions_in_a_hostile_world() {
    let shapes = [Shape::LogNormal { sigma: 1.5 }, Shape::Pareto { alpha: 1.3 }];
    let servers = (0..16).map(|index| ServerPlan {
        step: Duration::from_secs(1),
        shape: shapes[index % 2].clone(),
        episode_steps: 3,
        hang: 1,
        cut: 2,
        crash_every: (index == 0).then_some(Duration::from_secs(5)),
        ..ServerPlan::default()
    });
    let world = World::played(Plan {
        seed: 1,
        servers: servers.collect(),
        job: job(120_000, 100_000),
        twice: 5,
        lies: 5,
        late: Duration::from_millis(2),
        clock: ClockPlan {
            jump_every: Some(Duration::from_secs(3)),
            forwards_max: Duration::from_secs(20),
            backwards_max: Duration::from_secs(5),
        },
        ..Plan::default()
    });
    assert!(world.counts().sessions_peak > 90_000, "{:?}", world.counts());
    assert!(ends(&world, "completed") > 110_000, "{:?}", world.counts());
}

#[test]
fn a_full_server_is_learned_and_nothing_fails() {
    let world = World::played(Plan {
        servers: vec![ServerPlan { capacity: 64, ..ServerPlan::default() }],
        job: job(5_000, 1_024),
        ..Plan::default()
    });
    assert_eq!(ends(&world, "completed"), 5_000);
    assert_eq!(world.held_peak(), [64]);
    let (_, status) = world.core.servers().next().unwrap();
    // Sessions come and go at the limit, so the last refusal may have met 63.
    assert!(status.limit.is_some_and(|limit| (60..=64).contains(&limit)), "{status:?}");
    assert!(status.refusals < 500, "{status:?}");
}

#[test]
fn slow_construction_keeps_the_window_small() {
    let mut world = World::new(Plan {
        servers: vec![ServerPlan {
            construct: Duration::from_secs(2),
            episode_steps: 1_000_000,
            step: Duration::from_secs(1),
            ..ServerPlan::default()
        }],
        job: job(64, 64),
        ..Plan::default()
    });
    world.run_until(Time::ZERO + Duration::from_secs(10));
    let (_, status) = world.core.servers().next().unwrap();
    assert!(status.opening <= 2, "{status:?}");
}

#[test]
fn hostile_worlds_lose_nothing() {
    for seed in 0..200 {
        let server = ServerPlan {
            capacity: 20 + (seed as usize % 30),
            tail: 50,
            hang: 1,
            cut: 3,
            raise: 2,
            crash_every: Some(Duration::from_millis(300 + 40 * (seed % 20))),
            away: Duration::from_millis(100 * (seed % 7)),
            ..ServerPlan::default()
        };
        let world = std::panic::catch_unwind(|| {
            World::played(Plan {
                seed,
                servers: vec![server.clone(), server.clone(), server],
                job: JobOptions {
                    max_steps: Some(15),
                    session_reuse: SessionReuse::Episodes(1 + (seed % 5) as u32),
                    deadlines: Deadlines {
                        step: Some(Duration::from_millis(500)),
                        episode: (seed % 3 == 0).then_some(Duration::from_millis(200)),
                        no_server: Duration::from_secs(5),
                        ..Deadlines::default()
                    },
                    ..job(300, 40 + (seed % 100) as u32)
                },
                twice: 20,
                think: Duration::from_millis(seed % 4),
                refuse: (seed % 2) as u32,
                ..Plan::default()
            })
        });
        let world = world.unwrap_or_else(|_| panic!("seed {seed} fails"));
        assert!(ends(&world, "completed") > 0, "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let server = ServerPlan { capacity: 30, cut: 5, tail: 9, ..ServerPlan::default() };
        let world = World::played(Plan {
            seed: 7,
            servers: vec![server; 3],
            job: job(500, 100),
            twice: 30,
            ..Plan::default()
        });
        (world.now, world.records)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_server_that_never_comes_back_fails_what_is_left() {
    let world = World::played(Plan {
        servers: vec![ServerPlan {
            crash_every: Some(Duration::from_millis(50)),
            away: Duration::from_secs(1_000_000),
            ..ServerPlan::default()
        }],
        job: job(2_000, 16),
        ..Plan::default()
    });
    assert!(ends(&world, "completed") > 0);
    let failed: Vec<&End> =
        world.records.iter().map(|r| &r.end).filter(|end| end.name() == "failed").collect();
    assert!(failed.iter().all(|end| end.cause() == "no_server"), "{:?}", failed[0]);
    assert!(!failed.is_empty());
}

#[test]
fn a_drain_finishes_what_runs_and_cancels_the_rest() {
    let mut world = World::new(Plan {
        servers: vec![ServerPlan::default()],
        job: job(100_000, 32),
        ..Plan::default()
    });
    world.run_until(Time::ZERO + Duration::from_millis(500));
    let before = world.records.len();
    let running = world.core.counts().episodes_by_state.iter().sum::<u32>() as usize;
    world.input(Input::Drain(JobId(0)));
    world.run();
    world.check();
    let completed = ends(&world, "completed");
    assert_eq!(completed, before + running);
    assert_eq!(ends(&world, "cancelled"), 100_000 - completed);
}

#[test]
fn a_cancel_ends_at_once() {
    let mut world = World::new(Plan {
        servers: vec![ServerPlan { hang: 1_000, ..ServerPlan::default() }],
        job: job(1_000, 32),
        ..Plan::default()
    });
    world.run_until(Time::ZERO + Duration::from_millis(500));
    world.input(Input::Cancel(JobId(0)));
    let cancelled_at = world.now;
    world.run();
    world.check();
    assert!(world.now.since(cancelled_at) < Duration::from_secs(1));
    assert_eq!(ends(&world, "cancelled"), 1_000);
    assert!(world.records.iter().all(|r| r.end == End::Cancelled(Cancellation::Cancelled)));
}

#[test]
fn a_job_deadline_cancels() {
    let world = World::played(Plan {
        servers: vec![ServerPlan { hang: 1_000, ..ServerPlan::default() }],
        job: JobOptions {
            deadlines: Deadlines { job: Some(Duration::from_secs(5)), ..Deadlines::default() },
            ..job(100, 10)
        },
        ..Plan::default()
    });
    assert!(world.records.iter().all(|r| r.end == End::Cancelled(Cancellation::JobDeadline)));
}

#[test]
fn a_job_deadline_also_cuts_what_is_being_drained() {
    let mut world = World::new(Plan {
        servers: vec![ServerPlan { hang: 1_000, ..ServerPlan::default() }],
        job: JobOptions {
            deadlines: Deadlines { job: Some(Duration::from_secs(5)), ..Deadlines::default() },
            ..job(100, 10)
        },
        ..Plan::default()
    });
    world.run_until(Time::ZERO + Duration::from_secs(1));
    world.input(Input::Drain(JobId(0)));
    world.run();
    world.check();
    let ended_us = world.records.iter().map(|record| record.timing.ended_us).max();
    assert_eq!(ended_us, Some(5_000_000));
    assert_eq!(world.records.iter().filter(|r| r.end.cause() == "job_deadline").count(), 10);
}

#[test]
fn abandoned_steps_count_as_ghosts() {
    let mut world = World::new(Plan {
        servers: vec![ServerPlan { hang: 1_000, capacity: 8, ..ServerPlan::default() }],
        job: JobOptions {
            deadlines: Deadlines { step: Some(Duration::from_secs(1)), ..Deadlines::default() },
            attempts_max: 1,
            ..job(8, 8)
        },
        ..Plan::default()
    });
    world.run();
    world.check();
    let (_, status) = world.core.servers().next().unwrap();
    assert_eq!(status.ghosts, 8);
    assert!(world.records.iter().all(|r| r.end.cause() == "deadline_step"));
}
