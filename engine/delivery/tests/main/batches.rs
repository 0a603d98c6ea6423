use envmill_delivery::{BatchError, ConsumerId, Kind, Order, Output, Sent, Terms};

use crate::rig::{JOB, Rig, TERMS};

const TOGETHER: Terms = Terms { order: Order::Batches { world: 2 }, ..TERMS };

fn batch(consumer: u64, index: u64, items: u64, is_short: bool) -> Output {
    Output::Batch { consumer: ConsumerId(consumer), index, items, is_short }
}

fn groups(sent: &[Sent]) -> Vec<u64> {
    let mut groups: Vec<u64> = sent.iter().map(|sent| sent.group).collect();
    groups.dedup();
    groups
}

/// Two ranks, consumers 10 and 11, and five groups of two.
fn rig() -> Rig {
    let mut rig = Rig::new(TOGETHER);
    rig.attach(0, 10, 0);
    rig.attach(1, 11, 0);
    for group in 0..5 {
        rig.group(group, 2, true);
    }
    rig
}

fn want(rig: &mut Rig, consumer: u64, index: u64, groups: u64) -> Result<(), BatchError> {
    rig.delivery.want(JOB, ConsumerId(consumer), index, groups)
}

#[test]
fn all_ranks_get_a_batch_or_none_does() {
    let mut rig = rig();
    want(&mut rig, 10, 0, 4).unwrap();
    assert_eq!(rig.sent(10), []);
    want(&mut rig, 11, 0, 4).unwrap();
    assert_eq!(groups(&rig.sent(10)), [0, 1]);
    assert_eq!(groups(&rig.sent(11)), [2, 3]);
    assert!(rig.told.contains(&batch(10, 0, 6, false)));
    assert!(rig.told.contains(&batch(11, 0, 6, false)));
    // Three groups more are needed for the next one.
    want(&mut rig, 11, 1, 4).unwrap();
    want(&mut rig, 10, 1, 4).unwrap();
    rig.group(5, 2, true);
    rig.group(6, 2, false);
    rig.group(7, 2, true);
    assert_eq!(rig.sent(11), []);
    rig.group(8, 2, true);
    assert_eq!(groups(&rig.sent(11)), [7, 8]);
    // What is in no batch goes to rank 0.
    let mut first = groups(&rig.sent(10));
    first.sort_unstable();
    assert_eq!(first, [4, 5, 6]);
}

#[test]
fn a_rank_that_was_lost_gets_its_share_again() {
    let mut rig = rig();
    want(&mut rig, 10, 0, 4).unwrap();
    want(&mut rig, 11, 0, 4).unwrap();
    let share = rig.sent(11);
    rig.acknowledge(share[0].number.0, share[0].number.0, None);
    rig.settle();
    rig.crash();
    rig.attach(1, 12, 0);
    assert_eq!(rig.sent(12), []);
    want(&mut rig, 12, 0, 4).unwrap();
    let again = rig.sent(12);
    assert_eq!(again.len(), 5);
    assert!(rig.told.contains(&batch(12, 0, 5, false)));
    assert!(again.iter().zip(&share[1..]).all(|(again, before)| again.number == before.number
        && again.content == before.content
        && again.is_redelivered));
}

#[test]
fn a_share_that_is_released_goes_to_later_batches() {
    let mut rig = rig();
    want(&mut rig, 10, 0, 4).unwrap();
    want(&mut rig, 11, 0, 4).unwrap();
    rig.sent(10);
    let lost = rig.sent(11);
    rig.delivery.detach(ConsumerId(11));
    let no_share = BatchError::NoShare { index: 1, rank: 1 };
    assert_eq!(rig.delivery.release_share(JOB, 1, 1), Err(no_share));
    rig.delivery.release_share(JOB, 0, 1).unwrap();
    rig.settle();
    rig.crash();
    rig.attach(0, 20, 0);
    rig.attach(1, 21, 0);
    want(&mut rig, 20, 1, 2).unwrap();
    want(&mut rig, 21, 1, 2).unwrap();
    let (first, second) = (rig.sent(20), rig.sent(21));
    assert_eq!((groups(&first), groups(&second)), (vec![2], vec![3]));
    assert!(
        first
            .iter()
            .chain(&second)
            .zip(&lost)
            .all(|(again, before)| { again.number == before.number && again.is_redelivered })
    );
}

