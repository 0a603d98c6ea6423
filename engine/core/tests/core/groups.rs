//! Groups, in worlds where everything else goes wrong, and one decision at a time.

use std::time::Duration;

use envmill_core::{
    GroupFilter, GroupOptions, GroupPlacement, JobOptions, Note, OnEnvironmentError, OptionsError,
    Scoring, SessionReuse,
};
use envmill_protocol::{
    FailureKind,
    record::{Cancellation, End, FirstObservations, GroupOutcome},
};
use envmill_world::{Plan, Random, ServerPlan, World, plan_of};

fn grouped(groups: u64, group: GroupOptions, sessions_max: u32) -> JobOptions {
    let episodes = groups * u64::from(group.samples);
    JobOptions { episodes, group: Some(group), sessions_max, ..JobOptions::default() }
}

fn calm(job: JobOptions, servers: usize) -> Plan {
    Plan { servers: vec![ServerPlan::default(); servers], job, ..Plan::default() }
}

/// The hostile world of a seed, with groups of every kind in its jobs.
pub(crate) fn hostile(seed: u64) -> Plan {
    let mut plan = plan_of(seed);
    let random = &mut Random::new(seed ^ 0x0067_1095);
    let (score_values, score_within) = (1 + random.below(3), Duration::from_millis(50));
    for job in std::iter::once(&mut plan.job).chain(&mut plan.more_jobs) {
        let samples = 1 + random.below(6) as u32;
        let oversample = random.below(3) as u32;
        let members = samples + oversample;
        let complete_at = random.chance(400).then(|| 1 + random.below(u64::from(members)) as u32);
        let has_variance = complete_at.unwrap_or(samples) > 1;
        job.episodes = (1 + random.below(12)) * u64::from(samples);
        job.group = Some(GroupOptions {
            samples,
            oversample,
            complete_at,
            filter: if has_variance && random.chance(500) {
                GroupFilter::ZeroVariance
            } else {
                GroupFilter::None
            },
            refill_max: random.below(5) as u32,
            deadline: random.chance(200).then(|| Duration::from_millis(10 + random.below(2_000))),
            duplicate_stragglers: random.chance(300),
            placement: [GroupPlacement::Any, GroupPlacement::Spread, GroupPlacement::Together]
                [random.below(3) as usize],
        });
        if random.chance(500) {
            let deadline = random.chance(700).then(|| Duration::from_millis(40));
            job.scoring = Scoring::External {
                deadline,
                most: 1 + random.below(20) as u32,
                whole_groups: false,
            };
        }
        job.on_environment_error =
            [OnEnvironmentError::Fail, OnEnvironmentError::Retry, OnEnvironmentError::Truncate]
                [random.below(3) as usize];
        job.weight = 1 + random.below(4) as u32;
        job.priority = random.below(2) as i32;
    }
    let largest = plan.jobs().map(JobOptions::group_bytes_max).max().unwrap_or_default();
    plan.options.steps_bytes_max = plan.options.steps_bytes_max.max(largest);
    let score_fails = random.below(100) as u32;
    Plan { score_values, score_within, score_fails, score_mute: 0, ..plan }
}

/// Whatever goes wrong, every episode has exactly one record and every group exactly one, with sums
/// that fit, nothing is cut below k, and the same seed gives the same run.
#[test]
fn hostile_worlds_of_groups_lose_nothing() {
    let (mut cut, mut filtered, mut refilled, mut duplicates, mut differing) = (0, 0, 0, 0, 0);
    let mut failing = Vec::new();
    for seed in 0..600 {
        let mut world = World::new(hostile(seed));
        let mut violations: Vec<String> = world.run_within(20_000_000).err().into_iter().collect();
        violations.extend(world.all_violations());
        if !violations.is_empty() {
            failing.push(format!("seed {seed}: {}", violations.join("; ")));
            continue;
        }
        if seed < 10 {
            let mut again = World::new(hostile(seed));
            again.run();
            assert_eq!(world.hash(), again.hash(), "seed {seed}");
        }
        let counts = world.counts();
        cut += counts.cut;
        filtered += counts.groups_filtered;
        refilled += counts.groups_refilled;
        duplicates += counts.duplicates;
        differing += counts.groups_differing;
    }
    assert!(failing.is_empty(), "{}", failing.join("\n"));
    // The worlds are worth something only if all of it happens in them.
    let all = [cut, filtered, refilled, duplicates, differing];
    assert!(all.iter().all(|&count| count > 20), "{all:?}");
}

