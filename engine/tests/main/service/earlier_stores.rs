//! Stores of earlier versions, gone on with. `engine/service/examples/store-fixture.rs` has made them.

use std::fs;

use envmill_client::{
    Client, Event, Rollouts, RolloutsOptions,
    wire::{self, Record},
};
use envmill_testing::Watchdog;

use super::rig::{Service, with_runtime};
use crate::rig::BOUND;

/// Stores with records of these schema versions.
const SCHEMAS: [u32; 1] = [1];

#[test]
fn what_earlier_versions_have_left_is_delivered_and_played_to_its_end() {
    for schema in SCHEMAS {
        let _watchdog = Watchdog::start("a store of an earlier version", BOUND);
        let service = Service::on_journal(
            &journal(schema),
            "[environments.cartpole]\nenv = \"native:cartpole\"\n",
        );
        with_runtime(async {
            let client = service.client();
            standing(&client).await;
            // The groups first: of a job whose episodes are all played nothing else happens.
            group_and_end(&client).await;
            turns(&client).await;
            paused(&client).await;
        });
    }
}

fn journal(schema: u32) -> Vec<u8> {
    let path = format!(
        "{}/tests/main/service/stores/schema-{schema}.redb.zst",
        env!("CARGO_MANIFEST_DIR")
    );
    zstd::decode_all(fs::File::open(path).unwrap()).unwrap()
}

