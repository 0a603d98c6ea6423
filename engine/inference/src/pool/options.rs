//! How a pool of replicas is used.

use std::time::Duration;

/// How a [`Pool`](crate::Pool) uses its replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolOptions {
    /// At most so many requests are with one replica at once; more wait in the pool, and are counted as
    /// waiting. `None`: as many as the replica takes without a queue of its own growing, which is learned
    /// from what it says of its load ([`Inference::load`](crate::Inference::load)); one that says nothing
    /// gets all.
    pub in_flight_max: Option<u32>,
    /// A request is tried so often, at least 1, before its failure is told. Trying again never doubles a
    /// sample: what came of a failed try is kept and continued, or, where it came in no parts, was never
    /// seen by anybody.
    pub attempts: u32,
    /// A replica of which nothing comes for so long is silent, and the request is continued elsewhere. A
    /// request that is delivered whole has this much time for all of it. Longer than a pause for new
    /// weights.
    pub silence: Duration,
    /// A request waits so long for a replica that takes it. While all of them are lost, that counts from when
    /// the last of them was, so that an outage is waited out once and not by each request anew; and a request
    /// that comes later waits for `ejected_max`, in which each replica is tried again.
    pub patience: Duration,
    /// A request with a key goes where the last one of the same key went, because its beginning is cached
    /// there, unless that replica has over `spill_factor` times as many outstanding tokens as the least
    /// busy one, and `spill_tokens` more.
    pub spill_factor: f64,
    /// See [`spill_factor`](Self::spill_factor). Roughly what recomputing a prompt costs.
    pub spill_tokens: u64,
    /// Token ids are below this; a replica that sends another sends nonsense. `None`: unknown.
    pub vocabulary: Option<u32>,
    /// A replica that failed is left alone for this long at first, and twice as long each further time.
    pub ejected_min: Duration,
    /// And no longer than this.
    pub ejected_max: Duration,
    /// Replicas are asked for their load this often.
    pub load_interval: Duration,
}

impl Default for PoolOptions {
    /// For a handful of replicas on a quick network, and generations of seconds to minutes.
    fn default() -> Self {
        Self {
            in_flight_max: None,
            attempts: 4,
            silence: Duration::from_mins(10),
            patience: Duration::from_mins(5),
            spill_factor: 2.0,
            spill_tokens: 16_384,
            vocabulary: None,
            ejected_min: Duration::from_millis(250),
            ejected_max: Duration::from_secs(30),
            load_interval: Duration::from_secs(1),
        }
    }
}
