//! Generations that are held to a constraint are sampled from one beginning, or fail: half of a text is not
//! what the constraint begins with.

use std::sync::Arc;

use envmill_inference::{
    Constraint, Deliver, ErrorKind, Inference as _, Pool, PoolOptions, Request, Sampling,
};
use tokio::runtime;

use crate::puppet::{Fault, Handle, Puppet, request};

fn pool(fault: Fault) -> (Pool, Vec<Arc<Puppet>>) {
    let pool = Pool::new(PoolOptions::default(), runtime::Handle::current());
    let puppets: Vec<_> = (0..2).map(|_| Puppet::new()).collect();
    for (index, puppet) in puppets.iter().enumerate() {
        pool.add(format!("r{index}"), Arc::new(Handle(Arc::clone(puppet))));
    }
    puppets[0].will(&[fault]);
    (pool, puppets)
}

fn held(deliver: Deliver) -> Request {
    let sampling = Sampling { constraint: Some(Constraint::JsonObject), ..Sampling::default() };
    Request { sampling: Arc::new(sampling), ..request(1, 20, deliver) }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_seen_is_sampled_anew() {
    for fault in [Fault::LostAfter(7), Fault::AbortedAfter(7)] {
        let (pool, puppets) = pool(fault);
        let outcome = pool.generate(held(Deliver::Whole)).whole().await.unwrap();
        assert_eq!(outcome.token_ids, (10..30).collect::<Vec<_>>(), "{fault:?}");
        let asked = puppets.iter().flat_map(|it| it.requests.lock().unwrap().clone());
        let asked: Vec<_> = asked.map(|it| (it.prompt.len(), it.max_tokens)).collect();
        assert_eq!(asked, [(10, 20); 2], "{fault:?}");
        assert_eq!(pool.status().continued, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_on_does_not_go_on() {
    for (fault, kind) in
        [(Fault::LostAfter(7), ErrorKind::Lost), (Fault::AbortedAfter(7), ErrorKind::Busy)]
    {
        let (pool, _puppets) = pool(fault);
        let mut generation = pool.generate(held(Deliver::Streamed));
        let mut sampled = 0;
        let error = loop {
            match generation.next().await.unwrap() {
                Ok(chunk) => sampled += chunk.token_ids.len(),
                Err(error) => break error,
            }
        };
        assert_eq!((sampled, error.kind), (7, kind), "{error}");
    }
    // Before the first token nothing was begun.
    let (pool, _puppets) = pool(Fault::LostAfter(0));
    let outcome = pool.generate(held(Deliver::Streamed)).whole().await.unwrap();
    assert_eq!(outcome.token_ids.len(), 20);
}
