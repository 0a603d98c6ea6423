//! Jobs that have ended.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use envmill_core::{
    Core, EpisodeSet, GroupFilter, GroupOptions, InFlight, Input, JobOptions, Note, Options,
    Outputs, ServerOptions, Task, Tasks, Time,
};
use envmill_protocol::{EpisodeIndex, JobId, PolicyVersion};
use envmill_world::{Plan, ServerPlan, World};

use crate::job;

/// The jobs that were told to have ended, in order.
fn ended<'a>(notes: impl IntoIterator<Item = &'a Note>) -> Vec<u32> {
    let ended = notes.into_iter().filter_map(|note| match note {
        Note::JobEnded(job) => Some(job.0),
        _ => None,
    });
    ended.collect()
}

fn named(name: &str, episodes: u64) -> JobOptions {
    JobOptions { name: name.into(), ..job(episodes, 8) }
}

#[test]
fn each_job_ends_once_and_after_its_records() {
    let group = GroupOptions {
        samples: 4,
        filter: GroupFilter::ZeroVariance,
        refill_max: 3,
        ..GroupOptions::default()
    };
    let mut world = World::new(Plan {
        servers: vec![ServerPlan::default()],
        job: named("a", 300),
        more_jobs: vec![
            named("b", 3),
            JobOptions { group: Some(group), ..named("c", 40) },
            named("d", 100),
        ],
        ..Plan::default()
    });
    world.input(Input::Cancel(JobId(3)));
    assert!(world.drive(|world| !ended(&world.notes).is_empty()));
    assert!(world.records.len() < 400);
    world.run();
    world.check();
    let mut jobs = ended(&world.notes);
    jobs.sort_unstable();
    assert_eq!(jobs, [0, 1, 2, 3]);
}

/// A core without a server that answers: what it does, it does by itself.
struct Quiet(Core, Outputs);

impl Quiet {
    fn new() -> Self {
        let mut core = Core::new(Options::default());
        core.add_server(ServerOptions::default());
        Self(core, Outputs::default())
    }

    fn submit(&mut self, options: JobOptions) -> JobId {
        self.0.submit(Time::ZERO, options).unwrap()
    }

    fn settle(&mut self) {
        self.0.settle(Time::ZERO, &mut self.1);
    }
}

#[test]
fn a_job_that_has_nothing_to_play_ends_at_once() {
    let mut quiet = Quiet::new();
    quiet.submit(named("empty", 0));
    let recorded: EpisodeSet = (0..5).map(EpisodeIndex).collect();
    quiet.submit(JobOptions { recorded: Arc::new(recorded), ..named("done", 5) });
    assert!(!quiet.0.is_idle() && quiet.0.next_deadline() == Time::ZERO);
    quiet.settle();
    assert_eq!(ended(&quiet.1.notes), [0, 1]);
    assert!(quiet.0.is_idle() && quiet.1.records.is_empty());
    quiet.settle();
    assert_eq!(ended(&quiet.1.notes), [0, 1]);
    assert_eq!(quiet.0.next_deadline(), Time::NEVER);
}

#[test]
fn what_is_large_of_a_job_is_not_kept() {
    let mut quiet = Quiet::new();
    let job = quiet.submit(JobOptions {
        reset_parameters: Bytes::from_static(b"{\"split\":\"train\"}"),
        tasks: Tasks::new(vec![Task {
            id: "hard".into(),
            parameters: Bytes::new(),
            ..Task::default()
        }]),
        recorded: Arc::new((0..3).map(EpisodeIndex).collect()),
        environment_name: "maze".into(),
        ..named("large", 5)
    });
    quiet.0.handle(Time::ZERO, Input::Cancel(job), &mut quiet.1);
    quiet.settle();
    assert_eq!((ended(&quiet.1.notes), quiet.1.records.len()), (vec![0], 2));
    let record = &quiet.1.records[0];
    assert_eq!((record.task_id.as_str(), record.reset_parameters.is_empty()), ("hard", false));
    let kept = quiet.0.jobs().next().unwrap();
    assert_eq!((kept.name.as_str(), kept.environment_name.as_str()), ("large", "maze"));
    assert_eq!((kept.episodes, kept.recorded.iter().count()), (5, 0));
    assert!(kept.tasks.as_slice().is_empty() && kept.reset_parameters.is_empty());
}

#[test]
fn what_comes_for_a_job_after_its_end_changes_nothing() {
    let mut world = World::new(Plan {
        servers: vec![ServerPlan::default()],
        job: job(3, 3),
        ..Plan::default()
    });
    world.run();
    let (records, notes) = (world.records.len(), world.notes.len());
    let (job, version) = (JobId(0), PolicyVersion(1));
    for input in [
        Input::Pause(job),
        Input::Resume(job),
        Input::Drain(job),
        Input::Cancel(job),
        Input::PolicyVersion { job, version, in_flight: InFlight::Keep },
        Input::PolicyVersion { job, version, in_flight: InFlight::Drain },
    ] {
        world.input(input);
        world.run_until(world.now + Duration::from_secs(1));
    }
    world.check();
    assert_eq!((world.records.len(), world.notes.len()), (records, notes));
}

/// A service lives for months: jobs come and go, and the thousandth is as good as the first.
#[test]
fn jobs_may_come_after_others_have_ended() {
    let mut quiet = Quiet::new();
    for number in 0..1_000 {
        let job = quiet.submit(named(&number.to_string(), 2));
        assert_eq!(job, JobId(number));
        quiet.0.handle(Time::ZERO, Input::Cancel(job), &mut quiet.1);
        quiet.settle();
    }
    assert_eq!(ended(&quiet.1.notes), (0..1_000).collect::<Vec<_>>());
    assert_eq!((quiet.1.records.len(), quiet.0.jobs().count()), (2_000, 1_000));
}