#[test]
fn what_is_acknowledged_after_its_release_goes_to_nobody() {
    let mut rig = rig();
    want(&mut rig, 10, 0, 4).unwrap();
    want(&mut rig, 11, 0, 4).unwrap();
    let lost = rig.sent(11);
    rig.delivery.release_share(JOB, 0, 1).unwrap();
    rig.acknowledge(lost[0].number.0, lost[2].number.0, None);
    rig.acknowledge(lost[3].number.0, lost[3].number.0, None);
    rig.sent(10);
    want(&mut rig, 10, 1, 2).unwrap();
    want(&mut rig, 11, 1, 2).unwrap();
    let numbers: Vec<_> = rig.sent(10).iter().map(|sent| sent.number).collect();
    assert_eq!(numbers, [lost[4].number, lost[5].number]);
    assert_eq!(groups(&rig.sent(11)), [4]);
}

#[test]
fn what_is_released_before_it_was_sent_is_not_sent() {
    let mut rig = rig();
    want(&mut rig, 10, 0, 4).unwrap();
    want(&mut rig, 11, 0, 4).unwrap();
    rig.delivery.release_share(JOB, 0, 1).unwrap();
    assert_eq!(rig.sent(11), []);
    assert_eq!(groups(&rig.sent(10)), [0, 1]);
}

#[test]
fn nobody_is_told_that_it_ended_while_groups_are_to_come() {
    let mut rig = Rig::new(TOGETHER);
    rig.attach(0, 10, 0);
    rig.attach(1, 11, 0);
    want(&mut rig, 10, 0, 2).unwrap();
    want(&mut rig, 11, 0, 2).unwrap();
    rig.group(0, 2, true);
    rig.settle();
    assert!(rig.told.is_empty());
}

#[test]
fn the_last_batch_is_as_large_as_what_is_left() {
    let mut rig = rig();
    want(&mut rig, 10, 0, 4).unwrap();
    want(&mut rig, 11, 0, 4).unwrap();
    want(&mut rig, 10, 1, 4).unwrap();
    want(&mut rig, 11, 1, 4).unwrap();
    rig.settle();
    assert!(!rig.told.iter().any(|told| matches!(told, Output::Batch { index: 1, .. })));
    rig.end();
    rig.settle();
    assert!(rig.told.contains(&batch(10, 1, 3, true)));
    assert!(rig.told.contains(&batch(11, 1, 0, true)));
    let first = rig.sent(10);
    assert_eq!(first.last().unwrap().kind, Kind::End);
    // There is none after it, for whoever asks.
    want(&mut rig, 11, 2, 4).unwrap();
    assert!(rig.has_told(&Output::NoMoreBatches(ConsumerId(11))));
    assert_eq!(rig.delivery.release_share(JOB, 1, 0), Err(BatchError::Ended));
    rig.acknowledge(1, 16, None);
    assert!(rig.has_told(&Output::Settled(JOB)));
}

#[test]
fn wishes_that_make_no_batch_are_refused() {
    let mut rig = rig();
    assert_eq!(want(&mut rig, 9, 0, 4), Err(BatchError::NotAttached));
    assert_eq!(want(&mut rig, 10, 1, 4), Err(BatchError::Skipped { index: 1, next: 0 }));
    for groups in [0, 3] {
        let refused = BatchError::Indivisible { groups, world: 2 };
        assert_eq!(want(&mut rig, 10, 0, groups), Err(refused));
    }
    want(&mut rig, 10, 0, 4).unwrap();
    assert_eq!(want(&mut rig, 11, 0, 2), Err(BatchError::Differs { groups: 2, others: 4 }));
    // Who asks again may change its mind while it is alone.
    want(&mut rig, 10, 0, 2).unwrap();
    want(&mut rig, 11, 0, 2).unwrap();
    assert_eq!(groups(&rig.sent(10)), [0]);
    let mut rig = Rig::new(TERMS);
    rig.attach(0, 1, 0);
    assert_eq!(want(&mut rig, 1, 0, 4), Err(BatchError::NotInBatches));
}
