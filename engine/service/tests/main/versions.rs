//! Policy versions and what is too old.

use envmill_client::Event;
use envmill_core::InFlight;
use envmill_protocol::PolicyVersion;
use envmill_service::{Order, Played, Weights};
use envmill_wire as wire;

use crate::rig::{Rig, episodes};

const fn step(step: u64) -> wire::Version {
    wire::Version { lineage: 0, step }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_is_told_and_not_delivered() {
    let rig = Rig::new().await;
    let mut job = episodes(4);
    let terms = wire::DeliveryTerms { staleness_max: Some(1), ..wire::DeliveryTerms::default() };
    job.delivery = Some(terms);
    let mut trainer = rig.submit(job).await;
    let job = rig.puppet.job().await;
    assert_eq!(job.options.staleness_max, Some(1), "the core does not play on what is too old");
    let wishes = trainer.rollouts.wishes();
    for version in 1..=2 {
        wishes.announce(step(version), None, "").await.unwrap();
        rig.puppet.told(Order::Version(PolicyVersion(version), InFlight::Keep)).await;
    }
    let records = [0, 1, 2].map(|index| crate::rig::trajectory(&job, index, PolicyVersion(index)));
    rig.puppet.tell(Played::Records(records.into()));
    let taken = trainer.take(3).await;
    assert!(matches!(taken[0].record, wire::Record::Stale(_)), "{:?}", taken[0]);
    assert_eq!(taken[0].judged_at, step(2));
    assert!(matches!(taken[1].record, wire::Record::Trajectory(_)));
    assert_eq!((taken[1].version, taken[2].version), (step(1), step(2)));
    let back = wishes.announce(step(1), None, "").await.unwrap_err();
    assert!(back.to_string().contains("new lineage"), "{back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_version_is_current_when_the_player_says_so() {
    let rig = Rig::new().await;
    let mut job = episodes(4);
    let terms = wire::DeliveryTerms { staleness_max: Some(0), ..wire::DeliveryTerms::default() };
    job.delivery = Some(terms);
    job.in_flight = wire::InFlight::Drain.into();
    let mut trainer = rig.submit(job).await;
    let job = rig.puppet.job().await;
    trainer.rollouts.wishes().announce(step(1), None, "").await.unwrap();
    rig.puppet.told(Order::Version(PolicyVersion(1), InFlight::Drain)).await;
    // It was in flight, and is not too old for that.
    rig.puppet.finish(&job, [0]);
    assert!(matches!(trainer.next().await.record, wire::Record::Trajectory(_)));
    rig.puppet.tell(Played::VersionCurrent(job.key, PolicyVersion(1)));
    let current = trainer
        .wait_for(|event| match event {
            Event::VersionCurrent(version) => Some(*version),
            _ => None,
        })
        .await;
    assert_eq!(current, step(1));
    let record = crate::rig::trajectory(&job, 1, PolicyVersion(0));
    rig.puppet.tell(Played::Records(vec![record]));
    assert!(matches!(trainer.next().await.record, wire::Record::Stale(_)));
}

/// Weights of step 1 or later, for a language model.
fn weights(at: u64, in_flight: InFlight) -> Order {
    Order::Weights(Weights {
        version: PolicyVersion(at),
        folder: Some(format!("/weights/{at}").into()),
        in_flight,
        abort: false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_gets_its_weights_with_the_job_and_with_each_version() {
    let rig = Rig::new().await;
    let policy = wire::policy::Policy::Model(wire::ModelPolicy {});
    let job = wire::SubmitJob {
        policy: Some(wire::Policy { policy: Some(policy) }),
        version: Some(step(3)),
        weights: "/weights/3".into(),
        ..episodes(4)
    };
    let trainer = rig.submit(job).await;
    let job = rig.puppet.job().await;
    assert_eq!(rig.puppet.early(), [weights(3, InFlight::Keep)], "before it begins");
    let wishes = trainer.rollouts.wishes();
    let drain = Some(wire::InFlight::Drain);
    wishes.announce(step(4), drain, "/weights/4").await.unwrap();
    rig.puppet.told(weights(4, InFlight::Drain)).await;
    rig.puppet.tell(Played::VersionCurrent(job.key, PolicyVersion(4)));
    // The one that is current waits for nobody.
    wishes.announce(step(4), drain, "/weights/4").await.unwrap();
    rig.puppet.told(weights(4, InFlight::Keep)).await;
    rig.puppet.finish(&job, 0..4);
    rig.puppet.end(&job);
    wishes.announce(step(5), None, "/weights/5").await.unwrap();
    rig.puppet.told(weights(5, InFlight::Keep)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_an_older_lineage_is_stale() {
    let rig = Rig::new().await;
    let mut trainer = rig.submit(episodes(4)).await;
    let job = rig.puppet.job().await;
    let new = wire::Version { lineage: 1, step: 0 };
    trainer.rollouts.wishes().announce(new, None, "").await.unwrap();
    let old = PolicyVersion::new(0, 9).unwrap();
    rig.puppet.tell(Played::Records(vec![crate::rig::trajectory(&job, 0, old)]));
    let stale = trainer.next().await;
    assert!(matches!(stale.record, wire::Record::Stale(_)), "{stale:?}");
    assert_eq!((stale.version, stale.judged_at), (step(9), new));
}
