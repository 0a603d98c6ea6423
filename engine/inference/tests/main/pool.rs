//! A pool of replicas that fail in every way: every request is answered, no sample doubled.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use envmill_inference::{
    Control, Deliver, ErrorKind, Finish, Inference as _, Load, Outcome, PauseMode, Pool,
    PoolOptions, RequestId, Standing,
};
use envmill_protocol::PolicyVersion;
use tokio::time::{sleep, timeout};

use crate::puppet::{Fault, Handle, Puppet, request};

fn options() -> PoolOptions {
    PoolOptions {
        silence: Duration::from_secs(2),
        patience: Duration::from_secs(20),
        vocabulary: Some(10_000),
        ..PoolOptions::default()
    }
}

fn pool(options: PoolOptions, replicas: usize) -> (Pool, Vec<Arc<Puppet>>) {
    let pool = Pool::new(options, tokio::runtime::Handle::current());
    let puppets: Vec<_> = (0..replicas).map(|_| Puppet::new()).collect();
    for (index, puppet) in puppets.iter().enumerate() {
        pool.add(format!("r{index}"), Arc::new(Handle(Arc::clone(puppet))));
    }
    (pool, puppets)
}

/// What was sampled after a prompt of ten tokens, each once and in order.
fn is_whole(outcome: &Outcome, tokens: u32) {
    assert_eq!(outcome.token_ids, (10..10 + tokens).collect::<Vec<_>>());
    assert_eq!(outcome.logprobs.len(), tokens as usize);
    let covered: u32 = outcome.versions.iter().map(|it| it.tokens).sum();
    assert_eq!(covered, tokens);
}

const BOTH: [Deliver; 2] = [Deliver::Whole, Deliver::Streamed];

