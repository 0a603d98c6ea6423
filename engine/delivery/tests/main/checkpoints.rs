use envmill_delivery::{
    AcknowledgeError, CheckpointError, ConsumerId, Output, Retention, Terms, Version,
};

use crate::rig::{JOB, Rig, TERMS, trajectory};

const KEPT: Terms = Terms { retention: Retention::UntilDurable, ..TERMS };

/// Ten items, of which 1 to 3 were acknowledged under `a`, 4 and 5 under none, 6 under `b`.
fn trained() -> Rig {
    let mut rig = Rig::new(KEPT);
    rig.attach(0, 1, 0);
    rig.credit(1, 100);
    for id in 0..10 {
        rig.record(id, id);
    }
    assert_eq!(rig.numbers(1).len(), 10);
    rig.acknowledge(1, 3, Some("a"));
    rig.acknowledge(4, 5, None);
    rig.acknowledge(6, 6, Some("b"));
    rig.settle();
    rig
}

#[test]
fn what_was_sent_is_owed_until_it_is_acknowledged() {
    let mut rig = trained();
    let standing = |rig: &Rig| {
        let standing = rig.delivery.standing(JOB).unwrap();
        (standing.waiting_items, standing.unacknowledged_items)
    };
    assert_eq!(standing(&rig), (0, 4));
    rig.crash();
    // Whoever comes now gets the four again.
    assert_eq!(standing(&rig), (0, 4));
    rig.delivery.rewind(JOB, Some("a")).unwrap();
    assert_eq!(standing(&rig), (0, 7));
    rig.settle();
    assert_eq!(after(rig, 2), [4, 5, 6, 7, 8, 9, 10]);
    let mut rig = trained();
    rig.record(10, 10);
    rig.record(11, 11);
    assert_eq!(rig.numbers(1), [11, 12]);
    rig.delivery.detach(envmill_delivery::ConsumerId(1));
    rig.acknowledge(7, 12, Some("c"));
    assert_eq!(standing(&rig), (0, 0));
    rig.delivery.durable(JOB, "c").unwrap();
    assert_eq!(standing(&rig), (0, 0));
}

fn after(mut rig: Rig, consumer: u64) -> Vec<u64> {
    rig.attach(0, consumer, 0);
    rig.credit(consumer, 100);
    rig.numbers(consumer)
}

#[test]
fn a_trainer_goes_back_to_a_checkpoint() {
    let mut rig = trained();
    rig.crash();
    rig.delivery.rewind(JOB, Some("a")).unwrap();
    assert_eq!(after(rig, 2), [4, 5, 6, 7, 8, 9, 10]);

    let mut rig = trained();
    rig.delivery.rewind(JOB, Some("b")).unwrap();
    assert_eq!(after(rig, 2), [7, 8, 9, 10]);

    let mut rig = trained();
    rig.delivery.rewind(JOB, None).unwrap();
    rig.settle();
    rig.crash();
    assert_eq!(after(rig, 2), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn a_stream_that_stays_is_owed_again_too() {
    let mut rig = trained();
    rig.delivery.rewind(JOB, Some("a")).unwrap();
    let sent = rig.sent(1);
    assert_eq!(sent.iter().map(|sent| sent.number.0).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9, 10]);
    assert!(sent.iter().all(|sent| sent.is_redelivered));
}

#[test]
fn what_is_durable_is_gone() {
    let mut rig = trained();
    assert_eq!(rig.delivery.kept(JOB), 10);
    rig.delivery.durable(JOB, "a").unwrap();
    assert_eq!(rig.delivery.kept(JOB), 7);
    // Said again.
    rig.delivery.durable(JOB, "a").unwrap();
    rig.settle();
    rig.crash();
    assert_eq!(rig.delivery.rewind(JOB, None), Err(CheckpointError::Unknown(String::new())));
    rig.delivery.rewind(JOB, Some("a")).unwrap();
    // `b` is of a life that was given up.
    let unknown = CheckpointError::Unknown("b".into());
    assert_eq!(rig.delivery.durable(JOB, "b"), Err(unknown));
    assert_eq!(after(rig, 2), [4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn a_checkpoint_has_its_place() {
    let mut rig = trained();
    let mut acknowledge = |under| rig.delivery.acknowledge(JOB, &[7..=7], Some(under));
    let out_of_order =
        |name: &str| CheckpointError::OutOfOrder { name: name.into(), last: "b".into() };
    assert_eq!(acknowledge("a"), Err(AcknowledgeError::Checkpoint(out_of_order("a"))));
    // What is known may be said again.
    rig.delivery.acknowledge(JOB, &[1..=3], Some("a")).unwrap();
    rig.delivery.acknowledge(JOB, &[7..=7], Some("b")).unwrap();
    rig.delivery.durable(JOB, "b").unwrap();
    assert_eq!(rig.delivery.kept(JOB), 3);
    let again = rig.delivery.acknowledge(JOB, &[8..=8], Some("b"));
    assert_eq!(again, Err(AcknowledgeError::Checkpoint(out_of_order("b"))));
    assert_eq!(rig.delivery.kept(JOB), 3);
}

#[test]
fn the_end_is_settled_when_the_last_checkpoint_is_durable() {
    let mut rig = trained();
    rig.end();
    assert_eq!(rig.numbers(1), [11]);
    rig.acknowledge(7, 11, None);
    assert!(!rig.has_told(&Output::Settled(JOB)));
    rig.acknowledge(1, 0, Some("c"));
    rig.delivery.durable(JOB, "c").unwrap();
    assert!(rig.has_told(&Output::Settled(JOB)));
}

#[test]
fn without_retention_there_is_no_way_back() {
    let mut rig = Rig::new(TERMS);
    assert_eq!(rig.delivery.rewind(JOB, Some("a")), Err(CheckpointError::NotRetained));
    assert_eq!(rig.delivery.durable(JOB, "a"), Err(CheckpointError::NotRetained));
    let under = rig.delivery.acknowledge(JOB, &[], Some("a"));
    assert_eq!(under, Err(AcknowledgeError::Checkpoint(CheckpointError::NotRetained)));
}

#[test]
fn a_new_lineage_makes_what_waits_stale_and_leaves_what_was_sent() {
    let mut rig = trained();
    rig.delivery.detach(ConsumerId(1));
    rig.record(10, 10);
    rig.delivery.rewind(JOB, Some("b")).unwrap();
    let second = Version { lineage: 1, step: 0 };
    rig.delivery.announce(JOB, second).unwrap();
    rig.delivery.record(JOB, trajectory(11, 11, second)).unwrap();
    rig.attach(0, 2, 0);
    rig.credit(2, 100);
    let told: Vec<_> = rig
        .sent(2)
        .iter()
        .map(|sent| (sent.number.0, sent.content == envmill_delivery::Content::Stale))
        .collect();
    assert_eq!(told, [(7, false), (8, false), (9, false), (10, false), (11, true), (12, false)]);
}
