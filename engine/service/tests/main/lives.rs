//! The engine ends and begins again.

use envmill_client::Event;
use envmill_core::recorded_member;
use envmill_protocol::{EpisodeIndex, PolicyVersion, record::GroupRecord};
use envmill_service::{Opened, Order, Played, ServiceOptions};
use envmill_wire as wire;

use crate::rig::{Rig, episodes, group_record, groups, id_of, trajectory};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_where_it_was_and_its_trainer_notices_little() {
    let rig = Rig::new().await;
    let mut trainer = rig.submit(episodes(6)).await;
    let job = rig.puppet.job().await;
    rig.puppet.finish(&job, [0, 1, 2]);
    assert_eq!(trainer.take_numbers(3).await, [1, 2, 3]);
    trainer.acknowledge(1, 2).await;
    let rig = rig.again().await;
    let job = rig.puppet.job().await;
    let recorded: Vec<_> = job.options.recorded.iter().collect();
    assert_eq!(recorded, [0, 1, 2].map(EpisodeIndex), "they are not played again");
    rig.puppet.finish(&job, [5, 4, 3]);
    rig.puppet.end(&job);
    // The third was received and not acknowledged: it came again, and the client has dropped it.
    let taken = trainer.take(4).await;
    assert_eq!(taken.iter().map(|it| it.number).collect::<Vec<_>>(), [4, 5, 6, 7]);
    let wire::Record::End(end) = &taken[3].record else { panic!() };
    assert_eq!((end.requested, end.completed), (6, 6), "counts of both lives");
    trainer.acknowledge(3, 7).await;
    trainer.wait_for(|event| matches!(event, Event::Settled).then_some(())).await;
    assert_eq!(rig.client().status().await.unwrap().incarnation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_group_is_gone_on_with() {
    let rig = Rig::new().await;
    let trainer = rig.submit(groups(3, wire::Order::ByGroup)).await;
    let job = rig.puppet.job().await;
    rig.puppet.finish_group(&job, 0);
    rig.puppet.finish(&job, [3]);
    // It is in the journal when the group before it was delivered.
    let mut trainer = trainer;
    trainer.take(3).await;
    let rig = rig.again().await;
    let job = rig.puppet.job().await;
    let open = &job.options.recorded_groups.open;
    assert_eq!(open.keys().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(open[&1][0].reward, Some(3.0));
    rig.puppet.finish(&job, [2]);
    rig.puppet.tell(Played::Groups(vec![group_record(&job, 1)]));
    let taken = trainer.take(3).await;
    assert!(taken.iter().all(|it| it.group_id == 1), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_have_the_attempts_of_earlier_lives() {
    let rig = Rig::new().await;
    let mut trainer = rig.submit(groups(1, wire::Order::AsFinished)).await;
    let job = rig.puppet.job().await;
    rig.puppet.tell(Played::Begun(job.key, vec![0, 1, 1]));
    let rig = rig.again().await;
    let job = rig.puppet.job().await;
    rig.puppet.tell(Played::Begun(job.key, vec![0, 1]));
    rig.puppet.finish(&job, [0]);
    let rig = rig.again().await;
    let job = rig.puppet.job().await;
    rig.puppet.finish(&job, [1]);
    let member = |index| recorded_member(&trajectory(&job, index, PolicyVersion(0)));
    let members = [0, 1].map(member).into();
    rig.puppet.tell(Played::Groups(vec![GroupRecord { members, ..group_record(&job, 0) }]));
    let taken = trainer.take(3).await;
    for (delivered, attempts) in taken.iter().zip([1, 3]) {
        let wire::Record::Trajectory(it) = &delivered.record else { panic!("{delivered:?}") };
        let causes: Vec<_> = it.attempts.iter().map(|it| it.cause.as_str()).collect();
        assert_eq!(causes, vec!["interrupted"; attempts], "{}", it.trajectory_id);
    }
    let wire::Record::Group(group) = &taken[2].record else { panic!("{taken:?}") };
    let attempts: Vec<_> = group.members.iter().map(|it| it.attempts.len()).collect();
    assert_eq!(attempts, [1, 3]);
    assert!(group.members[1].attempts.iter().all(|it| it.cause == "interrupted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_outlive_the_engine() {
    let rig = Rig::new().await;
    let mut trainer = rig.submit(episodes(6)).await;
    rig.puppet.job().await;
    trainer.rollouts.wishes().pause().await.unwrap();
    trainer
        .rollouts
        .wishes()
        .announce(wire::Version { lineage: 1, step: 3 }, None, "")
        .await
        .unwrap();
    let rig = rig.again().await;
    rig.puppet.told(Order::Pause).await;
    let job = rig.puppet.job().await;
    assert_eq!((job.version.lineage(), job.version.step()), (1, 3));
    trainer.rollouts.wishes().cancel().await.unwrap();
    let rig = rig.again().await;
    rig.puppet.told(Order::Cancel).await;
    let job = rig.puppet.job().await;
    rig.puppet.end(&job);
    assert_eq!(id_of(&trainer.next().await), "end");
    // A job that has ended is not played, and is owed all the same.
    let rig = rig.again().await;
    let mut trainer = rig.attach(&trainer.id(), 0, 0).await;
    assert_eq!(id_of(&trainer.next().await), "end");
    assert!(rig.puppet.jobs(0).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_do_not_share_a_store() {
    let rig = Rig::new().await;
    let options = ServiceOptions::new(rig.directory.path().join("store.redb"));
    let error = Opened::open(options).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
}

#[test]
fn a_store_of_a_newer_version_is_refused_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let open = || Opened::open(ServiceOptions::new(&path));
    drop(open().unwrap());
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");
    transaction.open_table(meta).unwrap().insert("schema", 99).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let told = open().unwrap_err().to_string();
    let expected = format!(
        "{}: the store has schema 99 and this version knows 1; use a newer version",
        path.display()
    );
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_can_be_gone_back_to() {
    let rig = Rig::new().await;
    let mut job = episodes(4);
    job.delivery = Some(wire::DeliveryTerms {
        retention: wire::Retention::UntilDurable.into(),
        ..wire::DeliveryTerms::default()
    });
    let mut trainer = rig.submit(job).await;
    let job = rig.puppet.job().await;
    rig.puppet.finish(&job, 0..3);
    trainer.take(3).await;
    let wishes = trainer.rollouts.wishes();
    wishes.acknowledge(&[1..=1], "a").await.unwrap();
    wishes.acknowledge(&[2..=3], "b").await.unwrap();
    wishes.durable("a".into()).await.unwrap();
    let rig = rig.again().await;
    trainer.rollouts.wishes().rewind("a".into()).await.unwrap();
    assert_eq!(trainer.take_numbers(2).await, [2, 3]);
    let wishes = trainer.rollouts.wishes();
    assert!(wishes.rewind(String::new()).await.is_err(), "what was durable is gone");
    drop(rig);
}
