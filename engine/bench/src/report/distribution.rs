//! How long something took.

use serde::{Deserialize, Serialize};

/// Durations in milliseconds. All 0 and no buckets where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// How many there were.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// The shortest.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// The whole of it, in ascending order: at most a hundred or so buckets, each about a fortieth of a
    /// decade wide at the least.
    pub buckets: Vec<Bucket>,
}

/// How many took as long as this, and longer than the bucket before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// The longest that counts here, in milliseconds.
    pub up_to: f64,
    /// How many.
    pub count: u64,
}
