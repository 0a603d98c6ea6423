//! The drawings, one a file.

mod comparison;
mod cost;
mod distribution;
mod latency;
mod shares;
mod throughput;
mod timeline;

pub(super) use self::{
    comparison::comparison, cost::cost, distribution::distribution, latency::latency,
    shares::shares, throughput::throughput, timeline::timelines,
};
