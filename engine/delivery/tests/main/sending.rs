use bytes::Bytes;
use envmill_delivery::{
    AcknowledgeError, AttachError, ConsumerId, Content, JobKey, Kind, Options, Order, Output, Pace,
    RecordError, Terms, Version, VersionError,
};

use crate::rig::{JOB, Rig, TERMS, payload, trajectory};

#[test]
fn nothing_is_sent_before_it_is_on_disk() {
    let mut rig = Rig::new(TERMS);
    rig.attach(0, 1, 0);
    rig.credit(1, 10);
    rig.record(0, 0);
    assert!(rig.delivery.outputs().is_empty());
    let batch = rig.delivery.batch().unwrap();
    assert!(rig.delivery.outputs().is_empty());
    rig.disk.on_their_way.push_back(batch);
    let sent = rig.sent(1);
    assert_eq!(payload(&sent[0]), b"trajectory 0");
    assert_eq!((sent[0].number.0, sent[0].is_redelivered), (1, false));
}

#[test]
fn credit_bounds_what_is_sent() {
    let mut rig = Rig::new(TERMS);
    rig.attach(0, 1, 0);
    for id in 0..10 {
        rig.record(id, id);
    }
    assert!(rig.numbers(1).is_empty());
    rig.credit(1, 3);
    assert_eq!(rig.numbers(1), [1, 2, 3]);
    // Bytes are left for one more, however large.
    rig.delivery.credit(JOB, ConsumerId(1), 0, 0).unwrap();
    assert!(rig.numbers(1).is_empty());
    rig.credit(1, 100);
    assert_eq!(rig.numbers(1), [4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn bytes_of_credit_may_be_overdrawn_once() {
    let mut rig = Rig::new(TERMS);
    rig.attach(0, 1, 0);
    for id in 0..10 {
        rig.record(id, id);
    }
    rig.delivery.credit(JOB, ConsumerId(1), 100, 1).unwrap();
    assert_eq!(rig.numbers(1), [1]);
    // What was overdrawn comes off the next grant.
    rig.delivery.credit(JOB, ConsumerId(1), 0, 11).unwrap();
    assert!(rig.numbers(1).is_empty());
    rig.delivery.credit(JOB, ConsumerId(1), 0, 1).unwrap();
    assert_eq!(rig.numbers(1), [2]);
}

#[test]
fn what_was_not_acknowledged_comes_again() {
    let mut rig = Rig::new(TERMS);
    rig.attach(0, 1, 0);
    rig.credit(1, 10);
    for id in 0..6 {
        rig.record(id, id);
    }
    assert_eq!(rig.numbers(1).len(), 6);
    rig.acknowledge(2, 3, None);
    rig.settle();
    assert_eq!(rig.disk.kept(), [3]);
    rig.crash();
    rig.attach(0, 2, 0);
    rig.credit(2, 10);
    let sent = rig.sent(2);
    assert_eq!(sent.iter().map(|sent| sent.number.0).collect::<Vec<_>>(), [1, 4, 5, 6]);
    assert!(sent.iter().all(|sent| sent.is_redelivered));
    // One that remembers what it has gets only what comes after it.
    rig.attach(0, 3, 4);
    assert!(rig.told.is_empty());
    rig.credit(3, 10);
    assert_eq!(rig.numbers(3), [5, 6]);
    assert!(rig.has_told(&Output::Replaced(ConsumerId(2))));
}

#[test]
fn a_confirmation_waits_for_the_disk() {
    let mut rig = Rig::new(TERMS);
    rig.attach(0, 1, 0);
    rig.credit(1, 10);
    rig.record(0, 0);
    assert_eq!(rig.numbers(1), [1]);
    rig.acknowledge(1, 1, None);
    assert!(rig.delivery.outputs().is_empty());
    // Said twice before the first is on disk: neither is certain.
    rig.acknowledge(1, 1, None);
    assert!(rig.delivery.outputs().is_empty());
    rig.crash();
    rig.attach(0, 2, 0);
    rig.credit(2, 1);
    assert_eq!(rig.numbers(2), [1]);
}

#[test]
fn what_was_not_sent_cannot_be_acknowledged() {
    let mut rig = Rig::new(TERMS);
    rig.attach(0, 1, 0);
    rig.credit(1, 2);
    for id in 0..3 {
        rig.record(id, id);
    }
    // They have their numbers and wait for the disk.
    let early = AcknowledgeError::NotSent { range: 1..=1, last: 2 };
    assert_eq!(rig.delivery.acknowledge(JOB, &[1..=1], None), Err(early));
    assert_eq!(rig.numbers(1), [1, 2]);
    for range in [1..=3, 3..=3, 0..=u64::MAX] {
        let refused = rig.delivery.acknowledge(JOB, &[1..=1, range.clone()], None).unwrap_err();
        assert_eq!(refused, AcknowledgeError::NotSent { range, last: 2 });
    }
    // Nothing of it was taken.
    rig.attach(0, 2, 0);
    rig.credit(2, 9);
    assert_eq!(rig.numbers(2), [1, 2, 3]);
    assert_eq!(
        rig.delivery.attach(JOB, 0, ConsumerId(3), 4),
        Err(AttachError::Cursor { cursor: 4, last: 3 })
    );
    assert_eq!(
        rig.delivery.attach(JOB, 1, ConsumerId(3), 0),
        Err(AttachError::Rank { rank: 1, world: 1 })
    );
}

#[test]
fn an_id_is_recorded_once_for_ever() {
    let mut rig = Rig::new(TERMS);
    rig.attach(0, 1, 0);
    rig.credit(1, 10);
    rig.record(5, 5);
    let again = RecordError::AlreadyRecorded { kind: Kind::Trajectory, id: 5 };
    assert_eq!(rig.delivery.record(JOB, trajectory(5, 5, Version::default())), Err(again));
    assert_eq!(rig.numbers(1), [1]);
    rig.acknowledge(1, 1, None);
    rig.settle();
    rig.crash();
    assert_eq!(rig.delivery.kept(JOB), 0);
    assert_eq!(rig.delivery.record(JOB, trajectory(5, 5, Version::default())), Err(again));
    assert!(rig.delivery.has_recorded(JOB, Kind::Trajectory, 5));
    assert!(!rig.delivery.has_recorded(JOB, Kind::Group, 5));
}

#[test]
fn what_is_too_old_when_its_turn_comes_is_told_as_stale_and_stays_so() {
    let mut rig = Rig::new(Terms { staleness_max: Some(1), ..TERMS });
    rig.record(0, 0);
    rig.delivery.announce(JOB, Version { lineage: 0, step: 1 }).unwrap();
    rig.record(1, 1);
    rig.attach(0, 1, 0);
    rig.credit(1, 1);
    assert_eq!(payload(&rig.sent(1)[0]), b"trajectory 0");
    let now = Version { lineage: 0, step: 2 };
    rig.delivery.announce(JOB, now).unwrap();
    rig.credit(1, 5);
    let sent = rig.sent(1);
    assert_eq!((&sent[0].content, sent[0].judged_at), (&Content::Stale, now));
    // What was sent is not judged again.
    rig.delivery.announce(JOB, Version { lineage: 0, step: 9 }).unwrap();
    rig.crash();
    assert_eq!(rig.delivery.version(JOB), Some(now));
    rig.attach(0, 2, 0);
    rig.credit(2, 5);
    let sent = rig.sent(2);
    assert_eq!(payload(&sent[0]), b"trajectory 0");
    assert_eq!((&sent[1].content, sent[1].judged_at), (&Content::Stale, now));
    let back = Version { lineage: 0, step: 1 };
    assert_eq!(
        rig.delivery.announce(JOB, back),
        Err(VersionError::WentBack { announced: back, current: now })
    );
    rig.delivery.announce(JOB, Version { lineage: 1, step: 0 }).unwrap();
}

#[test]
fn groups_go_as_a_whole() {
    let mut rig = Rig::new(Terms { order: Order::ByGroup, ..TERMS });
    rig.attach(0, 1, 0);
    rig.credit(1, 100);
    rig.record(0, 0);
    rig.record(2, 1);
    rig.record(3, 1);
    assert!(rig.numbers(1).is_empty());
    rig.delivery.release(JOB, 1, true).unwrap();
    assert_eq!(rig.sent(1).iter().map(|sent| sent.id).collect::<Vec<_>>(), [2, 3]);
    rig.crash();
    rig.record(1, 0);
    // A group that nobody decided ends with its job, before its end.
    rig.end();
    rig.attach(0, 2, 2);
    rig.credit(2, 100);
    let sent = rig.sent(2);
    let ids: Vec<_> = sent.iter().map(|sent| (sent.kind, sent.id)).collect();
    assert_eq!(ids, [(Kind::Trajectory, 0), (Kind::Trajectory, 1), (Kind::End, 0)]);
    assert_eq!(
        rig.delivery.record(JOB, trajectory(9, 9, Version::default())),
        Err(RecordError::JobEnded)
    );
    rig.acknowledge(1, 5, None);
    assert!(rig.has_told(&Output::Settled(JOB)));
    rig.delivery.forget(JOB);
    rig.settle();
    assert!(rig.disk.is_empty());
}

#[test]
fn nothing_is_begun_while_much_waits_and_until_half_has_gone() {
    let mut rig = Rig::new(Terms { waiting_items_max: 4, ..TERMS });
    let pace = |pace| Output::Pace { job: JOB, pace };
    for id in 0..3 {
        rig.record(id, id);
    }
    assert!(!rig.has_told(&pace(Pace::BeginNothing)));
    rig.record(3, 3);
    assert!(rig.has_told(&pace(Pace::BeginNothing)));
    rig.attach(0, 1, 0);
    rig.credit(1, 2);
    assert!(!rig.has_told(&pace(Pace::GoOn)));
    rig.credit(1, 1);
    assert!(rig.has_told(&pace(Pace::GoOn)));
}

#[test]
fn a_group_that_is_not_decided_does_not_count_as_waiting() {
    let mut rig = Rig::new(Terms { order: Order::ByGroup, waiting_items_max: 2, ..TERMS });
    for id in 0..8 {
        rig.record(id, 0);
    }
    assert!(!rig.has_told(&Output::Pace { job: JOB, pace: Pace::BeginNothing }));
    rig.delivery.release(JOB, 0, true).unwrap();
    assert!(rig.has_told(&Output::Pace { job: JOB, pace: Pace::BeginNothing }));
}

#[test]
fn a_journal_that_fails_pauses_and_loses_nothing() {
    let mut rig = Rig::new(TERMS);
    rig.attach(0, 1, 0);
    rig.credit(1, 10);
    rig.record(0, 0);
    let batch = rig.delivery.batch().unwrap();
    rig.delivery.journal_fails();
    assert_eq!(rig.delivery.outputs(), [Output::Pace { job: JOB, pace: Pace::Stop }]);
    rig.record(1, 1);
    rig.disk.on_their_way.push_back(batch);
    assert_eq!(rig.numbers(1), [1, 2]);
    assert_eq!(rig.told, [Output::Pace { job: JOB, pace: Pace::GoOn }]);
}

#[test]
fn what_is_beyond_the_memory_is_read_from_the_journal() {
    let options = Options { memory_bytes_max: 60, ..Options::default() };
    let mut rig = Rig::with(TERMS, options);
    for id in 0..100 {
        rig.record(id, id);
        rig.settle();
        assert!(rig.delivery.resident_bytes() <= 60 + 14);
    }
    rig.attach(0, 1, 0);
    rig.credit(1, 50);
    let sent = rig.sent(1);
    for (id, sent) in sent.iter().enumerate() {
        assert_eq!(payload(sent), format!("trajectory {id}").as_bytes());
    }
    rig.attach(0, 2, 0);
    rig.credit(2, 200);
    assert_eq!(rig.numbers(2).len(), 100);
    assert_eq!(rig.delivery.resident_bytes(), 0);
}

#[test]
fn credit_does_not_fill_the_memory_for_a_slow_socket() {
    let options = Options { window_bytes: 40, ..Options::default() };
    let mut rig = Rig::with(TERMS, options);
    for id in 0..10 {
        rig.record(id, id);
    }
    rig.attach(0, 1, 0);
    rig.credit(1, 10);
    // Twelve bytes each: the one that reaches the window still goes.
    assert_eq!(rig.numbers(1), [1, 2, 3, 4]);
    rig.acknowledge(1, 2, None);
    assert_eq!(rig.numbers(1), [0; 0]);
    rig.delivery.taken(JOB, ConsumerId(1), 24).unwrap();
    assert_eq!(rig.numbers(1), [5, 6]);
    // Another socket begins anew.
    rig.attach(0, 2, 4);
    rig.credit(2, 10);
    assert_eq!(rig.numbers(2), [5, 6, 7, 8]);
}

#[test]
fn a_job_that_is_forgotten_leaves_nothing_in_memory() {
    let mut rig = Rig::new(TERMS);
    rig.record(0, 0);
    rig.settle();
    rig.record(1, 1);
    rig.delivery.forget(JOB);
    assert_eq!(rig.delivery.resident_bytes(), 0);
    rig.settle();
    assert!(rig.disk.is_empty());
}

#[test]
fn a_note_is_on_disk_with_what_was_recorded_beside_it() {
    let mut rig = Rig::new(TERMS);
    rig.record(0, 0);
    rig.delivery.note(JOB, "sampler", b"7"[..].into()).unwrap();
    rig.settle();
    rig.record(1, 1);
    rig.delivery.note(JOB, "sampler", b"8"[..].into()).unwrap();
    rig.crash();
    assert_eq!(rig.disk.jobs()[0].notes["sampler"], b"7"[..]);
    assert!(rig.delivery.has_recorded(JOB, Kind::Trajectory, 0));
    assert!(!rig.delivery.has_recorded(JOB, Kind::Trajectory, 1));
}

#[test]
fn what_is_read_for_a_stream_that_has_gone_is_not_kept() {
    let mut rig = Rig::new(TERMS);
    rig.record(0, 0);
    rig.settle();
    rig.crash();
    rig.attach(0, 1, 0);
    rig.credit(1, 1);
    let (Some(batch), load) = (rig.delivery.batch(), rig.delivery.outputs()) else { panic!() };
    assert_eq!(load, [Output::Load { job: JOB, sequence: 0 }]);
    rig.delivery.detach(ConsumerId(1));
    rig.delivery.loaded(JOB, 0, b"trajectory 0"[..].into());
    assert_eq!(rig.delivery.resident_bytes(), 0);
    rig.disk.on_their_way.push_back(batch);
    rig.attach(0, 2, 0);
    rig.credit(2, 1);
    assert_eq!(payload(&rig.sent(2)[0]), b"trajectory 0");
}

#[test]
fn a_job_is_settled_when_its_last_acknowledgement_is_on_disk() {
    let mut rig = Rig::new(TERMS);
    rig.attach(0, 1, 0);
    rig.credit(1, 1);
    rig.end();
    assert_eq!(rig.numbers(1), [1]);
    rig.acknowledge(1, 1, None);
    rig.look();
    assert!(!rig.told.contains(&Output::Settled(JOB)));
    assert!(rig.has_told(&Output::Settled(JOB)));
}

#[test]
fn a_journal_that_lags_pauses_every_job() {
    let options = Options { unwritten_bytes_max: 30, ..Options::default() };
    let mut rig = Rig::with(TERMS, options);
    let other = JobKey(2);
    rig.delivery.accept(other, TERMS, Bytes::new());
    for id in 0..3 {
        rig.record(id, id);
    }
    let pace = |job, pace| Output::Pace { job, pace };
    let mut told = rig.delivery.outputs();
    told.sort_by_key(|told| matches!(told, Output::Pace { job, .. } if *job == other));
    assert_eq!(told, [pace(JOB, Pace::Stop), pace(other, Pace::Stop)]);
    rig.settle();
    assert_eq!(rig.told, [pace(JOB, Pace::GoOn), pace(other, Pace::GoOn)]);
}
