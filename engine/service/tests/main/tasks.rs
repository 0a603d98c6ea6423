//! The tasks of jobs.

use envmill_client::RolloutsOptions;
use envmill_core::Round;
use envmill_service::Played;
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

/// A job of groups that goes by what comes of its tasks, a and b.
fn sampled(groups_asked: u64) -> wire::SubmitJob {
    let revisit = wire::Revisit { after: 1, at_least_one_in: 4 };
    wire::SubmitJob {
        task_set: "two".into(),
        sampling: Some(wire::TaskSampling { revisit: Some(revisit) }),
        ..groups(groups_asked, wire::Order::AsFinished)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_whose_groups_do_not_vary_are_visited_less_across_lives() {
    let rig = Rig::new().await;
    let trainer = rig.submit(sampled(100)).await;
    let id = trainer.id();
    let mut job = rig.puppet.job().await;
    let mut rounds: Vec<Round> = job.options.tasks.rounds().unwrap().to_vec();
    assert_eq!(rounds.len(), 1, "what it is given at first");
    let mut rig = Some(rig);
    for life in 0..3 {
        for _ in 0..4 {
            let its = rig.as_ref().unwrap();
            let last = rounds.last().unwrap().clone();
            for group in last.start..last.end() {
                // Nothing is to be learned from a.
                let is_b = last.task(0, group) == Some(1);
                its.puppet.finish_group_with(&job, group, [1.0, if is_b { 0.0 } else { 1.0 }]);
            }
            its.puppet.tell(Played::RoundWanted(job.key));
            rounds.push(its.puppet.next_round(&job, last.end()).await);
        }
        let its = rig.take().unwrap();
        let told = its.client().tasks(&id, 0, 0).await.unwrap();
        assert_eq!((told.total, told.tasks.len()), (2, 2));
        let [a, b] = &told.tasks[..] else { panic!() };
        let visits = |task| {
            rounds.iter().flat_map(|it| it.tasks.iter()).filter(|&&it| it == task).count() as u64
        };
        assert_eq!((a.visits, b.visits), (visits(0), visits(1)), "life {life}");
        assert_eq!((a.varied, b.unvaried, b.one_in), (0, 0, 1));
        assert_eq!((a.reward_mean, b.reward_mean), (Some(1.0), Some(0.5)));
        assert_eq!((a.unvaried, u64::from(a.unvaried_in_a_row)), (a.groups, a.groups));
        let again = its.again().await;
        assert_eq!(again.client().tasks(&id, 0, 0).await.unwrap(), told, "life {life}");
        job = again.puppet.job().await;
        let given = job.options.tasks.rounds().unwrap();
        assert_eq!(given, &rounds[rounds.len() - given.len()..]);
        assert!(given.len() <= 2, "those that are over are forgotten");
        rig = Some(again);
    }
    let rounds: Vec<_> = rounds.iter().map(|round| round.tasks.len()).collect();
    assert_eq!(rounds[0], 2, "nothing is known yet");
    let late: usize = rounds[5..].iter().sum();
    let count = rounds.len() - 5;
    assert!(late <= count + count.div_ceil(4), "a is in one of four: {rounds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_tasks_is_told_of_jobs_that_keep_account() {
    let rig = Rig::new().await;
    let plain = rig.submit(wire::SubmitJob { name: "plain".into(), ..episodes(3) }).await;
    let refused = rig.client().tasks(&plain.id(), 0, 0).await.unwrap_err().to_string();
    assert!(refused.contains("submit it with `sampling`"), "{refused}");
    assert!(rig.client().tasks("nobody.1", 0, 0).await.is_err());
    let job =
        wire::SubmitJob { sampling: Some(wire::TaskSampling::default()), epochs: 3, ..sampled(0) };
    let kept = rig.submit(job).await;
    let accepted = kept.rollouts.accepted().job.clone().unwrap();
    assert_eq!((accepted.groups, accepted.sampling.unwrap().revisit), (6, None));
    let page = rig.client().tasks(&kept.id(), 1, 5).await.unwrap();
    assert_eq!((page.total, page.tasks[0].id.as_str(), page.tasks.len()), (2, "b", 1));
    assert_eq!(page.tasks[0].reward_mean, None);
    assert!(rig.client().tasks(&kept.id(), u64::MAX, 5).await.unwrap().tasks.is_empty());
}
