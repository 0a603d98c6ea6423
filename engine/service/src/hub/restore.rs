//! From the journal to a hub: what an earlier life of the engine has left is gone on with.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, mpsc::Receiver},
    thread,
    time::Instant,
};

use bytes::Bytes;
use envmill_core::{EpisodeSet, RecordedGroups};
use envmill_delivery::{Delivery, Ids, JobKey, Kind, StoredJob};
use envmill_protocol::EpisodeIndex;
use envmill_store::{Scribe, Store};
use envmill_wire as wire;
use prost::Message as _;

use super::{Address, Hub, Job, Offer, Rings, Word};
use crate::{
    JobPolicy, Order,
    begun::Begun,
    ledger::{Description, Ledger, NOTE, OpenGroups},
    metrics::Metrics,
    options::{ServiceOptions, StartError},
    request::Request,
    sampling::Sampling,
};

/// What a hub works with.
pub(crate) struct Means {
    pub(crate) store: Store,
    pub(crate) address: Address,
    pub(crate) rings: Rings,
    pub(crate) metrics: Metrics,
}

/// Starts a hub's thread.
pub(crate) fn start(hub: Hub, words: Receiver<Word>) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("hub".into()).spawn(move || hub.run(words))
}

/// A hub with everything that is in the store.
pub(crate) fn make(options: ServiceOptions, offer: Offer, means: Means) -> Result<Hub, StartError> {
    let Means { mut store, address, rings, metrics } = means;
    let stored = store.jobs().map_err(options.unusable())?;
    let (incarnation, next_job) = (store.incarnation(), store.new_job().0);
    let (mut described, mut restored) = (Vec::new(), Vec::new());
    for StoredJob { restored: job, description, notes } in stored {
        described.push((job.job, description, notes, job.row.has_ended));
        restored.push(job);
    }
    let delivery = Delivery::restore(options.delivery(), restored);
    let scribe = Scribe::start(store, move |news| address.tell(Word::Journal(news)))?;
    let Offer { environments, task_sets, scorers } = offer;
    let mut hub = Hub {
        options,
        task_sets,
        scorers,
        environments,
        delivery,
        scribe,
        writing: None,
        journal_failure: String::new(),
        next_job,
        incarnation,
        began: Instant::now(),
        jobs: BTreeMap::new(),
        ids: HashMap::new(),
        streams: HashMap::new(),
        consumers: HashMap::new(),
        rings,
        next_consumer: 0,
        promises: Vec::new(),
        written: Vec::new(),
        is_draining: false,
        metrics,
        told_at: Instant::now(),
    };
    for (key, description, notes, has_ended) in described {
        hub.take_up(key, description, &notes, has_ended)?;
    }
    Ok(hub)
}

impl Hub {
    /// Takes a new job on. Its key is its own for ever.
    pub(super) fn accept(&mut self, request: &Request) -> JobKey {
        let key = JobKey(self.next_job);
        self.next_job += 1;
        let name = if request.job.name.is_empty() { "job" } else { &request.job.name };
        let id = format!("{name}.{}", key.0);
        let description = Description { id: id.clone(), job: Some(request.job.clone()) };
        self.delivery.accept(key, request.terms, description.encode_to_vec().into());
        // The trainer's own first version is not announced to anybody: it is where the job begins.
        let _ = self.delivery.announce(key, super::account::delivered(request.version));
        if let (Some(weights), Some(environment)) =
            (request.weights(), self.environments.get(request.environment))
        {
            environment.player.order(key, Order::Weights(weights));
        }
        // Nothing is kept of it that could be damaged.
        let sampling = sampling(request, &BTreeMap::new()).unwrap_or_default();
        self.play(key, id, request, Kept { sampling, ..Kept::default() });
        key
    }

