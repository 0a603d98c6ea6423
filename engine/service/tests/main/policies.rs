//! Trainers that are the policy.

use std::time::Duration;

use bytes::Bytes;
use envmill_client::{Error, Turns};
use envmill_protocol::{
    Decision, EpisodeIndex, EpisodeStart, GeneratedKind, Generation, JobId, Observed,
    PolicyVersion, Slot, Turn,
};
use envmill_service::{Desk, JobPolicy};
use envmill_wire::{self as wire, step_batch_response::Response};

use crate::rig::{Rig, Trainer, episodes, wait_for};

fn turn(slot: u32) -> Turn {
    Turn {
        slot: Slot(slot),
        generation: Generation(3),
        job: JobId(0),
        episode: EpisodeIndex(slot.into()),
        seed: 1,
        step: 2,
        environment: 0,
        observed: Observed::default(),
        start: None,
    }
}

fn first_turn(slot: u32, task: &str) -> Turn {
    let start = EpisodeStart {
        task_id: task.into(),
        reset_parameters: Bytes::from_static(br#"{"seed":4,"level":2}"#),
    };
    Turn { step: 0, start: Some(start.into()), ..turn(slot) }
}

async fn start(rig: &Rig) -> (Trainer, Desk) {
    let policy = Some(wire::policy::Policy::Trainer(wire::TrainerPolicy {}));
    let job = wire::SubmitJob { policy: Some(wire::Policy { policy }), ..episodes(8) };
    let trainer = rig.submit(job).await;
    let JobPolicy::Trainer(desk) = rig.puppet.job().await.policy else { panic!() };
    (trainer, desk)
}

async fn open(rig: &Rig, job_id: String, min_batch: u32) -> Turns {
    let open = wire::OpenStepBatch { job_id, min_batch, max_batch: 0, max_wait_us: 0 };
    let mut turns = rig.client().step_batch(open, Duration::ZERO).await.unwrap();
    assert!(matches!(turns.next().await.unwrap(), Some(Response::VersionCurrent(_))));
    turns
}

async fn shown(turns: &mut Turns) -> Vec<wire::Turn> {
    match turns.next().await.unwrap() {
        Some(Response::Turns(turns)) => turns.turns,
        other => panic!("{other:?}"),
    }
}

fn action(turn: &wire::Turn) -> wire::Action {
    let action = Bytes::from_static(b"{\"action\":1}");
    wire::Action { turn: turn.turn, action, ..wire::Action::default() }
}

async fn decided(desk: &Desk, count: usize) -> Vec<Decision> {
    let mut decisions = Vec::new();
    wait_for(|| {
        desk.decisions(&mut decisions);
        (decisions.len() >= count).then_some(())
    })
    .await;
    decisions
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_are_shown_in_batches_and_answered() {
    let rig = Rig::new().await;
    let (trainer, desk) = start(&rig).await;
    let mut turns = open(&rig, trainer.id(), 4).await;
    desk.submit((0..4).map(turn));
    let batch = shown(&mut turns).await;
    assert_eq!(batch.iter().map(|it| it.episode).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let mut actions: Vec<_> = batch.iter().map(action).collect();
    actions[1].version = Some(wire::Version { lineage: 0, step: 5 });
    actions[2].generations = vec![
        wire::Generated {
            token_ids: vec![7, 8],
            logprobs: vec![-0.5, -1.0],
            kind: "discarded".into(),
            ..wire::Generated::default()
        },
        wire::Generated {
            prompt_token_ids: vec![1],
            parent: Some(0),
            ..wire::Generated::default()
        },
    ];
    actions[3].error = "no idea".into();
    turns.answers().answer(actions).await.unwrap();
    let decisions = decided(&desk, 4).await;
    let of = |slot: u32| decisions.iter().find(|it| it.slot == Slot(slot)).unwrap();
    assert_eq!(of(0).action.as_deref(), Ok(&b"{\"action\":1}"[..]));
    assert_eq!(of(0).generations[0].policy_versions[0].version, PolicyVersion(0));
    assert!(of(0).generations.len() == 1 && !of(0).generations[0].is_known());
    assert_eq!(of(1).generations[0].policy_versions[0].version, PolicyVersion(5));
    let [thrown_away, nothing] = &of(2).generations[..] else { panic!("{:?}", of(2)) };
    assert_eq!(thrown_away.loss_mask, [1, 1]);
    assert_eq!(thrown_away.kind, GeneratedKind::Discarded);
    assert!(nothing.is_known() && nothing.token_ids.is_empty(), "nothing was sampled");
    assert_eq!(nothing.parent, Some(0));
    assert_eq!(of(3).action.as_ref().unwrap_err().message, "no idea");
    // Fewer than four go after a moment.
    desk.submit([turn(4)]);
    assert_eq!(shown(&mut turns).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_stream_gets_what_the_old_one_has_not_answered() {
    let rig = Rig::new().await;
    let (trainer, desk) = start(&rig).await;
    let mut first = open(&rig, trainer.id(), 1).await;
    desk.submit([turn(0), turn(1)]);
    let batch = shown(&mut first).await;
    first.answers().answer(vec![action(&batch[0])]).await.unwrap();
    decided(&desk, 1).await;
    let mut second = open(&rig, trainer.id(), 1).await;
    let again = shown(&mut second).await;
    assert_eq!(again.iter().map(|it| it.episode).collect::<Vec<_>>(), [batch[1].episode]);
    assert!(matches!(first.next().await, Err(Error::Refused { .. })));
    // An answer of the old one counts for nothing, nor does a second one.
    let _ = first.answers().answer(vec![action(&batch[1])]).await;
    second.answers().answer(vec![action(&again[0]), action(&again[0])]).await.unwrap();
    assert_eq!(decided(&desk, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_told_once_what_an_episode_was_begun_with() {
    let rig = Rig::new().await;
    let policy = Some(wire::policy::Policy::Trainer(wire::TrainerPolicy {}));
    let rules = wire::GroupRules { samples: 2, ..wire::GroupRules::default() };
    let trainer = rig
        .submit(wire::SubmitJob {
            policy: Some(wire::Policy { policy }),
            group_rules: Some(rules),
            groups: 4,
            ..episodes(0)
        })
        .await;
    let JobPolicy::Trainer(desk) = rig.puppet.job().await.policy else { panic!() };
    let mut turns = open(&rig, trainer.id(), 2).await;
    let said = |turn: &wire::Turn| turn.start.as_ref().map(|it| it.task_id.clone());
    let next = async |turns: &mut Turns, given: Vec<Turn>| {
        desk.submit(given);
        shown(turns).await
    };
    let batch = next(&mut turns, vec![first_turn(2, "a"), first_turn(3, "b")]).await;
    let places: Vec<_> = batch.iter().map(|it| (it.group_id, it.sample_index)).collect();
    assert_eq!(places, [(1, 0), (1, 1)]);
    assert_eq!(batch.iter().map(said).collect::<Vec<_>>(), [Some("a".into()), Some("b".into())]);
    let parameters = &batch[0].start.as_ref().unwrap().reset_parameters;
    assert_eq!(parameters, &Bytes::from_static(br#"{"seed":4,"level":2}"#));
    turns.answers().answer(batch.iter().map(action).collect()).await.unwrap();
    decided(&desk, 2).await;
    // Later turns do not repeat it; another episode in the same place says its own.
    let batch = next(&mut turns, vec![turn(2), first_turn(3, "c")]).await;
    assert_eq!(batch.iter().map(said).collect::<Vec<_>>(), [None, Some("c".into())]);
    // Who comes in their midst is told as well.
    let mut second = open(&rig, trainer.id(), 2).await;
    let again = shown(&mut second).await;
    assert_eq!(again.iter().map(said).collect::<Vec<_>>(), [Some("a".into()), Some("c".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_that_do_not_wait_any_more_are_told() {
    let rig = Rig::new().await;
    let (trainer, desk) = start(&rig).await;
    let mut turns = open(&rig, trainer.id(), 1).await;
    desk.submit([turn(0), turn(1)]);
    let batch = shown(&mut turns).await;
    desk.cancel(&[(Slot(0), Generation(3)), (Slot(9), Generation(3))]);
    match turns.next().await.unwrap() {
        Some(Response::Cancelled(cancelled)) => assert_eq!(cancelled.turns, [batch[0].turn]),
        other => panic!("{other:?}"),
    }
    turns.answers().answer(batch.iter().map(action).collect()).await.unwrap();
    let decisions = decided(&desk, 1).await;
    assert_eq!(decisions.iter().map(|it| it.slot).collect::<Vec<_>>(), [Slot(1)]);
    let job = rig.puppet.job().await;
    rig.puppet.end(&job);
    assert!(turns.next().await.unwrap().is_none(), "the job is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_that_make_no_sense_end_the_stream_and_lose_no_turn() {
    let rig = Rig::new().await;
    let (trainer, desk) = start(&rig).await;
    let wrong = |change: fn(&mut wire::Action)| change;
    for (change, problem) in [
        (wrong(|it| it.action = Bytes::from_static(b"[1]")), "no JSON object"),
        (wrong(|it| it.action = Bytes::from_static(b"{\"a\":")), "no JSON"),
        (wrong(|it| it.action = Bytes::new()), "no JSON"),
        (
            wrong(|it| {
                it.generations = vec![wire::Generated {
                    token_ids: vec![1],
                    logprobs: vec![0.0, 0.0],
                    ..wire::Generated::default()
                }];
            }),
            "logprobs",
        ),
        (
            wrong(|it| {
                it.generations = vec![wire::Generated {
                    token_ids: vec![1],
                    policy_versions: vec![wire::VersionSpan { version: None, tokens: 2 }],
                    ..wire::Generated::default()
                }];
            }),
            "policy_versions",
        ),
        (
            wrong(|it| {
                it.generations = vec![wire::Generated {
                    token_ids: vec![1],
                    loss_mask: Bytes::from_static(b"1"),
                    ..wire::Generated::default()
                }];
            }),
            "loss_mask has a 49",
        ),
        (
            wrong(|it| {
                let odd = wire::Generated { kind: "dream".into(), ..wire::Generated::default() };
                it.generations = vec![wire::Generated::default(), odd];
            }),
            "generation 1: `dream` is no kind",
        ),
    ] {
        let mut turns = open(&rig, trainer.id(), 1).await;
        if problem == "no JSON object" {
            desk.submit([turn(0)]);
        }
        let batch = shown(&mut turns).await;
        let mut action = action(&batch[0]);
        change(&mut action);
        turns.answers().answer(vec![action]).await.unwrap();
        match turns.next().await {
            Err(Error::Refused { code: tonic::Code::InvalidArgument, message }) => {
                assert!(message.contains(problem), "{problem}: {message}");
            }
            other => panic!("{problem}: {other:?}"),
        }
    }
    let nobody = wire::OpenStepBatch { job_id: "x".into(), ..wire::OpenStepBatch::default() };
    assert!(matches!(
        rig.client().step_batch(nobody, Duration::ZERO).await,
        Err(Error::Refused { .. })
    ));
}
