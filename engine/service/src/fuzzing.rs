//! What fuzz targets reach: a hub on a journal in memory, whose environment plays nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::mpsc,
    time::Duration,
};

use bytes::Bytes;
use envmill_core::{JobOptions, Scoring, Tasks};
use envmill_delivery::JobKey;
use envmill_store::{Medium, Store};
use envmill_wire::{self as wire, drive_response::Response};
use prost::Message as _;
use redb::backends::InMemoryBackend;

use crate::{
    Environment, JobPolicy, Order, Player, ServiceOptions, Snapshot,
    hub::{self, Address, Means, Offer, Rings, StreamId},
    metrics::Metrics,
    outflow,
    rings::Lobby,
};

/// The most requests of one input.
const REQUESTS_MAX: usize = 64;

/// Plays nothing.
struct Nobody;

impl Player for Nobody {
    fn submit(&self, _: JobKey, _: JobOptions, _: JobPolicy, _: Option<String>) {}

    fn order(&self, _: JobKey, _: Order) {}

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }
}

/// Takes any bytes for the length-delimited requests of two trainers' streams, the one with odd and the
/// other with even numbers: no request makes the hub panic, and each that has a number is answered
/// once, or its stream ends.
pub fn requests(mut bytes: &[u8]) {
    let open = || Box::new(InMemoryBackend::new()) as Box<dyn redb::StorageBackend>;
    let Ok(store) = Store::open(Medium::Backend(Box::new(move || open()))) else { return };
    let (sender, words) = mpsc::channel();
    let address = Address::new(sender);
    let environment = Environment {
        name: "e".into(),
        sessions_max: 4,
        steps_bytes_max: 1 << 30,
        defaults: JobOptions::default(),
        action_schema: Bytes::new(),
        is_harness: false,
        player: Box::new(Nobody),
    };
    let task_sets = BTreeMap::from([("t".to_owned(), Tasks::default())]);
    let options = ServiceOptions::new("");
    let scoring = Scoring::External { deadline: None, most: 4, whole_groups: false };
    let scorers = BTreeMap::from([("s".to_owned(), scoring)]);
    let offer = Offer { environments: vec![environment], task_sets, scorers };
    let rings = Rings::new(Lobby::default(), None, 0);
    let means = Means { store, address: address.clone(), rings, metrics: Metrics::default() };
    let made = hub::make(options, offer, means);
    let Ok(mut hub) = made else { return };
    let streams = [0, 1].map(StreamId);
    let mut outflows = streams.map(|stream| {
        let (outbox, outflow) = outflow::outflow(address.clone(), stream);
        hub.open(stream, outbox, false);
        outflow
    });
    let mut asked = HashMap::<u64, u32>::new();
    for _ in 0..REQUESTS_MAX {
        let Ok(request) = wire::DriveRequest::decode_length_delimited(&mut bytes) else { break };
        let stream = streams[(request.request_id % 2) as usize];
        if request.request_id != 0 && hub.is_open(stream) {
            *asked.entry(request.request_id).or_default() += 1;
        }
        hub.on_request(stream, request);
        hub.turn(&words, Duration::ZERO);
    }
    while hub.has_to_write() {
        hub.turn(&words, Duration::from_secs(10));
    }
    for (outflow, stream) in outflows.iter_mut().zip(streams) {
        let is_open = hub.is_open(stream);
        for response in outflow.drained() {
            let id = match response {
                Response::Done(it) => it.request_id,
                Response::Refused(it) => it.request_id,
                Response::Accepted(it) => it.request_id,
                _ => 0,
            };
            if let Some(left) = asked.get_mut(&id) {
                assert!(*left > 0, "request {id} is answered twice");
                *left -= 1;
            }
        }
        if !is_open {
            let its = |id: &u64| streams[(id % 2) as usize] == stream;
            asked.retain(|id, _| !its(id));
        }
    }
    assert!(asked.values().all(|left| *left == 0), "requests without an answer: {asked:?}");
}
