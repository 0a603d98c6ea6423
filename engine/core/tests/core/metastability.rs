//! After an overload has gone, goodput comes back by itself.
//!
//! Servers have one processor each and compute what their clients have given up all the same, so
//! that a scheduler which retries too eagerly would keep them busy with nothing for ever.

use std::time::Duration;

use envmill_core::{Deadlines, JobOptions, SessionReuse, Time};
use envmill_world::{Plan, ServerPlan, Spell, World};

const BEGINS: Duration = Duration::from_secs(60);
const ENDS: Duration = Duration::from_secs(90);
/// Goodput is measured over so long, before the overload and after it.
const WINDOW: Duration = Duration::from_secs(20);
/// So long after the overload it is to be what it was.
const RECOVERED: Duration = Duration::from_secs(30);

fn server(spells: Vec<Spell>) -> ServerPlan {
    ServerPlan {
        step: Duration::from_millis(20),
        processor: Duration::from_millis(4),
        processor_construct: Duration::from_millis(40),
        episode_steps: 40,
        spells,
        ..ServerPlan::default()
    }
}

fn plan(seed: u64, spells: impl Fn(usize) -> Vec<Spell>) -> Plan {
    Plan {
        seed,
        servers: (0..4).map(|index| server(spells(index))).collect(),
        job: JobOptions {
            episodes: 10_000_000,
            sessions_max: 200,
            attempts_max: 3,
            // Sessions that were made together would else be made anew together, much later.
            session_reuse: SessionReuse::Unlimited,
            deadlines: Deadlines {
                connect: Some(Duration::from_secs(2)),
                first_reset: Some(Duration::from_secs(5)),
                reset: Some(Duration::from_secs(1)),
                step: Some(Duration::from_secs(1)),
                ..Deadlines::default()
            },
            ..JobOptions::default()
        },
        think: Duration::from_millis(5),
        ..Plan::default()
    }
}

/// Steps of completed episodes in each second of the window that begins at `from`.
fn goodput(world: &mut World, from: Duration) -> f64 {
    world.run_until(Time::ZERO + from);
    let first = world.records.len();
    world.run_until(Time::ZERO + from + WINDOW);
    let completed = world.records[first..].iter().filter(|it| it.end.name() == "completed");
    completed.map(|it| it.steps.len()).sum::<usize>() as f64 / WINDOW.as_secs_f64()
}

fn recovers(name: &str, spells: impl Fn(usize) -> Vec<Spell>) {
    for seed in 0..4 {
        let mut world = World::new(plan(seed, &spells));
        let before = goodput(&mut world, BEGINS - WINDOW);
        let during = goodput(&mut world, BEGINS + Duration::from_secs(5));
        let after = goodput(&mut world, ENDS + RECOVERED);
        assert!(during < 0.8 * before, "seed {seed}: that was no overload");
        assert!(
            after >= 0.95 * before,
            "{name}, seed {seed}: {before:.0} before, {during:.0} in it, {after:.0} after; {:?}",
            world.counts()
        );
        assert!(world.violations().is_empty(), "{:?}", world.violations());
    }
}

#[test]
fn after_servers_were_ten_times_as_slow() {
    recovers("slow", |_| vec![Spell { from: BEGINS, until: ENDS, slower: 10 }]);
}

#[test]
fn after_half_of_the_servers_were_away() {
    recovers("half", |index| match index % 2 {
        0 => vec![Spell { from: BEGINS, until: ENDS, slower: 0 }],
        _ => Vec::new(),
    });
}

#[test]
fn after_a_storm_of_connections() {
    // Every three seconds all sessions are lost at once, and all want to come back.
    recovers("storm", |_| {
        let begins = (0..10).map(|loss| BEGINS + Duration::from_secs(3 * loss));
        let away = Duration::from_millis(200);
        begins.map(|from| Spell { from, until: from + away, slower: 0 }).collect()
    });
}