#[tokio::test(start_paused = true)]
async fn every_failure_is_survived_without_a_doubled_sample() {
    for deliver in BOTH {
        for fault in [
            Fault::LostAfter(0),
            Fault::LostAfter(7),
            Fault::LostAfter(19),
            Fault::LostAfter(20),
            Fault::Busy,
            Fault::Nonsense(3),
            Fault::SilentAfter(5),
            Fault::AbortedAfter(0),
            Fault::AbortedAfter(9),
        ] {
            let (pool, puppets) = pool(options(), 2);
            for puppet in &puppets {
                puppet.will(&[fault]);
            }
            let outcome = pool.generate(request(1, 20, deliver)).whole().await;
            let outcome = outcome.unwrap_or_else(|error| panic!("{fault:?}, {deliver:?}: {error}"));
            is_whole(&outcome, 20);
            assert_eq!(outcome.finish(), Some(&Finish::Length));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_generation_goes_on_elsewhere_from_its_tokens() {
    let (pool, puppets) = pool(options(), 2);
    puppets[0].will(&[Fault::LostAfter(7)]);
    puppets[1].version.store(3, Ordering::Relaxed);
    let outcome = pool.generate(request(1, 20, Deliver::Streamed)).whole().await.unwrap();
    is_whole(&outcome, 20);
    let asked = puppets[1].requests.lock().unwrap().clone();
    assert_eq!((asked[0].prompt.len(), asked[0].max_tokens), (17, 13));
    let spans: Vec<_> = outcome.versions.iter().map(|it| (it.version.0, it.tokens)).collect();
    assert_eq!(spans, [(0, 7), (3, 13)]);
    let status = pool.status();
    assert_eq!((status.retried, status.continued, status.sampled_tokens), (1, 1, 20));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_not_tried_again() {
    let (pool, puppets) = pool(options(), 2);
    puppets[0].will(&[Fault::Refused]);
    let error = pool.generate(request(1, 20, Deliver::Whole)).whole().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert_eq!((puppets[0].asked(), puppets[1].asked()), (1, 0));
    assert_eq!(pool.status().replicas[0].standing, Standing::Ready);
}

#[tokio::test(start_paused = true)]
async fn tries_are_counted() {
    let (pool, puppets) = pool(PoolOptions { attempts: 3, ..options() }, 1);
    puppets[0].will(&[Fault::LostAfter(2); 10]);
    let error = pool.generate(request(1, 20, Deliver::Whole)).whole().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Lost);
    assert_eq!(puppets[0].asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_out_once() {
    let patience = Duration::from_secs(300);
    let given = PoolOptions { patience, attempts: 1_000, ..options() };
    let (pool, puppets) = pool(given.clone(), 2);
    for puppet in &puppets {
        puppet.will(&[Fault::LostAfter(0); 1000]);
    }
    let began = tokio::time::Instant::now();
    let requests = (0..50).map(|id| pool.generate(request(id, 20, Deliver::Whole)));
    for generation in requests.collect::<Vec<_>>() {
        let error = generation.whole().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Busy);
        assert!(error.to_string().contains("no inference engine has answered for"), "{error}");
    }
    // The last wait of one that has just been tried in vain is the longest.
    let within = |bound: Duration| began.elapsed() <= bound + given.ejected_max * 2;
    assert!(within(patience), "{:?}", began.elapsed());
    assert!(pool.status().dark_for >= Some(patience));
    // Who comes later waits for one more trial.
    let late = pool.generate(request(100, 20, Deliver::Whole)).whole().await;
    assert_eq!(late.unwrap_err().kind, ErrorKind::Busy);
    assert!(within(patience + given.ejected_max), "{:?}", began.elapsed());
    // One that is back is found by the next trial, and all is as before.
    puppets[1].faults.lock().unwrap().clear();
    let outcome = pool.generate(request(101, 20, Deliver::Whole)).whole().await.unwrap();
    is_whole(&outcome, 20);
    assert_eq!(pool.status().dark_for, None);
}

#[tokio::test(start_paused = true)]
async fn many_requests_over_failing_replicas_are_all_answered() {
    let (pool, puppets) = pool(PoolOptions { attempts: 20, ..options() }, 3);
    let faults = [
        Fault::LostAfter(3),
        Fault::Busy,
        Fault::AbortedAfter(4),
        Fault::SilentAfter(1),
        Fault::Nonsense(2),
    ];
    for (index, puppet) in puppets.iter().enumerate() {
        let mut mine = faults.repeat(4);
        mine.rotate_left(index);
        puppet.will(&mine);
    }
    let asked: Vec<_> = (0..400)
        .map(|id| pool.generate(request(id, 1 + id as u32 % 30, BOTH[id as usize % 2])))
        .collect();
    for (id, generation) in asked.into_iter().enumerate() {
        let outcome = generation.whole().await.unwrap();
        is_whole(&outcome, 1 + id as u32 % 30);
    }
    let status = pool.status();
    assert!(status.replicas.iter().all(|it| it.in_flight == 0 && it.outstanding_tokens == 0));
    assert_eq!(status.waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_leaves_the_replica() {
    let (pool, puppets) = pool(options(), 1);
    let mut generation = pool.generate(request(1, 1000, Deliver::Streamed));
    generation.next().await.unwrap().unwrap();
    drop(generation);
    let waiting = pool.generate(request(2, 1000, Deliver::Streamed));
    drop(waiting);
    sleep(Duration::from_millis(50)).await;
    assert!(puppets[0].dropped.load(Ordering::Relaxed) >= 1);
    assert_eq!(pool.status().replicas[0].in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn an_abort_that_was_asked_for_is_the_end() {
    let (pool, _puppets) = pool(options(), 2);
    let mut generation = pool.generate(request(5, 1000, Deliver::Streamed));
    let mut outcome = Outcome::default();
    while let Some(chunk) = generation.next().await {
        if outcome.push(chunk.unwrap()).unwrap() {
            break;
        }
        if outcome.token_ids.len() == 5 {
            pool.abort(&[RequestId(5)]);
        }
    }
    assert_eq!(outcome.finish(), Some(&Finish::Aborted));
    let sampled = outcome.token_ids.len() as u32;
    assert!((5..10).contains(&sampled));
    is_whole(&outcome, sampled);
}

#[tokio::test(start_paused = true)]
async fn a_limit_makes_the_rest_wait_in_their_order() {
    let (pool, puppets) = pool(PoolOptions { in_flight_max: Some(2), ..options() }, 1);
    let asked: Vec<_> = (0..6).map(|id| pool.generate(request(id, 10, Deliver::Whole))).collect();
    sleep(Duration::from_millis(10)).await;
    assert_eq!((puppets[0].asked(), pool.status().waiting), (2, 4));
    for generation in asked {
        is_whole(&generation.whole().await.unwrap(), 10);
    }
    assert_eq!(puppets[0].asked(), 6);
}

#[tokio::test(start_paused = true)]
async fn replicas_come_and_go() {
    let (pool, puppets) = pool(options(), 1);
    let first = pool.generate(request(1, 50, Deliver::Streamed));
    sleep(Duration::from_millis(30)).await;
    let other = Puppet::new();
    pool.add("other", Arc::new(Handle(Arc::clone(&other))));
    assert!(pool.remove("r0"));
    let second = pool.generate(request(2, 5, Deliver::Whole));
    is_whole(&second.whole().await.unwrap(), 5);
    assert_eq!((puppets[0].asked(), other.asked()), (1, 1));
    is_whole(&first.whole().await.unwrap(), 50);
    assert_eq!(pool.status().replicas.len(), 1);
    assert!(pool.remove("other"));
    let nobody = pool.generate(request(3, 5, Deliver::Whole)).whole().await.unwrap_err();
    assert_eq!(nobody.kind, ErrorKind::Busy);
}

#[tokio::test(start_paused = true)]
async fn new_weights_reach_what_is_under_way() {
    for pause in [PauseMode::Keep, PauseMode::Abort] {
        let (pool, puppets) = pool(options(), 2);
        let asked: Vec<_> =
            (0..8).map(|id| pool.generate(request(id, 40, Deliver::Streamed))).collect();
        sleep(Duration::from_millis(100)).await;
        let update = pool.update(Some("weights".into()), PolicyVersion(1), pause);
        let held = pool.generate(request(99, 3, Deliver::Streamed));
        sleep(Duration::from_millis(50)).await;
        assert_eq!(pool.status().waiting, 1, "nothing is handed out from the call on");
        update.await.unwrap();
        let held = held.whole().await.unwrap();
        assert_eq!(held.versions.iter().map(|it| it.version.0).collect::<Vec<_>>(), [1]);
        for generation in asked {
            let outcome = generation.whole().await.unwrap();
            is_whole(&outcome, 40);
            assert_eq!(outcome.versions.iter().map(|it| it.version.0).collect::<Vec<_>>(), [0, 1]);
        }
        for puppet in puppets {
            let told = puppet.told.lock().unwrap().clone();
            assert_eq!(told.len(), 4, "{told:?}");
            assert_eq!(told[3], Control::Resume);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_whose_update_failed_gets_nothing_more() {
    let (pool, puppets) = pool(options(), 2);
    puppets[0].fails_updates.store(true, Ordering::Relaxed);
    let load = |started| Some(Load { started: Some(started), ..Load::default() });
    *puppets[0].load.lock().unwrap() = load(1);
    sleep(Duration::from_secs(2)).await;
    pool.update(Some("weights".into()), PolicyVersion(1), PauseMode::Keep).await.unwrap();
    assert_eq!(pool.status().replicas[0].standing, Standing::Untrusted);
    for id in 0..10 {
        is_whole(&pool.generate(request(id, 2, Deliver::Whole)).whole().await.unwrap(), 2);
    }
    assert_eq!((puppets[0].asked(), puppets[1].asked()), (0, 10));
    // It was started again: it gets the weights, and then requests.
    puppets[0].fails_updates.store(false, Ordering::Relaxed);
    *puppets[0].load.lock().unwrap() = load(2);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(pool.status().replicas[0].standing, Standing::Ready);
    let told = puppets[0].told.lock().unwrap().clone();
    assert!(told.contains(&Control::SetVersion(PolicyVersion(1))), "{told:?}");
    // None is left that has the weights.
    for puppet in &puppets {
        puppet.fails_updates.store(true, Ordering::Relaxed);
    }
    let failed = pool.update(Some("weights".into()), PolicyVersion(2), PauseMode::Keep).await;
    assert_eq!(failed.unwrap_err().kind, ErrorKind::Lost);
    let answer =
        timeout(Duration::from_mins(1), pool.generate(request(50, 2, Deliver::Whole)).whole());
    assert!(answer.await.unwrap().is_err(), "nobody samples from unknown weights");
}

#[tokio::test(start_paused = true)]
async fn one_that_was_lost_gets_the_weights_before_it_is_used() {
    let (pool, puppets) = pool(options(), 1);
    pool.update(Some("weights".into()), PolicyVersion(4), PauseMode::Keep).await.unwrap();
    puppets[0].told.lock().unwrap().clear();
    puppets[0].version.store(0, Ordering::Relaxed);
    puppets[0].will(&[Fault::LostAfter(3)]);
    let outcome = pool.generate(request(1, 10, Deliver::Streamed)).whole().await.unwrap();
    is_whole(&outcome, 10);
    let told = puppets[0].told.lock().unwrap().clone();
    assert_eq!(told[1], Control::LoadWeights { folder: "weights".into() });
    assert_eq!(told[2], Control::SetVersion(PolicyVersion(4)));
    assert_eq!(outcome.versions.last().map(|it| it.version.0), Some(4));
}
