//! What is tried again, and how much of it.

use std::time::Duration;

use envmill_core::{
    JobOptions, Note, OnEnvironmentError, Options, RetryBudget, SessionReuse, Time,
};
use envmill_protocol::{
    FailureKind,
    record::{End, Truncation},
};
use envmill_world::{Plan, ServerPlan, Spell, World};

use crate::job;

fn causes(world: &World, cause: &str) -> usize {
    world.records.iter().filter(|record| record.end.cause() == cause).count()
}

#[test]
fn retries_stay_within_the_budget_and_what_is_beyond_says_so() {
    for seed in 0..20 {
        let cutting = ServerPlan { cut: 30, ..ServerPlan::default() };
        let budget = RetryBudget { percent: 5, floor: 10 };
        let world = World::played(Plan {
            seed,
            servers: vec![cutting; 2],
            job: JobOptions { retry_budget: budget, ..job(1_000, 8) },
            ..Plan::default()
        });
        let counts = world.counts();
        assert!(counts.budget_refusals > 0, "{counts:?}");
        assert!(counts.retries <= 10 + counts.attempts * 5 / 100, "{counts:?}");
        let refused = world.records.iter().filter(|record| match &record.end {
            End::Failed(failure) => failure.message.contains("retry budget of the job"),
            _ => false,
        });
        assert_eq!(refused.count() as u64, counts.budget_refusals);
        let told = world.notes.iter().filter(|note| matches!(note, Note::JobBudgetSpent(_)));
        assert_eq!(told.count(), 1);
    }
}

#[test]
fn a_server_s_budget_is_its_own() {
    let servers = vec![
        ServerPlan { cut: 100, ..ServerPlan::default() },
        ServerPlan::default(),
        ServerPlan::default(),
    ];
    let generous = RetryBudget { percent: 1_000, floor: 1_000 };
    let world = World::played(Plan {
        servers,
        job: JobOptions { retry_budget: generous, ..job(3_000, 8) },
        ..Plan::default()
    });
    let of_server = world.records.iter().filter(|record| match &record.end {
        End::Failed(failure) => failure.message.contains("retry budget of the server"),
        _ => false,
    });
    assert_eq!(of_server.count() as u64, world.counts().budget_refusals);
    assert!(world.notes.iter().any(|note| matches!(note, Note::ServerBudgetSpent(_))));
}

#[test]
fn the_death_of_a_server_is_no_storm() {
    let dying = ServerPlan {
        spells: vec![Spell {
            from: Duration::from_millis(200),
            until: Duration::from_secs(2),
            slower: 0,
        }],
        episode_steps: 400,
        ..ServerPlan::default()
    };
    let calm = ServerPlan { episode_steps: 400, ..ServerPlan::default() };
    let world = World::played(Plan {
        servers: vec![dying, calm.clone(), calm],
        job: job(600, 300),
        ..Plan::default()
    });
    assert!(world.counts().retries > 50, "{:?}", world.counts());
    assert_eq!(world.counts().completed, 600);
}

#[test]
fn an_exception_fails_is_tried_again_or_truncates() {
    let with = |on_environment_error| {
        let raising = ServerPlan { raise: 10, ..ServerPlan::default() };
        World::played(Plan {
            servers: vec![raising],
            job: JobOptions { on_environment_error, ..job(300, 8) },
            ..Plan::default()
        })
    };
    let failed = with(OnEnvironmentError::Fail);
    assert!(causes(&failed, "environment") > 5);
    assert_eq!(failed.counts().retries, 0);

    let again = with(OnEnvironmentError::Retry);
    assert!(again.counts().retries > 5);
    assert!(causes(&again, "environment") < causes(&failed, "environment"));

    let truncated = with(OnEnvironmentError::Truncate);
    assert_eq!(truncated.counts().retries, 0);
    let cut = End::Truncated(Truncation::EnvironmentError);
    let cut: Vec<_> = truncated.records.iter().filter(|record| record.end == cut).collect();
    assert!(cut.len() > 5 && cut.iter().any(|record| !record.steps.is_empty()));
    assert!(cut.iter().all(|record| record.attempts[0].cause == "environment"));
}

#[test]
fn what_is_real_is_not_done_twice_unless_that_does_no_harm() {
    let with = |production, idempotent| {
        let cutting = ServerPlan { cut: 10, ..ServerPlan::default() };
        World::played(Plan {
            servers: vec![cutting],
            job: JobOptions {
                production,
                idempotent,
                session_reuse: SessionReuse::Never,
                attempts_max: 1_000,
                retry_budget: RetryBudget { percent: 1_000, floor: 1_000 },
                ..job(300, 8)
            },
            options: Options {
                server_retry_budget: RetryBudget { percent: 1_000, floor: 1_000 },
                ..Options::default()
            },
            ..Plan::default()
        })
    };
    assert_eq!(with(false, false).counts().completed, 300);
    assert_eq!(with(true, true).counts().completed, 300);
    let real = World::new(Plan {
        servers: vec![ServerPlan { cut: 10, ..ServerPlan::default() }],
        job: JobOptions { production: true, session_reuse: SessionReuse::Never, ..job(300, 8) },
        ..Plan::default()
    });
    let mut real = real;
    real.run();
    assert!(real.counts().failed > 5, "{:?}", real.counts());
    assert!(real.records.iter().all(|record| record.attempts.len() == 1));
}

/// A task that kills whatever server it is sent to is sent to two, and not to the third.
#[test]
fn a_task_that_servers_die_of_is_quarantined() {
    // The servers die one after the other, 700 ms apart, and one long episode is always there.
    let spell = |from: u64| Spell {
        from: Duration::from_millis(from),
        until: Duration::from_millis(from + 300),
        slower: 0,
    };
    let server = |from: &[u64]| ServerPlan {
        spells: from.iter().map(|&from| spell(from)).collect(),
        episode_steps: 1,
        step: Duration::from_secs(20),
        ..ServerPlan::default()
    };
    let servers = vec![server(&[1_000, 3_000, 5_000, 7_000])];
    let world = World::played(Plan {
        servers,
        job: JobOptions { attempts_max: 10, ..job(3, 3) },
        ..Plan::default()
    });
    assert_eq!(world.counts().quarantined, 3, "{:?}", world.counts());
    for record in &world.records {
        let End::Failed(failure) = &record.end else { panic!("{:?}", record.end) };
        assert_eq!(failure.kind, FailureKind::Poison);
        assert!(failure.message.contains("sim-0"), "{failure}");
        assert!((2..=3).contains(&record.attempts.len()), "{:?}", record.attempts);
    }
    assert!(world.now < Time::ZERO + Duration::from_secs(10));
    assert!(world.notes.iter().any(|note| matches!(note, Note::Quarantined(_))));
}
