//! New policy versions while programs play.

use std::fs;

use envmill_client::{Event, Rollouts, RolloutsOptions, wire};
use envmill_testing::{Watchdog, wait_until};
use serde_json::json;

use super::{Rig, all_are_gone, end, job, message};
use crate::{
    rig::BOUND,
    service::{rig::with_runtime, upstream::SAMPLED_BEFORE},
};

const FIRST: wire::Version = wire::Version { lineage: 0, step: 1 };

/// What an inference engine is told to do, to have weights.
const LOADING: [&str; 5] = [
    "/pause?mode=keep",
    "/collective_rpc /weights/1",
    "/reset_prefix_cache?reset_running_requests=true",
    "/update_weight_version 1",
    "/resume",
];

fn bounded(name: &str, kind: &str, episodes: u64, staleness_max: Option<u64>) -> wire::SubmitJob {
    let delivery = wire::DeliveryTerms { staleness_max, ..wire::DeliveryTerms::default() };
    wire::SubmitJob { episodes, delivery: Some(delivery), ..job(name, &[(kind, json!({}))]) }
}

/// All that comes of a job: its records, how many were told as stale, and its account.
async fn rest(mut rollouts: Rollouts) -> (Vec<wire::Trajectory>, usize, wire::JobEnd) {
    let (mut trajectories, mut stale) = (Vec::new(), 0);
    loop {
        let Event::Delivered(delivered) = rollouts.next().await.unwrap().unwrap() else { continue };
        rollouts.taken(delivered.bytes);
        match delivered.record {
            wire::Record::Trajectory(it) => trajectories.push(*it),
            wire::Record::Stale(_) => stale += 1,
            wire::Record::End(end) => return (trajectories, stale, *end),
            wire::Record::Group(_) => {}
        }
    }
}

/// Of each generation the steps of the versions that it was sampled from.
fn versions(trajectory: &wire::Trajectory) -> Vec<Vec<u64>> {
    let steps = |it: &wire::Generated| -> Vec<u64> {
        it.policy_versions.iter().map(|span| span.version.unwrap().step).collect()
    };
    trajectory.generations.iter().map(steps).collect()
}

fn began_and_ended_on(trajectory: &wire::Trajectory) -> (u64, u64) {
    let timing = trajectory.timing.as_ref().unwrap();
    let step = |it: Option<wire::Version>| it.unwrap().step;
    (step(timing.policy_version_started), step(timing.policy_version_ended))
}

/// New weights for three episodes, each of which is in the midst of its second generation.
async fn announced_amid_generations(rig: &Rig, in_flight: Option<wire::InFlight>) -> Rollouts {
    let job = bounded("held", "held", 3, Some(1));
    let rollouts = rig.service.client().submit(job, RolloutsOptions::default()).await.unwrap();
    wait_until("generations are under way", BOUND, || rig.upstream.held() == 3);
    rollouts.wishes().announce(FIRST, in_flight, "/weights/1").await.unwrap();
    rollouts
}

#[test]
fn programs_that_are_kept_end_on_the_new_weights_and_their_records_say_which_did_what() {
    let _watchdog = Watchdog::start("weights for a harness", BOUND);
    let rig = Rig::start("");
    let (played, stale, _) = with_runtime(async {
        let rollouts = announced_amid_generations(&rig, None).await;
        wait_until("the weights are loaded", BOUND, || rig.upstream.told().len() == LOADING.len());
        rig.upstream.let_go(3);
        rest(rollouts).await
    });
    assert_eq!(rig.upstream.told(), LOADING);
    assert_eq!((played.len(), stale), (3, 0), "one version behind is what the job allows");
    played.iter().for_each(ended_on_new_weights);
}

#[test]
fn generations_that_are_resumed_go_on_from_their_tokens_on_the_new_weights() {
    let _watchdog = Watchdog::start("resumed harnesses", BOUND);
    let rig = Rig::start("");
    let (played, stale, _) = with_runtime(async {
        rest(announced_amid_generations(&rig, Some(wire::InFlight::Resume)).await).await
    });
    let told = rig.upstream.told();
    assert_eq!(
        (told[0].as_str(), &told[1..]),
        ("/pause?mode=abort", &LOADING.map(Into::into)[1..])
    );
    assert_eq!((played.len(), stale), (3, 0));
    played.iter().for_each(ended_on_new_weights);
}

/// Its second generation was under way when they came.
fn ended_on_new_weights(it: &wire::Trajectory) {
    assert_eq!(end(it), ("completed", "terminated"), "{}", message(it));
    assert_eq!(versions(it), [vec![0], vec![0, 1], vec![1]]);
    assert_eq!(began_and_ended_on(it), (0, 1));
    let spans = &it.generations[1].policy_versions;
    assert_eq!(spans[0].tokens as usize, SAMPLED_BEFORE, "those that were sampled before");
    // Token by token, as trainers take them.
    let tokens = it.tokens.as_ref().unwrap();
    let trained: u32 = tokens.policy_versions.iter().map(|it| it.tokens).sum();
    assert_eq!(trained as usize, tokens.token_ids.len());
}

#[test]
fn programs_on_a_version_that_is_too_old_end_and_are_told_as_stale() {
    let _watchdog = Watchdog::start("stale harnesses", BOUND);
    let rig = Rig::start("");
    let (played, stale, account) = with_runtime(async {
        let client = rig.service.client();
        let job = bounded("bounded", "waits", 5, Some(0));
        let rollouts = client.submit(job, RolloutsOptions::default()).await.unwrap();
        let old = rig.processes("waits", 4);
        rollouts.wishes().announce(FIRST, None, "").await.unwrap();
        all_are_gone(&old);
        // The fifth had no place before, and begins on the new version.
        rig.processes("waits", 5);
        fs::write(rig.shared.path().join("go"), "").unwrap();
        rest(rollouts).await
    });
    assert_eq!((played.len(), stale), (1, 4), "{account:?}");
    assert_eq!((account.requested, account.stale, account.completed), (5, 4, 1));
    assert_eq!(versions(&played[0]), [[1], [1]]);
    assert_eq!(began_and_ended_on(&played[0]), (1, 1));
    assert_eq!(rig.upstream.told(), ["/update_weight_version 1"], "it has the weights already");
}

#[test]
fn programs_that_are_drained_end_on_the_old_weights_and_others_begin_on_the_new() {
    let _watchdog = Watchdog::start("a drained harness", BOUND);
    let rig = Rig::start("");
    let (mut played, stale, _) = with_runtime(async {
        let client = rig.service.client();
        let job = bounded("drained", "waits", 6, None);
        let rollouts = client.submit(job, RolloutsOptions::default()).await.unwrap();
        rig.processes("waits", 4);
        let drain = Some(wire::InFlight::Drain);
        rollouts.wishes().announce(FIRST, drain, "/weights/1").await.unwrap();
        assert!(rig.upstream.told().is_empty(), "somebody plays with the old ones");
        fs::write(rig.shared.path().join("go"), "").unwrap();
        rest(rollouts).await
    });
    assert_eq!(rig.upstream.told(), LOADING);
    assert_eq!((played.len(), stale), (6, 0));
    played.sort_by_key(|it| it.group_id);
    for (index, it) in played.iter().enumerate() {
        assert_eq!(end(it), ("completed", "terminated"), "{}", message(it));
        let version = u64::from(index >= 4);
        assert_eq!(versions(it), [[version], [version]], "{index}");
        assert_eq!(began_and_ended_on(it), (version, version), "{index}");
    }
}
