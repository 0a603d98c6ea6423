//! Jobs from their submission to their end.

use std::time::Duration;

use envmill_client::{Event, RolloutsOptions};
use envmill_core::Scoring;
use envmill_service::Order;
use envmill_wire as wire;

use crate::rig::{Rig, Trainer, episodes, groups, id_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_played_delivered_and_settled() {
    let rig = Rig::new().await;
    let mut trainer = rig.submit(episodes(3)).await;
    let accepted = trainer.rollouts.accepted().clone();
    assert!(!accepted.existed && accepted.job_id.starts_with("test."), "{accepted:?}");
    let limits = accepted.job.unwrap().limits.unwrap();
    assert_eq!((limits.sessions, limits.attempts), (16, 3), "every limit is told");
    assert_eq!(limits.episode_bytes_max, 32 << 20, "half of 1 GiB for 16 sessions");
    let job = rig.puppet.job().await;
    assert_eq!((job.options.episodes, &job.options.name), (3, &accepted.job_id));
    rig.puppet.finish(&job, [2, 0, 1]);
    rig.puppet.end(&job);
    let taken = trainer.take(4).await;
    let ids: Vec<_> = taken.iter().map(|it| id_of(it).replace(&accepted.job_id, "")).collect();
    assert_eq!(ids, ["-00000002", "-00000000", "-00000001", "end"]);
    let numbers: Vec<_> = taken.iter().map(|it| it.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let wire::Record::End(end) = &taken[3].record else { panic!("{:?}", taken[3]) };
    assert_eq!((end.requested, end.completed, end.extra), (3, 3, 0));
    trainer.acknowledge(1, 4).await;
    trainer.wait_for(|event| matches!(event, Event::Settled).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_come_as_a_whole_or_as_their_members_finish() {
    for order in [wire::Order::ByGroup, wire::Order::AsFinished] {
        let rig = Rig::new().await;
        let mut trainer = rig.submit(groups(2, order)).await;
        let job = rig.puppet.job().await;
        rig.puppet.finish(&job, [0]);
        rig.puppet.finish_group(&job, 1);
        let taken = trainer.take(if order == wire::Order::ByGroup { 3 } else { 4 }).await;
        let groups: Vec<_> = taken.iter().map(|it| it.group_id).collect();
        match order {
            wire::Order::ByGroup => assert_eq!(groups, [1, 1, 1]),
            _ => assert_eq!(groups, [0, 1, 1, 1]),
        }
        assert_eq!(id_of(taken.last().unwrap()), "group");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_without_credit_and_nothing_is_begun() {
    let rig = Rig::new().await;
    let mut job = episodes(100);
    job.delivery = Some(wire::DeliveryTerms { waiting_max: 5, ..wire::DeliveryTerms::default() });
    let options = RolloutsOptions { window_records: 4, ..RolloutsOptions::default() };
    let mut trainer = rig.submit_with(job, options).await;
    let job = rig.puppet.job().await;
    rig.puppet.finish(&job, 0..20);
    rig.puppet.told(Order::Slow).await;
    let mut numbers = Vec::new();
    while numbers.len() < 4 {
        // They are left where they are: no room is made.
        if let Event::Delivered(it) = trainer.event().await {
            numbers.push(it.number);
        }
    }
    assert_eq!(numbers, [1, 2, 3, 4]);
    let status = rig.client().status().await.unwrap();
    let progress = status.jobs[0].progress.as_ref().unwrap();
    assert_eq!((progress.waiting, progress.unacknowledged), (16, 4));
    for _ in 0..4 {
        trainer.rollouts.taken(1 << 20);
    }
    assert_eq!(trainer.take_numbers(16).await, (5..=20).collect::<Vec<_>>());
    rig.puppet.told(Order::Resume).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_submitted_twice_is_played_once() {
    let rig = Rig::new().await;
    let first = rig.submit(episodes(3)).await;
    let second = rig.submit(episodes(3)).await;
    assert_eq!(first.id(), second.id());
    assert!(second.rollouts.accepted().existed);
    assert_eq!(rig.puppet.jobs(1).await.len(), 1);
    let other = rig.client().submit(episodes(4), RolloutsOptions::default()).await.unwrap_err();
    assert!(other.to_string().contains("asks for something else"), "{other}");
    let unnamed = wire::SubmitJob { name: String::new(), ..episodes(3) };
    let (third, fourth) = (rig.submit(unnamed.clone()).await, rig.submit(unnamed).await);
    assert_ne!(third.id(), fourth.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_names_its_scorer() {
    let rig = Rig::new().await;
    let job = wire::SubmitJob { scorer: "each".into(), ..episodes(3) };
    let trainer = rig.submit(job).await;
    let accepted = trainer.rollouts.accepted().job.clone().unwrap();
    assert_eq!(accepted.scorer, "each");
    let given = rig.puppet.job().await;
    assert_eq!(given.scorer.as_deref(), Some("each"));
    let scoring = Scoring::External { deadline: None, most: 5, whole_groups: false };
    assert_eq!(given.options.scoring, scoring);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_takes_the_place_of_another() {
    let rig = Rig::new().await;
    let mut first = rig.submit(episodes(3)).await;
    let job = rig.puppet.job().await;
    rig.puppet.finish(&job, [0, 1]);
    assert_eq!(first.take_numbers(2).await, [1, 2]);
    first.acknowledge(1, 1).await;
    let mut second = rig.attach(&first.id(), 0, 0).await;
    let error = loop {
        if let Err(error) = first.rollouts.next().await.unwrap() {
            break error;
        }
    };
    assert!(error.to_string().contains("another stream"), "{error}");
    let again = second.next().await;
    assert_eq!((again.number, again.redelivered), (2, true));
    // What the cursor says was received does not come again.
    let mut third = rig.attach(&second.id(), 0, 2).await;
    rig.puppet.finish(&job, [2]);
    assert_eq!(third.next().await.number, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_large_comes_in_parts() {
    let rig = Rig::with(|options| options.part_bytes = 1000).await;
    let mut trainer = rig.submit(episodes(2)).await;
    let job = rig.puppet.job().await;
    let version = envmill_protocol::PolicyVersion(0);
    let mut large = crate::rig::trajectory(&job, 0, version);
    large.messages = vec![b'x'; 12_345].into();
    rig.puppet.tell(envmill_service::Played::Records(vec![large]));
    rig.puppet.finish(&job, [1]);
    let taken = trainer.take(2).await;
    let wire::Record::Trajectory(whole) = &taken[0].record else { panic!() };
    assert_eq!(whole.messages.len(), 12_345);
    assert!(taken[0].bytes == 0 || taken[0].bytes > 12_345, "{}", taken[0].bytes);
    assert_eq!(taken[1].number, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_reach_the_player() {
    let rig = Rig::new().await;
    let trainer = rig.submit(episodes(3)).await;
    rig.puppet.job().await;
    let wishes = trainer.rollouts.wishes();
    wishes.pause().await.unwrap();
    rig.puppet.told(Order::Pause).await;
    wishes.resume().await.unwrap();
    rig.puppet.told(Order::Resume).await;
    wishes.drain().await.unwrap();
    rig.puppet.told(Order::Drain).await;
    wishes.cancel().await.unwrap();
    rig.puppet.told(Order::Cancel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_socket_holds_up_nobody_else() {
    let rig = Rig::new().await;
    // It grants much and never looks.
    let options = RolloutsOptions {
        window_records: 1 << 30,
        window_bytes: 1 << 40,
        ..RolloutsOptions::default()
    };
    let slow =
        rig.submit_with(wire::SubmitJob { name: "slow".into(), ..episodes(64) }, options).await;
    let quick = wire::SubmitJob { name: "quick".into(), ..episodes(64) };
    let mut quick: Trainer = rig.submit(quick).await;
    let jobs = rig.puppet.jobs(2).await;
    for index in 0..64 {
        let mut large = crate::rig::trajectory(&jobs[0], index, envmill_protocol::PolicyVersion(0));
        large.messages = vec![b'x'; 1 << 20].into();
        rig.puppet.tell(envmill_service::Played::Records(vec![large]));
    }
    rig.puppet.finish(&jobs[1], 0..64);
    assert_eq!(quick.take(64).await.len(), 64);
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(slow);
}
