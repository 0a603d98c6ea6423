//! The tasks of jobs.

use envmill_client::RolloutsOptions;
use envmill_wire as wire;

use crate::rig::{Rig, episodes, groups};

fn task(id: &str, weight: Option<f64>) -> wire::Task {
    wire::Task { id: id.into(), weight, ..wire::Task::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_are_rounds_of_the_tasks() {
    let rig = Rig::new().await;
    let of = |name: &str, job: wire::SubmitJob| wire::SubmitJob { name: name.into(), ..job };
    let by_set = |job| wire::SubmitJob { task_set: "two".into(), epochs: 3, ..job };
    let trainer = rig.submit(of("plain", by_set(episodes(0)))).await;
    let accepted = trainer.rollouts.accepted().job.clone().unwrap();
    assert_eq!((accepted.episodes, accepted.groups, accepted.epochs), (6, 0, 3));
    let trainer = rig.submit(of("grouped", by_set(groups(0, wire::Order::ByGroup)))).await;
    let accepted = trainer.rollouts.accepted().job.clone().unwrap();
    assert_eq!((accepted.episodes, accepted.groups), (0, 6));
    // What is said twice must be the same.
    rig.submit(of("both", by_set(episodes(6)))).await;
    let tasks = vec![task("a", Some(2.0)), task("b", Some(0.0)), task("c", None)];
    let weighted = wire::SubmitJob { tasks, epochs: 4, ..episodes(0) };
    let trainer = rig.submit(of("weighted", weighted)).await;
    assert_eq!(trainer.rollouts.accepted().job.as_ref().unwrap().episodes, 12);
    let jobs = rig.puppet.jobs(4).await;
    let played: Vec<u64> = jobs.iter().map(|job| job.options.episodes).collect();
    assert_eq!(played, [6, 12, 6, 12], "of groups there are two members each");
    let tasks = jobs[3].options.tasks.as_slice();
    let tasks: Vec<_> = tasks.iter().map(|it| (it.id.as_str(), it.weight.as_f64())).collect();
    assert_eq!(tasks, [("a", 2.0), ("c", 1.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_keeps_the_tasks_that_it_was_accepted_with() {
    let rig = Rig::new().await;
    let job = wire::SubmitJob { task_set: "two".into(), epochs: 2, ..episodes(0) };
    let first = rig.submit(job.clone()).await;
    let tasks = rig.puppet.job().await.options.tasks;
    // The set has another task in the engine's next life.
    let rig = rig.again_with(|sets| {
        let more =
            ["a", "b", "c"].map(|id| envmill_core::Task { id: id.into(), ..Default::default() });
        sets.insert("two".into(), envmill_core::Tasks::new(more.into()));
    });
    let rig = rig.await;
    assert_eq!(rig.puppet.job().await.options.tasks, tasks);
    let second = rig.submit(job.clone()).await;
    assert_eq!((first.id(), second.rollouts.accepted().existed), (second.id(), true));
    let other = wire::SubmitJob { epochs: 3, ..job };
    let refused = rig.client().submit(other, RolloutsOptions::default()).await.unwrap_err();
    assert!(refused.to_string().contains("asks for something else"), "{refused}");
}