/// All jobs are there, and one of them pauses.
async fn standing(client: &Client) {
    let status = client.status().await.unwrap();
    assert_eq!(status.incarnation, 2);
    let jobs = status.jobs.iter().map(|job| {
        let progress = job.progress.as_ref().unwrap();
        // What was left of the first may have been played by now.
        let ended = (progress.job_id != "turns.1").then_some(job.ended);
        (progress.job_id.as_str(), ended, progress.numbered)
    });
    let jobs: Vec<_> = jobs.collect();
    let expected =
        [("turns.1", None, 3), ("paused.2", Some(false), 1), ("groups.3", Some(true), 4)];
    assert_eq!(jobs, expected);
    let is_paused = async |id: &str| {
        let status = client.status().await.unwrap();
        let job = status.jobs.into_iter().find(|job| job.progress.as_ref().unwrap().job_id == id);
        job.unwrap().progress.unwrap().paused
    };
    while !is_paused("paused.2").await {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// What was not acknowledged comes first, as it was; then what is played now.
async fn turns(client: &Client) {
    let mut rollouts = attach(client, "turns.1").await;
    let mut delivered = Vec::new();
    for (number, index, redelivered) in [(2, 1, true), (3, 2, true), (4, 3, false)] {
        let (found, record) = next(&mut rollouts).await;
        assert_eq!(found, (number, redelivered), "{record:?}");
        let Record::Trajectory(trajectory) = record else { panic!("{record:?}") };
        check(&trajectory, "turns.1", index);
        delivered.push(trajectory.trajectory_id);
    }
    for number in 5..=6 {
        let (found, record) = next(&mut rollouts).await;
        assert_eq!(found, (number, false));
        let Record::Trajectory(trajectory) = record else { panic!("{record:?}") };
        assert!(!trajectory.steps.is_empty(), "{trajectory:?}");
        delivered.push(trajectory.trajectory_id);
    }
    // The first was acknowledged.
    delivered.sort();
    assert_eq!(delivered, [1, 2, 3, 4, 5].map(|index| format!("turns.1-{index:08}")));
    let (_, record) = next(&mut rollouts).await;
    let Record::End(end) = record else { panic!("{record:?}") };
    assert_eq!((end.requested, end.completed, end.truncated, end.failed), (6, 4, 1, 1));
    assert_eq!(end.failures["environment"], 1);
    settle(&mut rollouts, 7).await;
}

/// It goes on when its trainer says so.
async fn paused(client: &Client) {
    let mut rollouts = attach(client, "paused.2").await;
    let (found, record) = next(&mut rollouts).await;
    assert_eq!(found, (1, true));
    let Record::Trajectory(trajectory) = record else { panic!("{record:?}") };
    check(&trajectory, "paused.2", 0);
    rollouts.wishes().resume().await.unwrap();
    for _ in 0..3 {
        let (_, record) = next(&mut rollouts).await;
        assert!(matches!(record, Record::Trajectory(_)), "{record:?}");
    }
    let (_, record) = next(&mut rollouts).await;
    let Record::End(end) = record else { panic!("{record:?}") };
    assert_eq!((end.requested, end.completed), (4, 4));
    settle(&mut rollouts, 5).await;
}

async fn group_and_end(client: &Client) {
    let mut rollouts = attach(client, "groups.3").await;
    for index in 0..2 {
        let (found, record) = next(&mut rollouts).await;
        assert_eq!(found, (index + 1, true));
        let Record::Trajectory(trajectory) = record else { panic!("{record:?}") };
        check(&trajectory, "groups.3", index);
    }
    let (_, record) = next(&mut rollouts).await;
    let Record::Group(group) = record else { panic!("{record:?}") };
    assert_eq!((group.asked, group.used, group.tokens_used), (2, 2, 10));
    assert_eq!(group.outcome(), wire::GroupOutcome::Complete);
    let rewards: Vec<_> = group.members.iter().map(|member| member.reward).collect();
    assert_eq!(rewards, [Some(1.0), None]);
    let (_, record) = next(&mut rollouts).await;
    let Record::End(end) = record else { panic!("{record:?}") };
    assert_eq!((end.requested, end.completed, end.groups), (2, 2, 1));
    settle(&mut rollouts, 4).await;
}

/// Every field that the fixture has given its own value.
fn check(trajectory: &wire::Trajectory, job: &str, index: u64) {
    let its = format!("{trajectory:#?}");
    let number = u32::try_from(index).unwrap();
    let is_scored = index.is_multiple_of(2);
    assert_eq!(trajectory.trajectory_id, format!("{job}-{index:08}"), "{its}");
    assert_eq!(
        (trajectory.task_id.clone(), trajectory.seed),
        (format!("task-{index}"), Some(index))
    );
    assert_eq!(trajectory.reset_parameters, &b"{\"level\": 3}"[..]);
    let end = trajectory.end.as_ref().unwrap();
    let ends =
        [("completed", "terminated"), ("completed", "terminated"), ("truncated", "max_steps")];
    let expected = ends.get(index as usize).unwrap_or(&("failed", "environment"));
    assert_eq!((end.kind.as_str(), end.cause.as_str()), *expected);
    assert_eq!(trajectory.attempts[0].cause, end.cause);
    // A reward that is missing is none, and not 0.
    assert_eq!(trajectory.reward, is_scored.then_some(1.0));
    let observed: Vec<_> =
        trajectory.steps.iter().map(|step| step.observed.as_ref().unwrap()).collect();
    let raw = if is_scored { "0.5" } else { "null" };
    for (turn, observed) in observed.iter().enumerate() {
        let text = format!("{{\"number\": {index}, \"turn\": {turn}}}");
        assert_eq!(observed.observation, text.as_bytes());
        assert_eq!(observed.reward, is_scored.then_some(0.5));
        assert_eq!(observed.reward_raw, raw.as_bytes());
        assert_eq!(observed.metadata, &b"{\"seen\": 1}"[..]);
    }
    assert_eq!(observed.len(), 2);
    let sampled = [vec![21, 22, 100 + number], vec![41, 100 + number]];
    let first = vec![11, 12, 13];
    let second = [&first[..], &sampled[0], &[31, 32]].concat();
    let tokens = trajectory.tokens.as_ref().unwrap();
    assert_eq!(tokens.token_ids, [&second[..], &sampled[1]].concat(), "{its}");
    assert_eq!(tokens.prompt_len, 3);
    assert_eq!(tokens.loss_mask, &[0, 0, 0, 1, 1, 1, 0, 0, 1, 1][..]);
    assert_eq!(prompts(trajectory), [first, second]);
    for (turn, (generation, sampled)) in trajectory.generations.iter().zip(&sampled).enumerate() {
        assert_eq!(generation.token_ids, *sampled);
        let logprobs: Vec<_> = sampled.iter().map(|&token| -0.25 * token as f32).collect();
        assert_eq!(generation.logprobs, logprobs);
        assert_eq!(generation.parent, (turn == 1).then_some(0));
    }
    assert_eq!(trajectory.turns.len(), 4);
    let blob = &trajectory.blobs[0];
    assert_eq!((blob.name.as_str(), blob.dtype.as_str()), ("routed_experts", "int16"));
    assert_eq!(
        (blob.shape.as_slice(), &blob.data[..]),
        (&[10, 2][..], &(0..40).collect::<Vec<u8>>()[..])
    );
    assert_eq!((trajectory.metrics[0].name.as_str(), trajectory.metrics.len()), ("turns", 1));
    assert_eq!(trajectory.content_hash.len(), 32);
}

/// The whole prompts of an episode's generations.
fn prompts(trajectory: &wire::Trajectory) -> Vec<Vec<u32>> {
    trajectory.generations.iter().map(|it| it.prompt_token_ids.clone()).collect()
}

async fn attach(client: &Client, job: &str) -> Rollouts {
    client.attach(job, 0, 0, RolloutsOptions::default()).await.unwrap()
}

/// The next record, with its number and whether it comes again.
async fn next(rollouts: &mut Rollouts) -> ((u64, bool), Record) {
    loop {
        if let Event::Delivered(it) = rollouts.next().await.unwrap().unwrap() {
            rollouts.taken(it.bytes);
            return ((it.number, it.redelivered), it.record);
        }
    }
}

/// Acknowledges everything, and waits until nothing is owed.
async fn settle(rollouts: &mut Rollouts, last: u64) {
    rollouts.wishes().acknowledge(&[1..=last], "").await.unwrap();
    while !matches!(rollouts.next().await.unwrap().unwrap(), Event::Settled) {}
}
