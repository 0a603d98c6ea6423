//! Trajectories through shared memory: what comes, in which order, and what waits.

use std::time::Duration;

use envmill_client::{InPlace, RolloutsOptions};
use envmill_protocol::{Trajectory, VersionSpan, record::Tokens};
use envmill_service::Played;
use envmill_wire as wire;
use tokio::time::timeout;

use crate::rig::{Given, Rig, Trainer, episodes, groups, id_of, trajectory};

/// A record with so many tokens, which tell it from others.
pub(crate) fn with_tokens(job: &Given, index: u64, tokens: u32) -> Trajectory {
    let mut record = trajectory(job, index, job.version);
    record.tokens = Tokens {
        token_ids: (0..tokens).map(|token| token + index as u32 * 1000).collect(),
        prompt_len: 1,
        loss_mask: (0..tokens).map(|token| u8::from(token > 0)).collect(),
        logprobs: (0..tokens).map(|token| -(token as f32)).collect(),
        policy_versions: vec![VersionSpan { version: job.version, tokens }],
    };
    record
}

pub(crate) fn through(ring_bytes: u64) -> RolloutsOptions {
    RolloutsOptions { shared_memory: Some(ring_bytes), in_place: true, ..Default::default() }
}

fn check(in_place: &InPlace, index: u64, tokens: u32) {
    let ids = in_place.token_ids().unwrap();
    assert_eq!(ids.len(), tokens as usize);
    assert!(ids.iter().eq((0..tokens).map(|token| token + index as u32 * 1000)), "{index}");
    assert_eq!(in_place.logprobs().unwrap().get(1), Some(-1.0));
    assert_eq!(in_place.loss_mask().unwrap().to_vec()[..2], [0, 1]);
    assert!(in_place.step_rewards().is_none() && in_place.array::<u32>(LOGPROBS).is_none());
}

const LOGPROBS: wire::layout::ArrayKind = wire::layout::ArrayKind::Logprobs;

