//! Servers that do unlike the rest of their pool.

use std::time::Duration;

use envmill_core::{
    Deadlines, EjectionOptions, JobOptions, Note, Options, Outlier, RetryBudget, Time,
};
use envmill_protocol::ServerId;
use envmill_world::{Plan, ServerPlan, Shape, Spell, World};

fn well() -> ServerPlan {
    ServerPlan { step: Duration::from_millis(10), ..ServerPlan::default() }
}

fn plan(servers: Vec<ServerPlan>) -> Plan {
    let generous = RetryBudget { percent: 1_000, floor: 1_000 };
    Plan {
        servers,
        job: JobOptions {
            episodes: 10_000_000,
            sessions_max: 24,
            attempts_max: 10,
            deadlines: Deadlines { step: Some(Duration::from_secs(1)), ..Deadlines::default() },
            retry_budget: generous,
            ..JobOptions::default()
        },
        options: Options { server_retry_budget: generous, ..Options::default() },
        ..Plan::default()
    }
}

fn ejected(world: &World) -> Vec<usize> {
    let of = |server: &usize| world.server(*server).ejected;
    (0..world.core.servers().count()).filter(of).collect()
}

fn seconds(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

#[test]
fn a_server_that_fails_unlike_the_others_rests_and_is_probed_back() {
    let mut world = World::new(plan(vec![well(), ServerPlan { cut: 200, ..well() }, well()]));
    world.run_until(seconds(1));
    assert!(ejected(&world).is_empty());
    let shown = world.drive(|world| !ejected(world).is_empty());
    assert!(shown && ejected(&world) == [1]);
    let why = world.notes.iter().find_map(|note| match note {
        Note::ServerEjected { server, why, rest } => Some((*server, *why, *rest)),
        _ => None,
    });
    assert_eq!(why, Some((ServerId(1), Outlier::Failures, Duration::from_secs(30))));
    let (at, admitted) = (world.now, world.server(1).admitted_peak);
    assert!(admitted > 0);
    // While it rests it gets no new sessions, and those it had are not used again.
    world.run_until(at + Duration::from_secs(29));
    assert_eq!(ejected(&world), [1]);
    assert_eq!(world.server(1).opening + world.server(1).admitted, 0, "{:?}", world.server(1));
}

#[test]
fn a_slow_server_rests_and_comes_back_once_it_is_well() {
    let slow = ServerPlan {
        spells: vec![Spell { from: Duration::ZERO, until: Duration::from_secs(35), slower: 30 }],
        ..well()
    };
    let mut world = World::new(plan(vec![well(), well(), slow]));
    assert!(world.drive(|world| ejected(world) == [2]));
    let is_latency = |note: &Note| {
        matches!(note, Note::ServerEjected { server: ServerId(2), why: Outlier::Latency, .. })
    };
    assert!(world.notes.iter().any(is_latency));
    assert!(world.drive(|world| ejected(world).is_empty()));
    assert!(world.now > seconds(35), "back while it was slow: {}", world.now);
    assert!(world.notes.contains(&Note::ServerReturned(ServerId(2))));
    let until = world.now + Duration::from_secs(60);
    world.run_until(until);
    assert_eq!(world.server(2).ejections, 1);
    assert!(world.server(2).admitted > 4, "{:?}", world.server(2));
}

#[test]
fn no_more_than_the_share_is_out_and_a_bad_pool_is_left_alone() {
    for (bad, percent_max, most) in [(2, 34, 1), (3, 34, 0), (2, 60, 3), (5, 100, 0), (2, 0, 0)] {
        let servers =
            (0..5).map(|index| ServerPlan { cut: if index < bad { 300 } else { 0 }, ..well() });
        let mut plan = plan(servers.collect());
        plan.options.ejection = EjectionOptions { percent_max, ..EjectionOptions::default() };
        let mut world = World::new(plan);
        let mut peak = 0;
        world.drive(|world| {
            peak = peak.max(ejected(world).len());
            world.now > seconds(45)
        });
        assert!(peak <= most, "{bad} bad of 5, {percent_max} %: {peak} ejected");
        assert!(peak > 0 || most == 0, "{bad} bad of 5, {percent_max} %: none ejected");
    }
}

#[test]
fn heavy_tails_and_pairs_eject_nobody() {
    let heavy = ServerPlan { shape: Shape::Pareto { alpha: 1.1 }, ..well() };
    let mut world = World::new(plan(vec![heavy; 4]));
    world.run_until(seconds(50));
    assert_eq!(world.counts().ejections, 0);
    let bad = ServerPlan { cut: 300, ..well() };
    let mut world = World::new(plan(vec![bad, well()]));
    world.run_until(seconds(50));
    assert_eq!(world.counts().ejections, 0);
}

/// In a pool of many servers two are drawn for each session, and that is nearly as even as looking at
/// all of them.
#[test]
fn two_choices_keep_a_large_pool_even() {
    let servers = vec![ServerPlan { episode_steps: 1_000, ..well() }; 50];
    let mut plan = plan(servers);
    plan.job.sessions_max = 1_000;
    let mut world = World::new(plan);
    world.run_until(seconds(3));
    let held: Vec<u32> = (0..50).map(|server| world.server(server).admitted).collect();
    assert_eq!(held.iter().sum::<u32>(), 1_000);
    let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
    assert!(*least >= 14 && *most <= 24, "{held:?}");
}
