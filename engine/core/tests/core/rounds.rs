//! Jobs whose rounds of tasks are drawn outside: nothing is played of a round that has not come.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use envmill_core::{
    GroupOptions, Input, JobOptions, Note, RecordedGroups, Revisit, Round, Sampler, Task, Tasks,
    Time,
};
use envmill_protocol::{EpisodeIndex, JobId};
use envmill_world::{Plan, ServerPlan, World};

const GROUPS: u64 = 23;

fn sampler() -> Sampler {
    let task = |id: u64| Task { id: id.to_string(), ..Task::default() };
    let revisit = Revisit { after: 1, every_max: 4 };
    Sampler::new(Tasks::new((0..5).map(task).collect()), 9, Some(revisit))
}

fn job(rounds: Vec<Round>) -> JobOptions {
    JobOptions {
        episodes: GROUPS * 2,
        group: Some(GroupOptions { samples: 2, ..GroupOptions::default() }),
        sessions_max: 4,
        seed: 9,
        tasks: sampler().tasks().clone().in_rounds(rounds),
        ..JobOptions::default()
    }
}

fn world(job: JobOptions) -> World {
    World::new(Plan { servers: vec![ServerPlan::default()], job, ..Plan::default() })
}

fn wanted(world: &World) -> usize {
    world.notes.iter().filter(|note| matches!(note, Note::RoundWanted(_))).count()
}

fn after(world: &mut World, time: Duration) {
    let until = world.now + time;
    world.run_until(until);
}

#[test]
fn a_round_is_asked_for_in_time_and_waited_for() {
    let mut sampler = sampler();
    let mut world = world(job(vec![sampler.draw().unwrap()]));
    let mut seen = 0;
    for round in 1.. {
        after(&mut world, Duration::from_secs(600));
        assert_eq!(world.groups.len() as u64, sampler.end().min(GROUPS), "the rest waits");
        for group in &world.groups[seen..] {
            let task = sampler.add(group).unwrap();
            assert_eq!(group.task_id, task.to_string());
        }
        seen = world.groups.len();
        if world.groups.len() as u64 == GROUPS {
            break;
        }
        assert_eq!(wanted(&world), round, "it asks once");
        let next = sampler.draw().unwrap();
        // What is not the next changes nothing.
        let other = Round { start: next.start + 1, ..next.clone() };
        world.input(Input::Round { job: JobId(0), round: other });
        world.input(Input::Round { job: JobId(0), round: next });
    }
    world.run();
    world.check();
    assert_eq!(world.records.len() as u64, GROUPS * 2);
}

#[test]
fn a_job_that_goes_on_plays_the_rounds_that_it_had() {
    let mut first = sampler();
    let rounds: Vec<Round> = (0..2).map(|_| first.draw().unwrap()).collect();
    let mut whole = world(job(rounds.clone()));
    after(&mut whole, Duration::from_secs(600));
    // Of an earlier life there are the first five groups, and half of another.
    let recorded = (0..10).chain([14]).map(EpisodeIndex).collect();
    let open = whole.groups.iter().find(|group| group.group_id == 7).unwrap();
    let members = open.members.iter().filter(|member| member.sample_index == 0).cloned();
    let open = [(7, members.collect())].into();
    let mut options = job(rounds[1..].to_vec());
    options.recorded = Arc::new(recorded);
    options.recorded_groups = Arc::new(RecordedGroups { open, ..RecordedGroups::default() });
    let mut again = world(options);
    after(&mut again, Duration::from_secs(600));
    let of = |world: &World| -> BTreeSet<(u64, String)> {
        let late = world.groups.iter().filter(|group| group.group_id >= 5);
        late.map(|group| (group.group_id, group.task_id.clone())).collect()
    };
    assert_eq!((of(&again), of(&again).len()), (of(&whole), 5));
}

#[test]
fn a_job_that_waits_for_a_round_can_be_given_up() {
    for end in [Input::Drain(JobId(0)), Input::Cancel(JobId(0))] {
        let mut sampler = sampler();
        let mut world = world(job(vec![sampler.draw().unwrap()]));
        after(&mut world, Duration::from_secs(600));
        world.input(end);
        world.run();
        assert_eq!((world.records.len(), world.groups.len()), (46, 23));
        let known = world.groups.iter().filter(|group| !group.task_id.is_empty()).count() as u64;
        assert_eq!(known, sampler.end());
    }
}

#[test]
fn no_server_is_blamed_while_a_round_is_waited_for() {
    let mut sampler = sampler();
    let mut world = world(job(vec![sampler.draw().unwrap()]));
    world.run_until(Time::ZERO + Duration::from_hours(48));
    let ends: BTreeSet<&str> = world.records.iter().map(|it| it.end.name()).collect();
    assert_eq!(ends, ["completed"].into());
}

#[test]
fn rounds_that_come_late_lose_and_double_nothing_in_hostile_worlds() {
    for seed in 0..300 {
        let mut plan = crate::groups::hostile(seed);
        plan.job.name = "sampled".into();
        let mut sampler = Sampler::new(
            sampler().tasks().clone(),
            plan.job.seed,
            Some(Revisit { after: 1, every_max: 4 }),
        );
        plan.job.tasks = sampler.tasks().clone().in_rounds(sampler.draw().into_iter().collect());
        let mut world = World::new(plan);
        let (mut given, mut seen) = (0, 0);
        let is_of_first = |note: &&Note| matches!(note, Note::RoundWanted(JobId(0)));
        while world.drive(|world| world.notes.iter().filter(is_of_first).count() > given) {
            given += 1;
            for group in &world.groups[std::mem::replace(&mut seen, world.groups.len())..] {
                if group.job_id == "sampled" {
                    sampler.add(group);
                }
            }
            let until = world.now + Duration::from_millis(seed % 7 * 10);
            world.run_until(until);
            let round = sampler.draw().unwrap();
            world.input(Input::Round { job: JobId(0), round });
        }
        world.run();
        world.check();
        for group in world.groups.iter().filter(|it| it.job_id == "sampled") {
            if !group.task_id.is_empty() {
                assert_eq!(
                    Some(group.task_id.clone()),
                    sampler.task(group.group_id).map(|it| it.to_string())
                );
            }
        }
    }
}