/// Nothing comes for a while.
async fn is_held_back(trainer: &mut Trainer) {
    let next = timeout(Duration::from_millis(200), trainer.next()).await;
    assert!(next.is_err(), "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_records_go_through_a_small_ring() {
    let rig = Rig::new().await;
    let mut trainer = rig.submit_with(episodes(1000), through(64 << 10)).await;
    let job = rig.puppet.job().await;
    rig.puppet.tell(Played::Records((0..1000).map(|it| with_tokens(&job, it, 300)).collect()));
    rig.puppet.end(&job);
    let (mut held, mut random) = (Vec::new(), 1_u64);
    for number in 1..=1000 {
        let delivered = trainer.next().await;
        assert_eq!((delivered.number, delivered.index), (number, number - 1));
        held.push((delivered.index, delivered.in_place.expect("it came through the ring")));
        while held.len() > 6 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // The ring has room for seventeen, counted from the oldest that is held.
            let too_old = held.iter().position(|(index, _)| index + 10 < number);
            let place = too_old.unwrap_or((random >> 33) as usize % held.len());
            let (index, in_place) = held.swap_remove(place);
            check(&in_place, index, 300);
        }
    }
    assert_eq!(id_of(&trainer.next().await), "end");
    trainer.acknowledge(1, 1001).await;
    for (index, in_place) in held {
        check(&in_place, index, 300);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_is_what_comes_without() {
    let rig = Rig::new().await;
    let options = RolloutsOptions { in_place: false, ..through(64 << 10) };
    let mut trainer = rig.submit_with(episodes(3), options).await;
    let job = rig.puppet.job().await;
    rig.puppet.tell(Played::Records((0..3).map(|it| with_tokens(&job, it, 50)).collect()));
    let copied = trainer.take(3).await;
    let mut trainer = rig.attach_with(&trainer.id(), 0, 0, through(64 << 10)).await;
    let mut in_place = trainer.take(3).await;
    assert!(in_place.iter().all(|it| it.in_place.is_some() && it.redelivered));
    for (rest, copied) in in_place.iter().zip(&copied) {
        assert_ne!(rest.record, copied.record, "arrays are left out");
        assert_eq!((rest.number, rest.bytes), (copied.number, copied.bytes));
    }
    let mut trainer = rig.attach(&trainer.id(), 0, 0).await;
    let streamed = trainer.take(3).await;
    for ((streamed, copied), in_place) in streamed.iter().zip(&copied).zip(&mut in_place) {
        assert_eq!(streamed.record, copied.record);
        in_place.copy_out().unwrap();
        assert_eq!(streamed.record, in_place.record);
        assert!(copied.in_place.is_none() && in_place.in_place.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_ring_holds_back_and_goes_on() {
    let rig = Rig::new().await;
    let mut trainer = rig.submit_with(episodes(20), through(16 << 10)).await;
    let job = rig.puppet.job().await;
    rig.puppet.tell(Played::Records((0..20).map(|it| with_tokens(&job, it, 300)).collect()));
    rig.puppet.end(&job);
    // Each takes some 3.5 KiB of 16.
    let mut held = trainer.take(4).await;
    is_held_back(&mut trainer).await;
    // What it waits for is still done.
    trainer.acknowledge(1, 2).await;
    held.remove(1);
    held.remove(1);
    is_held_back(&mut trainer).await;
    held.remove(0);
    for number in 5..=20 {
        let next = trainer.next().await;
        assert_eq!(next.number, number);
        check(next.in_place.as_ref().unwrap(), number - 1, 300);
        held.push(next);
        held.remove(0);
    }
    assert_eq!(id_of(&trainer.next().await), "end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_keeps_its_records_has_the_others_on_the_stream() {
    let rig = Rig::with(|it| it.ring_patience = Duration::from_millis(10)).await;
    let mut trainer = rig.submit_with(episodes(12), through(16 << 10)).await;
    let job = rig.puppet.job().await;
    rig.puppet.tell(Played::Records((0..10).map(|it| with_tokens(&job, it, 300)).collect()));
    let mut held = trainer.take(4).await;
    held.extend(trainer.take(6).await);
    let in_place = held.iter().map(|it| it.in_place.is_some());
    assert!(in_place.eq((0..10).map(|it| it < 4)));
    // All but the oldest: there is no room yet.
    held.truncate(1);
    rig.puppet.tell(Played::Records(vec![with_tokens(&job, 10, 300)]));
    assert_eq!((trainer.next().await.number, held.pop().unwrap().number), (11, 1));
    rig.puppet.tell(Played::Records(vec![with_tokens(&job, 11, 300)]));
    let last = trainer.next().await;
    check(last.in_place.as_ref().unwrap(), 11, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_that_is_held_back_does_not_hold_another() {
    let rig = Rig::new().await;
    let mut slow = rig.submit_with(episodes(9), through(16 << 10)).await;
    let job = rig.puppet.job().await;
    rig.puppet.tell(Played::Records((0..9).map(|it| with_tokens(&job, it, 300)).collect()));
    let held = slow.take(4).await;
    let other = wire::SubmitJob { name: "other".into(), ..episodes(9) };
    let mut quick = rig.submit_with(other, through(16 << 10)).await;
    let job = rig.puppet.jobs(2).await.pop().unwrap();
    rig.puppet.tell(Played::Records((0..9).map(|it| with_tokens(&job, it, 300)).collect()));
    for _ in 0..9 {
        assert!(quick.next().await.in_place.is_some());
    }
    is_held_back(&mut slow).await;
    drop(held);
    for number in 5..=9 {
        assert_eq!(slow.next().await.number, number);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_died_with_all_it_held_gets_it_again() {
    let rig = Rig::new().await;
    let mut trainer = rig.submit_with(episodes(10), through(16 << 10)).await;
    let job = rig.puppet.job().await;
    rig.puppet.tell(Played::Records((0..10).map(|it| with_tokens(&job, it, 300)).collect()));
    let held = trainer.take(4).await;
    let id = trainer.id();
    drop(trainer);
    let mut trainer = rig.attach_with(&id, 0, 0, through(16 << 10)).await;
    for number in 1..=10 {
        let next = trainer.next().await;
        assert_eq!(next.number, number);
        check(next.in_place.as_ref().unwrap(), number - 1, 300);
    }
    // The old ring is the old trainer's for as long as it looks at it.
    for delivered in held {
        check(delivered.in_place.as_ref().unwrap(), delivered.index, 300);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_a_ring_goes_on_the_stream_in_its_order() {
    let rig = Rig::new().await;
    let mut trainer = rig.submit_with(groups(2, wire::Order::ByGroup), through(16 << 10)).await;
    let job = rig.puppet.job().await;
    for group in 0..2 {
        let sizes = [(2 * group, 300), (2 * group + 1, 400_000)];
        let records = sizes.map(|(index, tokens)| with_tokens(&job, index, tokens));
        rig.puppet.tell(Played::Records(records.into()));
        rig.puppet.tell(Played::Groups(vec![crate::rig::group_record(&job, group)]));
    }
    let mut held = Vec::new();
    for number in 1..=6 {
        let next = trainer.next().await;
        assert_eq!(next.number, number);
        assert_eq!(next.in_place.is_some(), number % 3 == 1, "{number}");
        if number % 3 == 2 {
            let wire::Record::Trajectory(it) = &next.record else { panic!("{next:?}") };
            assert_eq!(it.tokens.as_ref().unwrap().token_ids.len(), 400_000);
        }
        held.push(next);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_while_it_is_held_does_not_come() {
    let rig = Rig::new().await;
    let mut trainer = rig.submit(episodes(30)).await;
    let job = rig.puppet.job().await;
    rig.puppet.tell(Played::Records((0..20).map(|it| with_tokens(&job, it, 300)).collect()));
    assert_eq!(trainer.take_numbers(20).await, (1..=20).collect::<Vec<_>>());
    let mut trainer = rig.attach_with(&trainer.id(), 0, 0, through(16 << 10)).await;
    let held = trainer.take(4).await;
    assert!(
        held.iter().all(|it| it.in_place.is_some()),
        "the ring is used from the first record on"
    );
    is_held_back(&mut trainer).await;
    trainer.acknowledge(1, 18).await;
    drop(held);
    assert_eq!(trainer.take_numbers(2).await, [19, 20]);
    rig.puppet.tell(Played::Records(vec![with_tokens(&job, 20, 300)]));
    assert_eq!(trainer.next().await.number, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_come_through_a_ring_as_a_whole() {
    let rig = Rig::new().await;
    let job = groups(8, wire::Order::Batches);
    let mut trainer = rig.submit_with(job, through(16 << 10)).await;
    let job = rig.puppet.job().await;
    let wishes = trainer.rollouts.wishes();
    wishes.next_batch(0, 8).await.unwrap();
    for group in 0..8 {
        let members = [2 * group, 2 * group + 1].map(|index| with_tokens(&job, index, 300));
        rig.puppet.tell(Played::Records(members.into()));
        rig.puppet.tell(Played::Groups(vec![crate::rig::group_record(&job, group)]));
    }
    let mut kinds = (0, 0);
    let mut numbers = Vec::new();
    for _ in 0..24 {
        let next = trainer.next().await;
        numbers.push(next.number);
        let through_the_ring = next.in_place.is_some();
        kinds = (kinds.0 + u32::from(through_the_ring), kinds.1 + u32::from(!through_the_ring));
    }
    assert_eq!(kinds, (16, 8), "groups' own records come on the stream");
    assert_eq!(numbers, (1..=24).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_comes_back_has_new_memory() {
    let rig = Rig::new().await;
    let mut trainer = rig.submit_with(episodes(6), through(16 << 10)).await;
    let job = rig.puppet.job().await;
    rig.puppet.tell(Played::Records((0..3).map(|it| with_tokens(&job, it, 300)).collect()));
    let held = trainer.take(3).await;
    let rig = rig.again().await;
    let job = rig.puppet.job().await;
    rig.puppet.tell(Played::Records((3..6).map(|it| with_tokens(&job, it, 300)).collect()));
    for number in 4..=6 {
        let next = trainer.next().await;
        assert_eq!(next.number, number);
        check(next.in_place.as_ref().unwrap(), number - 1, 300);
    }
    for delivered in held {
        check(delivered.in_place.as_ref().unwrap(), delivered.index, 300);
    }
}
