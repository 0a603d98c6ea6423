//! A pool whose replicas are given weights.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use envmill_inference::{
    Answer, Capabilities, Chunk, Control, Error, ErrorKind, Feed, Finish, Finished, Generation,
    Inference, Load, PauseMode, Pool, PoolOptions, Request, RequestId, TOP_LOGPROBS_MAX,
};
use envmill_protocol::PolicyVersion;
use tokio::{runtime::Handle, time::timeout};

use super::request;

const BOUND: Duration = Duration::from_secs(20);

/// Writes down what it is told, and answers a request when that is wished, or its end asked for.
#[derive(Default)]
struct Written {
    told: Mutex<Vec<String>>,
    asked: Mutex<Vec<(RequestId, Option<Feed>)>>,
    /// It cannot load weights.
    fails: bool,
}

impl Written {
    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until it has been asked so often.
    async fn asked(&self, count: usize) {
        let reached = async {
            while self.asked.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(BOUND, reached).await.expect("nothing is asked");
    }

    /// Ends its request of this number.
    fn end(&self, index: usize, finish: Finish) {
        let feed = self.asked.lock().unwrap()[index].1.take();
        if let Some(feed) = feed {
            feed.chunk(Chunk { finished: Some(Finished::new(finish)), ..Chunk::default() });
        }
    }
}

impl Inference for Written {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            token_ids: true,
            streaming: true,
            version_spans: true,
            stop_strings: true,
            control: true,
            top_logprobs: TOP_LOGPROBS_MAX,
            constraints: true,
        }
    }

    fn generate(&self, request: Request) -> Generation {
        let (feed, generation) = Generation::new();
        self.asked.lock().unwrap().push((request.id, Some(feed)));
        generation
    }

    fn abort(&self, requests: &[RequestId]) {
        let found: Vec<usize> = {
            let asked = self.asked.lock().unwrap();
            let is_meant = |it: &usize| requests.contains(&asked[*it].0);
            (0..asked.len()).filter(is_meant).collect()
        };
        for index in found {
            self.end(index, Finish::Aborted);
        }
    }

    fn control(&self, control: Control) -> Answer<'_, ()> {
        Box::pin(async move {
            let word = match control {
                Control::Pause(mode) => format!("pause {mode:?}"),
                Control::Resume => "resume".to_owned(),
                Control::SetVersion(version) => format!("version {}", version.0),
                Control::LoadWeights { .. } if self.fails => {
                    return Err(Error::new(ErrorKind::Lost, "no such weights"));
                }
                Control::LoadWeights { folder } => format!("load {}", folder.display()),
            };
            // Another update would have its chance here.
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.told.lock().unwrap().push(word);
            Ok(())
        })
    }

    fn load(&self) -> Answer<'_, Option<Load>> {
        Box::pin(async { Ok(None) })
    }
}

fn pool(replicas: &[(&str, &Arc<Written>)]) -> Pool {
    let pool = Pool::new(PoolOptions::default(), Handle::current());
    for (name, replica) in replicas {
        pool.add(*name, Arc::<Written>::clone(replica));
    }
    pool
}

fn weights(folder: &str) -> Option<PathBuf> {
    Some(PathBuf::from(folder))
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_done_in_the_order_of_their_calls() {
    let replica = Arc::<Written>::default();
    let pool = pool(&[("only", &replica)]);
    let first = pool.update(weights("/1"), PolicyVersion(1), PauseMode::Keep);
    let second = pool.update(weights("/2"), PolicyVersion(2), PauseMode::Abort);
    // Whoever is looked at first.
    let second = tokio::spawn(second);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(replica.told().is_empty(), "{:?}", replica.told());
    first.await.unwrap();
    timeout(BOUND, second).await.unwrap().unwrap().unwrap();
    let told = ["pause Keep", "load /1", "version 1", "resume"];
    assert_eq!(replica.told()[..4], told);
    assert_eq!(replica.told()[4..], ["pause Abort", "load /2", "version 2", "resume"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_is_given_up_holds_up_no_other() {
    let replica = Arc::<Written>::default();
    let pool = pool(&[("only", &replica)]);
    drop(pool.update(weights("/1"), PolicyVersion(1), PauseMode::Keep));
    let second = pool.update(weights("/2"), PolicyVersion(2), PauseMode::Keep);
    timeout(BOUND, second).await.unwrap().unwrap();
    assert_eq!(replica.told(), ["pause Keep", "load /2", "version 2", "resume"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_has_whose_update_fails_goes_on_elsewhere() {
    let failing = Arc::new(Written { fails: true, ..Written::default() });
    let other = Arc::<Written>::default();
    let pool = pool(&[("failing", &failing), ("other", &other)]);
    let mut generation = pool.generate(request(1, &[7; 4], 8));
    failing.asked(1).await;
    pool.update(weights("/1"), PolicyVersion(1), PauseMode::Keep).await.unwrap();
    other.asked(1).await;
    other.end(0, Finish::EndOfTurn);
    let chunk = timeout(BOUND, generation.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(chunk.finished.unwrap().finish, Finish::EndOfTurn);
    assert_eq!(failing.told(), ["pause Keep"], "it stays paused");
}
