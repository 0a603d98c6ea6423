//! A trainer that decides on every action.

use envmill_client::{
    Event, RolloutsOptions,
    wire::{self, step_batch_response::Response},
};
use envmill_testing::Watchdog;

use super::rig::{Service, with_runtime};
use crate::rig::BOUND;

fn job(name: &str, episodes: u64, in_flight: wire::InFlight) -> wire::SubmitJob {
    let policy = Some(wire::policy::Policy::Trainer(wire::TrainerPolicy {}));
    wire::SubmitJob {
        name: name.into(),
        environment: "cartpole".into(),
        episodes,
        policy: Some(wire::Policy { policy }),
        limits: Some(wire::Limits { max_steps: 6, sessions: 16, ..wire::Limits::default() }),
        in_flight: in_flight.into(),
        ..wire::SubmitJob::default()
    }
}

/// Plays a job whose trainer has a new version after every so many turns, and says on which it decided.
async fn play(service: &Service, job: wire::SubmitJob, every: u64) -> Vec<wire::Trajectory> {
    let client = service.client();
    let episodes = job.episodes;
    let mut rollouts = client.submit(job, RolloutsOptions::default()).await.unwrap();
    let open = wire::OpenStepBatch {
        job_id: rollouts.job_id().to_owned(),
        min_batch: 8,
        ..wire::OpenStepBatch::default()
    };
    let mut turns = client.step_batch(open, BOUND).await.unwrap();
    let answers = turns.answers();
    let wishes = rollouts.wishes();
    let deciding = tokio::spawn(async move {
        let (mut current, mut announced, mut count) = (0, 0, 0);
        while let Some(response) = turns.next().await.unwrap() {
            match response {
                Response::VersionCurrent(it) => current = it.version.unwrap().step,
                Response::Turns(batch) => {
                    count += batch.turns.len() as u64;
                    let actions = batch.turns.iter().map(|turn| {
                        let shown: serde_json::Value =
                            serde_json::from_slice(&turn.observation).unwrap();
                        assert!(shown.is_object(), "{shown}");
                        wire::Action {
                            turn: turn.turn,
                            action: format!("{{\"action\":{}}}", turn.step % 2).into(),
                            version: Some(wire::Version { lineage: 0, step: current }),
                            ..wire::Action::default()
                        }
                    });
                    answers.answer(actions.collect()).await.unwrap();
                    if count / every > announced {
                        announced = count / every;
                        let version = wire::Version { lineage: 0, step: announced };
                        // It is answered when it is on disk; turns go on meanwhile.
                        let wishes = wishes.clone();
                        tokio::spawn(async move { wishes.announce(version, None, "").await });
                    }
                }
                _ => {}
            }
        }
        announced
    });
    let mut trajectories = Vec::new();
    while (trajectories.len() as u64) < episodes {
        if let Event::Delivered(delivered) = rollouts.next().await.unwrap().unwrap() {
            rollouts.taken(delivered.bytes);
            if let wire::Record::Trajectory(trajectory) = delivered.record {
                trajectories.push(*trajectory);
            }
        }
    }
    assert!(deciding.await.unwrap() > 2, "there were several versions");
    trajectories
}

fn versions(trajectory: &wire::Trajectory) -> Vec<u64> {
    let spans = trajectory.generations.iter().flat_map(|it| &it.policy_versions);
    spans.map(|span| span.version.unwrap().step).collect()
}

#[test]
fn a_record_says_which_version_decided_on_each_turn() {
    let _watchdog = Watchdog::start("versions", BOUND);
    let service = Service::start("[environments.cartpole]\nenv = \"native:cartpole\"\n");
    let played = with_runtime(play(&service, job("keep", 80, wire::InFlight::Keep), 40));
    let mut mixed = 0;
    for trajectory in &played {
        let versions = versions(trajectory);
        assert_eq!(versions.len(), trajectory.steps.len(), "one for each turn");
        assert!(versions.is_sorted(), "{versions:?}");
        assert!(trajectory.generations.iter().all(|it| it.token_ids.is_empty()));
        mixed += u32::from(versions.first() != versions.last());
    }
    assert!(mixed > 0, "some were in flight when a version was announced");
    let played = with_runtime(play(&service, job("drain", 80, wire::InFlight::Drain), 40));
    for trajectory in &played {
        let versions = versions(trajectory);
        assert_eq!(
            versions.first(),
            versions.last(),
            "an episode is drained before the next version"
        );
        let timing = trajectory.timing.as_ref().unwrap();
        assert_eq!(timing.policy_version_started, timing.policy_version_ended);
        assert_eq!(timing.policy_version_started.unwrap().step, versions[0]);
    }
}