#[test]
fn members_share_the_seed_and_differ_in_the_policy_s() {
    let group = GroupOptions { samples: 4, ..GroupOptions::default() };
    let world = World::played(calm(grouped(3, group, 8), 1));
    assert_eq!(world.groups.len(), 3);
    for record in &world.records {
        assert_eq!(record.seed, Some(record.group_id));
        let number = record.group_id * 4 + u64::from(record.sample_index);
        assert_eq!(record.trajectory_id, format!("job-{number:08}"));
    }
    let group = &world.groups[0];
    assert_eq!((group.asked, group.used, group.outcome), (4, 4, GroupOutcome::Complete));
    assert_eq!(group.steps_wasted, 0);
}

#[test]
fn samples_of_one_play_as_episodes_without_groups_do() {
    let single = GroupOptions::default();
    let with = World::played(calm(grouped(200, single, 16), 3));
    let without = World::played(calm(JobOptions { group: None, ..grouped(200, single, 16) }, 3));
    assert_eq!(with.records, without.records);
    assert_eq!((with.groups.len(), without.groups.len()), (200, 0));
}

#[test]
fn nothing_is_cut_by_default() {
    let group = GroupOptions { samples: 5, ..GroupOptions::default() };
    let world = World::played(calm(grouped(40, group, 7), 2));
    assert_eq!((world.counts().cut, world.counts().duplicates), (0, 0));
    assert!(world.groups.iter().all(|group| group.used == 5));
}

#[test]
fn oversampled_groups_are_complete_at_k_and_the_rest_is_cut() {
    let group = GroupOptions { samples: 4, oversample: 2, ..GroupOptions::default() };
    // With sessions for all members, and for so few that the last are not even started.
    for sessions in [24, 3] {
        let world = World::played(calm(grouped(20, group, sessions), 2));
        assert_eq!((world.counts().requested, world.counts().extra), (120, 40));
        assert_eq!(world.counts().cut, 40);
        for group in &world.groups {
            assert_eq!((group.oversampled, group.complete_at, group.used), (2, 4, 4));
            let cut = group.members.iter().filter(|it| it.end == End::Cancelled(Cancellation::Cut));
            assert_eq!(cut.count(), 2);
        }
        // Those that were kept are shorter than all would be; the statistics show it.
        let all = world.core.task_statistics().all;
        assert_eq!((all.groups, all.members, all.kept, all.cut), (20, 120, 80, 40));
        assert!(all.kept_length() < Some(10.0), "{all:?}");
    }
}

#[test]
fn groups_without_variance_are_filtered_and_replaced_within_bounds() {
    let group = GroupOptions {
        samples: 2,
        filter: GroupFilter::ZeroVariance,
        refill_max: 5,
        ..GroupOptions::default()
    };
    let job = JobOptions {
        scoring: Scoring::External { deadline: None, most: 8, whole_groups: false },
        ..grouped(60, group, 8)
    };
    let world = World::played(Plan {
        score_values: 2,
        score_within: Duration::from_millis(3),
        ..calm(job, 1)
    });
    let counts = world.counts();
    assert_eq!((counts.groups_refilled, counts.extra), (5, 10));
    assert!(counts.groups_filtered > 10 && counts.filtered == 2 * counts.groups_filtered);
    assert_eq!(world.groups.len(), 65);
    let refills: Vec<u64> = world.groups.iter().filter_map(|group| group.refill_of).collect();
    assert_eq!(refills.len(), 5);
    for group in &world.groups {
        let rewards: Vec<_> = group.members.iter().map(|member| member.reward).collect();
        let is_flat = rewards[0] == rewards[1];
        assert_eq!(group.outcome == GroupOutcome::Filtered, is_flat, "{group:?}");
        assert_eq!(group.refill_of.is_some(), group.group_id >= 60);
    }
}

#[test]
fn a_deadline_cuts_what_has_not_ended() {
    let group = GroupOptions {
        samples: 8,
        deadline: Some(Duration::from_millis(12)),
        ..GroupOptions::default()
    };
    let world = World::played(calm(grouped(10, group, 8), 1));
    let late = End::Cancelled(Cancellation::GroupDeadline);
    assert!(world.records.iter().any(|record| record.end == late && !record.steps.is_empty()));
    assert!(world.records.iter().any(|record| record.end.name() == "completed"));
    for group in &world.groups {
        assert_eq!(group.outcome == GroupOutcome::Complete, group.used == 8);
        assert!(group.ended_us - group.started_us <= 12_000, "{group:?}");
    }
}

