//! Trainers on several machines.

use envmill_client::Event;
use envmill_wire as wire;

use crate::rig::{Rig, Trainer, groups};

fn job(count: u64) -> wire::SubmitJob {
    let mut job = groups(count, wire::Order::Batches);
    job.delivery.as_mut().unwrap().world = 2;
    job
}

async fn share(trainer: &mut Trainer) -> Vec<u64> {
    let batch = trainer
        .wait_for(|event| match event {
            Event::Batch(batch) => Some(batch.clone()),
            _ => None,
        })
        .await;
    trainer.news.clear();
    let taken = trainer.take(batch.deliveries as usize).await;
    let mut groups: Vec<_> = taken.iter().map(|it| it.group_id).collect();
    groups.dedup();
    groups
}

#[tokio::test(flavor = "multi_thread")]
async fn all_ranks_get_a_batch_or_none_does() {
    let rig = Rig::new().await;
    let mut first = rig.submit(job(4)).await;
    let mut second = rig.attach(&first.id(), 1, 0).await;
    let given = rig.puppet.job().await;
    for group in 0..3 {
        rig.puppet.finish_group(&given, group);
    }
    first.rollouts.wishes().next_batch(0, 2).await.unwrap();
    second.rollouts.wishes().next_batch(0, 2).await.unwrap();
    assert_eq!((share(&mut first).await, share(&mut second).await), (vec![0], vec![1]));
    // A rank that died comes back for its share.
    let id = second.id();
    drop(second);
    let mut second = rig.attach(&id, 1, 0).await;
    second.rollouts.wishes().next_batch(0, 2).await.unwrap();
    assert_eq!(share(&mut second).await, [1]);
    let decide = second.rollouts.wishes().cancel().await.unwrap_err();
    assert!(decide.to_string().contains("rank 0"), "{decide}");
    // Or its share is given up, and comes in a later batch.
    first.rollouts.wishes().release_share(0, 1).await.unwrap();
    first.rollouts.wishes().next_batch(1, 2).await.unwrap();
    second.rollouts.wishes().next_batch(1, 2).await.unwrap();
    let (a, b) = (share(&mut first).await, share(&mut second).await);
    assert_eq!([a, b].concat(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_ended_says_that_there_are_no_more() {
    let rig = Rig::new().await;
    let mut first = rig.submit(job(1)).await;
    let mut second = rig.attach(&first.id(), 1, 0).await;
    let given = rig.puppet.job().await;
    rig.puppet.finish_group(&given, 0);
    rig.puppet.end(&given);
    for trainer in [&first, &second] {
        trainer.rollouts.wishes().next_batch(0, 2).await.unwrap();
    }
    assert_eq!((share(&mut first).await, share(&mut second).await), (vec![0], vec![]));
    for trainer in [&mut first, &mut second] {
        trainer.rollouts.wishes().next_batch(1, 2).await.unwrap();
        trainer.wait_for(|event| matches!(event, Event::NoMoreBatches).then_some(())).await;
    }
}
