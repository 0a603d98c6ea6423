//! Steps are held back while a busy server builds sessions, where that is of use, and only there.

use std::time::Duration;

use envmill_core::{Deadlines, JobOptions, SessionReuse, State, Time};
use envmill_world::{Plan, ServerPlan, Shape, Spell, World};

use crate::job;

/// A server that computes one answer after another, like one Python process.
fn one_by_one() -> ServerPlan {
    ServerPlan {
        connect: Duration::from_millis(1),
        construct: Duration::from_millis(1),
        step: Duration::from_millis(1),
        connect_turns: 4,
        processor: Duration::from_millis(2),
        processor_construct: Duration::from_millis(10),
        episode_steps: 8,
        ..ServerPlan::default()
    }
}

fn paused(world: &World) -> u32 {
    world.core.counts().episodes_by_state[State::Paused as usize]
}

/// Until then 500 sessions are to stand on a server that builds 100 a second and does nothing else.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn all_sessions_of_a_busy_server_stand_soon() {
    let mut world = World::new(Plan {
        servers: vec![one_by_one()],
        job: JobOptions { session_reuse: SessionReuse::Unlimited, ..job(5_000, 500) },
        ..Plan::default()
    });
    world.run_until(Time::ZERO + Duration::from_secs(2));
    assert!(paused(&world) > 0, "{:?}", world.counts());
    world.run_until(Time::ZERO + SOON);
    assert_eq!(world.server(0).admitted, 500, "{:?}", world.counts());
    assert_eq!(paused(&world), 0);
    // It was not idle meanwhile: it can compute 500 steps a second, or 100 sessions.
    let counts = world.core.counts();
    let computed = counts.steps + counts.resets + 4 * counts.sessions_built;
    assert!(computed > 9 * SOON.as_secs() * 500 / 10, "{counts:?}");
    assert_eq!(world.run().len(), 5_000);
    assert!(world.violations().is_empty(), "{:?}", world.violations());
}

#[test]
fn a_server_whose_steps_do_not_wait_for_each_other_has_none_held() {
    // Most steps take long and a few none: answers look as if they had queued.
    let steps = ServerPlan {
        construct: Duration::from_millis(300),
        step: Duration::from_millis(200),
        shape: Shape::Pareto { alpha: 1.3 },
        ..ServerPlan::default()
    };
    let mut world = World::new(Plan {
        servers: vec![steps],
        job: JobOptions { session_reuse: SessionReuse::Episodes(2), ..job(20_000, 500) },
        ..Plan::default()
    });
    let mut held = 0;
    for second in 0..200 {
        world.run_until(Time::ZERO + Duration::from_secs(second));
        held += paused(&world);
    }
    assert!(held < 200 * 500 / 50, "{held}");
}

#[test]
fn held_steps_of_a_server_that_falls_silent_are_not_held_for_long() {
    let plan = |spells: Vec<Spell>| Plan {
        servers: vec![ServerPlan { spells, ..one_by_one() }],
        job: JobOptions {
            deadlines: Deadlines { step: Some(Duration::from_secs(60)), ..Deadlines::default() },
            ..job(5_000, 500)
        },
        ..Plan::default()
    };
    let mut world = World::new(plan(Vec::new()));
    assert!(world.drive(|world| paused(world) > 50));
    let from = world.now.since(Time::ZERO);
    let silence = Spell { from, until: from + Duration::from_secs(600), slower: 100_000 };
    let mut world = World::new(plan(vec![silence]));
    world.run_until(Time::ZERO + from);
    assert!(paused(&world) >= 50, "{:?}", world.counts());
    world.run_until(Time::ZERO + from + Duration::from_secs(6));
    assert_eq!(paused(&world), 0, "{:?}", world.counts());
}