    /// Goes on with a job of an earlier life.
    fn take_up(
        &mut self,
        key: JobKey,
        description: Bytes,
        notes: &BTreeMap<String, Bytes>,
        has_ended: bool,
    ) -> Result<(), StartError> {
        let damaged = |what: &str| StartError::Damaged(format!("{what} of job {}", key.0));
        let Description { id, job } =
            Description::decode(description).map_err(|_| damaged("the description"))?;
        let job = job.ok_or_else(|| damaged("the request"))?;
        let ledger = match notes.get(NOTE) {
            Some(note) => Ledger::decode(note.clone()).map_err(|_| damaged("the ledger"))?,
            None => Ledger::default(),
        };
        let no_ids = Ids::default();
        let groups = self.delivery.recorded(key, Kind::Group).unwrap_or(&no_ids);
        let (open, mut recorded_groups) =
            OpenGroups::restored(notes, |group| groups.contains(group));
        recorded_groups.filtered.clone_from(&ledger.filtered);
        let mut recorded = EpisodeSet::default();
        for id in self.delivery.recorded(key, Kind::Trajectory).unwrap_or(&no_ids).iter() {
            recorded.insert(EpisodeIndex(id));
        }
        let is_recorded = |episode| recorded.contains(EpisodeIndex(episode));
        let begun =
            Begun::restored(notes, is_recorded).map_err(|_| damaged("the attempts that began"))?;
        let kept =
            Kept { ledger, open, begun, recorded, recorded_groups, has_ended, ..Kept::default() };
        match Request::read(job.clone(), &self.environments, &self.task_sets, &self.scorers) {
            Ok(request) => {
                let sampling =
                    sampling(&request, notes).map_err(|_| damaged("the tasks' account"))?;
                self.play(key, id, &request, Kept { sampling, ..kept });
            }
            Err(refusal) => {
                // Its records are still owed.
                tracing::error!(job = id, %refusal, "a job cannot be gone on with");
                self.owe(key, id, &job, kept);
            }
        }
        Ok(())
    }

    fn play(&mut self, key: JobKey, id: String, request: &Request, kept: Kept) {
        let policy = request.policy();
        let mut job = Job::new(key, id, request.shown(), &request.job);
        job.environment = Some(request.environment);
        job.members = request.members();
        job.has_groups = request.options.group.is_some();
        job.in_flight = request.in_flight;
        job.aborts = request.job.in_flight() == wire::InFlight::Resume;
        job.has_model = matches!(policy, JobPolicy::Model);
        if let JobPolicy::Trainer(desk) = &policy {
            job.desk = Some(desk.clone());
        }
        let mut options = request.options.clone();
        options.name.clone_from(&job.id);
        options.recorded = Arc::new(kept.recorded);
        options.recorded_groups = Arc::new(kept.recorded_groups);
        (job.ledger, job.open, job.begun) = (kept.ledger, kept.open, kept.begun);
        if let Some(sampling) = &kept.sampling {
            options.tasks = sampling.tasks();
        }
        job.sampling = kept.sampling;
        self.ids.insert(job.id.clone(), key);
        self.jobs.insert(key, job);
        if kept.has_ended {
            return;
        }
        if let Some(environment) = self.environments.get(request.environment) {
            environment.player.submit(key, options, policy, request.scorer());
            self.repeat_wishes(key);
        }
    }

    /// A job that nobody can play any more: what is owed of it still is.
    fn owe(&mut self, key: JobKey, id: String, job: &wire::SubmitJob, kept: Kept) {
        let shown = wire::SubmitJob { tasks: Vec::new(), ..job.clone() };
        let mut it = Job::new(key, id, shown, job);
        (it.ledger, it.open) = (kept.ledger, kept.open);
        self.ids.insert(it.id.clone(), key);
        self.jobs.insert(key, it);
    }
}

/// What is known of a job's earlier life.
#[derive(Debug, Default)]
struct Kept {
    ledger: Ledger,
    open: OpenGroups,
    begun: Begun,
    recorded: EpisodeSet,
    recorded_groups: RecordedGroups,
    sampling: Option<Sampling>,
    has_ended: bool,
}

/// Who draws a job's tasks, if the service does.
fn sampling(
    request: &Request,
    notes: &BTreeMap<String, Bytes>,
) -> Result<Option<Sampling>, prost::DecodeError> {
    let options = &request.options;
    let made = request
        .sampling
        .map(|how| Sampling::restored(options.tasks.clone(), options.seed, how, notes));
    made.transpose()
}
