//! Memory that is reserved for episodes: nothing that has begun waits for it, and everything ends.

use std::time::Duration;

use envmill_core::{
    Core, EpisodeSet, GroupFilter, GroupOptions, Input, JobOptions, MemoryStatus, Options,
    OptionsError, RecordedGroups, ServerOptions, Time, recorded_member,
};
use envmill_protocol::JobId;
use envmill_world::{Plan, ServerPlan, World};

use crate::job;

/// What an episode may take. No simulated one comes to so much.
const EACH: u64 = 10_000;

fn groups(name: &str, groups: u64, samples: u32) -> JobOptions {
    JobOptions {
        name: name.into(),
        episode_bytes_max: Some(EACH),
        group: Some(GroupOptions { samples, ..GroupOptions::default() }),
        ..job(groups * u64::from(samples), 64)
    }
}

fn singles(name: &str, episodes: u64) -> JobOptions {
    JobOptions { name: name.into(), episode_bytes_max: Some(EACH), ..job(episodes, 64) }
}

/// A world without trouble, with memory for so many episodes.
fn with_memory_for(episodes: u64, mut jobs: Vec<JobOptions>) -> World {
    let job = jobs.remove(0);
    let steps_bytes_max = episodes * EACH;
    let options = Options { steps_bytes_max, ..Options::default() };
    let servers = vec![ServerPlan::default()];
    World::new(Plan { servers, job, more_jobs: jobs, options, ..Plan::default() })
}

fn reserved(world: &World, job: u32) -> u64 {
    world.core.job_status(JobId(job)).unwrap().reserved_bytes / EACH
}

fn ended(world: &World, job: &str) -> usize {
    world.records.iter().filter(|record| record.job_id == job).count()
}

#[test]
fn groups_begin_one_by_one_where_there_is_room_for_one_and_a_half() {
    let mut world = with_memory_for(6, vec![groups("a", 8, 4)]);
    let (mut peak, mut has_waited) = (0, false);
    world.drive(|world| {
        let MemoryStatus { reserved, jobs_waiting, .. } = world.core.memory();
        peak = peak.max(reserved);
        has_waited |=
            jobs_waiting == 1 && world.core.job_status(JobId(0)).unwrap().waits_for_memory;
        false
    });
    world.check();
    // The second begins when two members of the first have ended.
    assert_eq!((peak, has_waited), (6 * EACH, true));
    assert_eq!(world.counts().groups_complete, 8);
}

/// Members that are held until their group is decided keep their part, and the others still come to
/// theirs.
#[test]
fn groups_that_are_filtered_as_a_whole_end_too() {
    let mut a = groups("a", 8, 4);
    let group = a.group.as_mut().unwrap();
    (group.filter, group.refill_max) = (GroupFilter::ZeroVariance, 3);
    a.sessions_max = 2;
    let mut world = with_memory_for(6, vec![a]);
    world.drive(|_| false);
    world.check();
    assert_eq!(world.groups.len() as u64, 8 + world.counts().groups_refilled);
}

#[test]
fn what_never_fits_is_refused() {
    let mut core = Core::new(Options { steps_bytes_max: 3 * EACH, ..Options::default() });
    core.add_server(ServerOptions::default());
    let refused = core.submit(Time::ZERO, groups("a", 1, 4)).unwrap_err();
    let OptionsError::Memory { members: 4, episode_bytes: EACH, most: 30_000 } = refused else {
        panic!("{refused}")
    };
    let told = refused.to_string();
    assert!(told.contains("10000 bytes") && told.contains("30000 bytes"), "{told}");
    assert!(told.contains("`episode_bytes_max`"), "{told}");
    assert!(core.submit(Time::ZERO, groups("a", 1, 3)).is_ok());
    let none = JobOptions { episode_bytes_max: Some(0), ..job(1, 1) };
    assert!(matches!(core.submit(Time::ZERO, none), Err(OptionsError::Zero(_))));
}

#[test]
fn small_ones_do_not_overtake_a_large_one_for_ever() {
    let mut world = with_memory_for(8, vec![singles("small", 400), groups("large", 3, 8)]);
    world.drive(|world| ended(world, "large") == 24);
    // It had to wait until everything small had ended, and they for its turn.
    assert!(ended(&world, "small") < 300, "{}", ended(&world, "small"));
    world.run();
    world.check();
}

#[test]
fn nobody_waits_for_what_a_paused_job_keeps() {
    let jobs = vec![groups("paused", 2, 4), groups("large", 2, 4), singles("small", 50)];
    let mut world = with_memory_for(7, jobs);
    world.drive(|world| reserved(world, 0) == 4);
    world.input(Input::Pause(JobId(0)));
    assert!(world.drive(|world| ended(world, "small") == 50), "what is small waits");
    assert_eq!((reserved(&world, 0), ended(&world, "large")), (4, 0));
    world.input(Input::Resume(JobId(0)));
    world.run();
    world.check();
}

#[test]
fn a_slowed_job_ends_what_it_has_begun_and_begins_nothing() {
    let a = JobOptions { sessions_max: 2, ..groups("a", 4, 4) };
    let mut world = with_memory_for(100, vec![a]);
    world.drive(|world| !world.records.is_empty());
    world.input(Input::Slow(JobId(0)));
    world.run_until(world.now + Duration::from_secs(100));
    // Members that had not been started are, too.
    assert_eq!((world.groups.len(), world.records.len(), world.core.unstarted()), (1, 4, 12));
    assert_eq!(world.core.memory().reserved, 0);
    assert!(world.core.job_status(JobId(0)).unwrap().is_slowed);
    world.input(Input::Resume(JobId(0)));
    world.run();
    world.check();
}

#[test]
fn a_slowed_job_was_paused_no_longer() {
    let a = JobOptions { sessions_max: 8, ..groups("a", 4, 4) };
    let mut world = with_memory_for(100, vec![a, singles("b", 4)]);
    world.drive(|world| reserved(world, 0) == 8);
    world.input(Input::Pause(JobId(0)));
    world.run_until(world.now + Duration::from_secs(1));
    assert_eq!(ended(&world, "a"), 0);
    world.input(Input::Slow(JobId(0)));
    world.run_until(world.now + Duration::from_secs(1));
    assert_eq!((ended(&world, "a"), ended(&world, "b")), (8, 4));
    world.input(Input::Resume(JobId(0)));
    world.run();
    world.check();
}

#[test]
fn a_torn_group_reserves_what_is_missing() {
    let mut earlier = with_memory_for(4, vec![groups("a", 1, 4)]);
    earlier.drive(|world| world.records.len() >= 3);
    let records = &earlier.records[..3];
    let recorded: EpisodeSet = records
        .iter()
        .filter_map(|record| envmill_core::episode_of("a", &record.trajectory_id))
        .collect();
    let members = records.iter().map(recorded_member).collect();
    let open = RecordedGroups { open: [(0, members)].into(), ..RecordedGroups::default() };
    let a =
        JobOptions { recorded: recorded.into(), recorded_groups: open.into(), ..groups("a", 2, 4) };
    let mut world = with_memory_for(4, vec![a]);
    let mut most = Vec::new();
    world.drive(|world| {
        if most.last() != Some(&reserved(world, 0)) {
            most.push(reserved(world, 0));
        }
        false
    });
    assert_eq!(most, [1, 4, 3, 2, 1, 0]);
}