#[test]
fn stragglers_are_played_twice_and_recorded_once() {
    let group = GroupOptions { samples: 6, duplicate_stragglers: true, ..GroupOptions::default() };
    let servers = vec![ServerPlan { tail: 2_000, episode_steps: 6, ..ServerPlan::default() }; 2];
    let job = grouped(50, group, 24);
    let with =
        World::played(Plan { servers: servers.clone(), job: job.clone(), ..Plan::default() });
    assert!(with.counts().duplicates > 5, "{:?}", with.counts());
    assert_eq!(with.counts().completed, 300);
    let lost = with.records.iter().flat_map(|record| &record.attempts);
    let lost = lost.filter(|attempt| attempt.cause == "duplicate").count() as u64;
    assert!(lost > 0 && lost <= with.counts().duplicates);
    let group = GroupOptions { duplicate_stragglers: false, ..group };
    let job = JobOptions { group: Some(group), ..job };
    let without = World::played(Plan { servers, job, ..Plan::default() });
    assert!(with.now < without.now, "{} and {}", with.now, without.now);
}

#[test]
fn members_are_spread_or_kept_together() {
    let servers = |placement| {
        let group = GroupOptions { samples: 4, placement, ..GroupOptions::default() };
        let job = JobOptions { session_reuse: SessionReuse::Unlimited, ..grouped(100, group, 16) };
        let world = World::played(calm(job, 4));
        let of = |group: u64| {
            let members = world.records.iter().filter(|record| record.group_id == group);
            let mut servers: Vec<_> = members.map(|it| it.provenance.server.clone()).collect();
            servers.sort_unstable();
            servers.dedup();
            servers.len()
        };
        (0..100).map(of).sum::<usize>()
    };
    let (spread, together) = (servers(GroupPlacement::Spread), servers(GroupPlacement::Together));
    assert!(spread >= 375, "{spread} servers for 100 groups of 4");
    assert!(together <= 125, "{together} servers for 100 groups of 4");
}

#[test]
fn first_observations_that_differ_are_reported() {
    // The world's servers show who is asked, whatever the seed.
    let group = GroupOptions { samples: 2, ..GroupOptions::default() };
    let world = World::played(calm(grouped(10, group, 4), 1));
    assert_eq!(world.counts().groups_differing, 10);
    assert!(world.groups.iter().all(|it| it.first_observations == FirstObservations::Differ));
    let told = world.notes.iter().filter(|it| matches!(it, Note::FirstObservationsDiffer { .. }));
    assert_eq!(told.count(), 1);
}

#[test]
fn without_a_score_an_episode_fails_in_time() {
    let job = JobOptions {
        scoring: Scoring::External {
            deadline: Some(Duration::from_millis(20)),
            most: 4,
            whole_groups: false,
        },
        ..JobOptions { episodes: 200, sessions_max: 8, ..JobOptions::default() }
    };
    let world = World::played(Plan {
        score_values: 3,
        score_within: Duration::from_millis(25),
        score_fails: 100,
        ..calm(job, 1)
    });
    let causes = |cause: &str| world.records.iter().filter(|it| it.end.cause() == cause).count();
    assert!(causes("deadline_scoring") > 0 && causes("scorer") > 0);
    assert!(world.records.iter().any(|it| it.end.name() == "completed"));
    assert!(world.records.iter().all(|it| match &it.end {
        End::Failed(failure) => failure.kind != FailureKind::NoServer,
        _ => it.reward.is_some_and(|reward| reward < 3.0),
    }));
}

#[test]
fn groups_that_cannot_be_are_refused() {
    let submit = |episodes, group| {
        let mut core = envmill_core::Core::new(envmill_core::Options::default());
        core.add_server(envmill_core::ServerOptions::default());
        let job = JobOptions { episodes, group: Some(group), ..JobOptions::default() };
        core.submit(envmill_core::Time::ZERO, job).unwrap_err()
    };
    let group = GroupOptions { samples: 4, ..GroupOptions::default() };
    assert_eq!(submit(6, group), OptionsError::Samples { episodes: 6, samples: 4 });
    let over = GroupOptions { complete_at: Some(5), ..group };
    assert_eq!(submit(8, over), OptionsError::CompleteAt { complete_at: 5, members: 4 });
    let alone =
        GroupOptions { samples: 1, filter: GroupFilter::ZeroVariance, ..GroupOptions::default() };
    assert_eq!(submit(8, alone), OptionsError::NoVariance);
    let huge = GroupOptions { oversample: u32::MAX, ..group };
    assert!(matches!(submit(8, huge), OptionsError::Members { .. }));
}
